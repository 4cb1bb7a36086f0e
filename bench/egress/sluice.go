package egress

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"syscall"
	"time"

	"sluice.dev/sluice/bench/load"
	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy"
	"sluice.dev/sluice/internal/proxy/dnsserver"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/wire"
)

// listening is what the Sluice role says when it serves.
type listening struct {
	Plain string `json:"plain"`
	TLS   string `json:"tls"`
	// Through is where TLS is passed on.
	Through string `json:"through"`
}

// Sluice is the role of our own proxy: one workload of a real proxy.Proxy, whose
// captured listeners stand on the synthetic address of load.Host, which is another for
// each number. It ends with its input.
func Sluice(ca, profile, number string, in io.Reader, out io.Writer) error {
	if profile != "" {
		signal.Ignore(syscall.SIGTERM) // the profile is written when the input ends
		stop, err := startProfile(filepath.Join(profile, "sluice.pprof"))
		if err != nil {
			return err
		}
		defer stop()
	}
	roots, err := readRoots(ca)
	if err != nil {
		return err
	}
	resolver := resolve.NewResolver(resolve.ResolverConfig{Sockets: capture.Host{}, Servers: []netip.AddrPort{netip.MustParseAddrPort(resolverAddr)}})
	defer resolver.Close()
	p, err := proxy.New(proxy.Config{Sockets: capture.Host{}, Resolver: resolver, Records: record.NewBook(record.NewRing()), UpstreamRoots: roots})
	if err != nil {
		return err
	}
	defer p.Close()
	table := dnsserver.NewTable(dnsserver.TableConfig{})
	host, err := names.Parse(load.Host)
	if err != nil {
		return err
	}
	if err := skipAddresses(table, number); err != nil {
		return err
	}
	addresses, err := table.Tell(host, dnsserver.Exactly)
	if err != nil {
		return err
	}
	on := func(port uint16) string { return netip.AddrPortFrom(addresses.V4, port).String() }
	at := listening{Plain: on(80), TLS: on(443), Through: on(throughPort)}
	captured := new(capture.Capture)
	for _, address := range []string{at.Plain, at.TLS, at.Through} {
		l, err := listen(address)
		if err != nil {
			return errors.Join(err, captured.Close())
		}
		captured.TCP = append(captured.TCP, l)
	}
	holder, err := newHolder()
	if err != nil {
		return errors.Join(err, captured.Close())
	}
	if _, err := p.Attach(context.Background(), proxy.WorkloadConfig{
		Workload: wire.Workload{Instance: "load-v1/1", Service: "load", Version: "v1", Namespace: wire.DefaultNamespace},
		Capture:  captured, Holder: holder, Names: table,
	}); err != nil {
		return errors.Join(err, captured.Close())
	}
	if err := json.NewEncoder(out).Encode(at); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

// skipAddresses takes as many of the table's addresses, which it gives out in turn.
func skipAddresses(table *dnsserver.Table, number string) error {
	n, err := strconv.Atoi(number)
	for i := 0; i < n && err == nil; i++ {
		var name names.Name
		if name, err = names.Parse(fmt.Sprintf("skipped-%d.example.com", i)); err == nil {
			_, err = table.Tell(name, dnsserver.Exactly)
		}
	}
	return err
}

// newHolder holds a snapshot of ruleCount rules, one name each.
func newHolder() (*snapshot.Holder, error) {
	var rules []policy.Rule
	for i, name := range allowedNames() {
		pattern, err := names.ParsePattern(name)
		if err != nil {
			return nil, err
		}
		rules = append(rules, policy.Rule{
			ID: fmt.Sprintf("egress-rule/default/rule-%d", i), Hosts: []names.Pattern{pattern},
			Ports: []policy.Port{{Port: 80, Protocol: policy.ProtocolHTTP}, {Port: 443, Protocol: policy.ProtocolHTTPS}, {Port: throughPort, Protocol: policy.ProtocolTLS}},
		})
	}
	built, err := snapshot.Build(&wire.Snapshot{
		Version: "bench", Created: time.Now(),
		Mesh:     &wire.Mesh{OutboundDefault: "Deny", MaxStale: 24 * time.Hour},
		Policies: []*wire.Policy{{Rules: rules}}, Routes: &wire.Routes{}, Directory: &wire.Directory{Domain: "cluster.local"},
	}, snapshot.View{Namespace: wire.DefaultNamespace})
	if err != nil {
		return nil, err
	}
	holder := snapshot.NewHolder(snapshot.HolderConfig{})
	holder.Swap(built)
	return holder, nil
}

func readRoots(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}

// Pull is the role of the load of TLS that is passed on.
func Pull(ca string, in io.Reader, out io.Writer) error {
	roots, err := readRoots(ca)
	if err != nil {
		return err
	}
	return load.ObeyPulls(roots, in, out)
}

func startProfile(file string) (stop func(), err error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}
