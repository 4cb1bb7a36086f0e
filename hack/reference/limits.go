package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// limited is a package whose bounds are listed.
type limited struct{ title, folder string }

// limitedPackages, in the order of a connection's way and then of a rule's.
var limitedPackages = []limited{
	{"Capturing connections and questions", "internal/capture"},
	{"Sandboxes", "internal/sandbox"},
	{"Deciding over unix sockets in a sandbox", "internal/sandbox/supervise"},
	{"Handing a sandbox to the resident proxy", "internal/attach"},
	{"Messages between the two", "internal/capture/seqpacket"},
	{"One proxy", "internal/proxy"},
	{"Live connections", "internal/proxy/gate"},
	{"What workloads share", "internal/proxy/share"},
	{"Carrying connections", "internal/proxy/carry"},
	{"Asking the user", "internal/asking"},
	{"The way in from outside", "internal/proxy/ingress"},
	{"The way out", "internal/proxy/egress"},
	{"The proxy's process", "cmd/sluice-proxy"},
	{"DNS for workloads", "internal/proxy/dnsserver"},
	{"The first bytes of a connection", "internal/proxy/sniff"},
	{"Names", "internal/names"},
	{"Paths that rules list", "internal/httppath"},
	{"Deciding", "internal/policy"},
	{"Routing", "internal/route"},
	{"Resolving and connecting", "internal/proxy/resolve"},
	{"Leaving through a proxy", "internal/proxy/tunnel"},
	{"Proving a server before TLS is passed through", "internal/proxy/proof"},
	{"One HTTP exchange", "internal/proxy/exchange"},
	{"HTTP/1.1", "internal/proxy/http1"},
	{"HTTP/2", "internal/proxy/http2"},
	{"Pools of a workload", "internal/proxy/pools"},
	{"Connections to upstreams", "internal/proxy/upstream"},
	{"Relaying bytes", "internal/proxy/relay"},
	{"Snapshots in the proxy", "internal/proxy/snapshot"},
	{"Flows", "internal/record"},
	{"Metrics", "internal/telemetry/metrics"},
	{"The access log", "internal/telemetry/accesslog"},
	{"Sending to a collector", "internal/telemetry/otlp"},
	{"The ports of metrics and health", "internal/telemetry/endpoint"},
	{"Files and objects", "api"},
	{"Values of our own kinds", "api/v1alpha1"},
	{"The command line's requests", "internal/rest"},
	{"sluice run", "internal/report"},
	{"Hidden files", "internal/hidden"},
	{"sluice demo", "internal/demo"},
	{"sluice why", "internal/advice"},
	{"The rules' API and store", "internal/control/kubeapi"},
	{"Workloads that joined", "internal/control/registry"},
	{"Compiling", "internal/control/compile"},
	{"Bringing snapshots to proxies", "internal/control/push"},
	{"The stream between server and proxy", "internal/wire/stream"},
	{"What crosses the stream", "internal/wire"},
	{"The server", "internal/control/server"},
	{"The server's process", "cmd/sluice-server"},
	{"Asking the server", "internal/control/inspect"},
	{"Folders and sockets", "internal/paths"},
}

// Constants with a number that bounds nothing: values of protocols, layouts,
// descriptors, exit statuses, and formats of messages and files.
var (
	isFormat = regexp.MustCompile(`(^|[a-z])[fF]ormat$`)
	noBounds = regexp.MustCompile(`^(Values of|Classes of|Offsets in|The bits of|Exit statuses)`)
	noBound  = map[string]bool{
		"internal/capture.ListenPort": true, "internal/capture.dnsPort": true, "internal/capture.HeldMark": true,
		"internal/sandbox.controlFD": true, "internal/sandbox.exitInit": true, "internal/sandbox.foreignNumbers": true,
		"internal/sandbox.ofType": true, "internal/sandbox.unshareFlags": true, "internal/sandbox.openTreeFlags": true, "internal/sandbox.fsmountFlags": true, "internal/sandbox/supervise.siocUnixFile": true, "internal/sandbox/supervise.pidfdThread": true,
		"internal/sandbox/supervise.fileRights": true, "internal/sandbox/supervise.restart": true, "internal/sandbox/supervise.unchanged": true,
		"internal/proxy/dnsserver.headerSize": true, "internal/proxy/dnsserver.recordSize": true,
		"internal/proxy/resolve.dnsPort": true,
	}
)

// limit is one line of the page.
type limit struct{ name, value, text string }

func writeLimits(b *bytes.Buffer, s sources) error {
	b.WriteString(`# Limits

Every time-out, bound and default, from the constants of the source. What happens at a bound is
said beside it. Where a flag or a field of a kind sets a value, the [commands](commands.md) and
[kinds](kinds.md) say so; the rest is fixed.
`)
	r := newReader(s.root)
	for _, listed := range limitedPackages {
		source, err := r.load(listed.folder)
		if err != nil {
			return err
		}
		limits := append(fieldLimits(source), constantLimits(source)...)
		if len(limits) == 0 {
			return fmt.Errorf("%s has no bound: take it off the list of packages", listed.folder)
		}
		fmt.Fprintf(b, "\n## %s\n\n`%s`\n\n", listed.title, listed.folder)
		var rows [][]string
		for _, l := range limits {
			rows = append(rows, []string{code(l.name), l.value, cell(l.text)})
		}
		table(b, []string{"name", "value", ""}, rows)
	}
	return nil
}

// constantLimits are the constants of a package that bound something.
func constantLimits(s *source) []limit {
	var list []limit
	for _, c := range s.constants() {
		text := c.comment
		if text == "" {
			text = c.group
		}
		value := c.object.Val()
		if value.Kind() != constant.Int || text == "" || noBounds.MatchString(c.group) || noBound[s.path+"."+c.name] || isFormat.MatchString(c.name) {
			continue
		}
		n, exact := constant.Int64Val(value)
		if !exact || n <= 0 {
			continue
		}
		switch c.object.Type().String() {
		case "time.Duration":
			list = append(list, limit{c.name, durationText(time.Duration(n)), text})
		case "untyped int", "int", "int64":
			list = append(list, limit{c.name, numberText(n, c.name, text+" "+c.group), text})
		}
	}
	return list
}

var defaultIs = regexp.MustCompile(`(?i)default (\d[\d,]*(?: (?:KiB|MiB|ms|s|min|h))?)`)

// fieldLimits are the fields of a struct Limits, whose comments say the defaults.
func fieldLimits(s *source) []limit {
	var list []limit
	for _, file := range s.files {
		for _, d := range file.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.TYPE {
				continue
			}
			for _, each := range decl.Specs {
				spec := each.(*ast.TypeSpec)
				fields, ok := spec.Type.(*ast.StructType)
				if !ok || spec.Name.Name != "Limits" {
					continue
				}
				for _, f := range fields.Fields.List {
					text := words(f.Doc)
					if text == "" {
						text = words(f.Comment)
					}
					value := ""
					if m := defaultIs.FindStringSubmatch(text); m != nil {
						value = m[1]
					}
					for _, name := range f.Names {
						list = append(list, limit{name.Name, value, text})
					}
				}
			}
		}
	}
	return list
}

// durationText is "250 ms", "10 s", "5 min", "24 h" or "30 d".
func durationText(d time.Duration) string {
	units := []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "µs"}}
	i := slices.IndexFunc(units, func(u struct {
		of   time.Duration
		name string
	}) bool {
		return d%u.of == 0 && (d/u.of > 1 || u.name != "d")
	})
	if i < 0 {
		return d.String()
	}
	return fmt.Sprintf("%d %s", d/units[i].of, units[i].name)
}

var inBytes = regexp.MustCompile(`(?i)bytes?\b|\bJSON of`)

// numberText is a number, or a size where its name or text speaks of bytes.
func numberText(n int64, name, text string) string {
	size := strings.HasSuffix(name, "Size") && !strings.Contains(text, "how many")
	if size || strings.HasSuffix(name, "Bytes") || inBytes.MatchString(text) {
		switch {
		case n >= 1<<20 && n%(1<<20) == 0:
			return fmt.Sprintf("%d MiB", n>>20)
		case n >= 1<<10 && n%(1<<10) == 0:
			return fmt.Sprintf("%d KiB", n>>10)
		}
	}
	digits := strconv.FormatInt(n, 10)
	var parts []string
	for len(digits) > 3 {
		parts = append([]string{digits[len(digits)-3:]}, parts...)
		digits = digits[:len(digits)-3]
	}
	return strings.Join(append([]string{digits}, parts...), ",")
}
