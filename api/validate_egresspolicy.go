package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/addresses"
	"sluice.dev/sluice/internal/httppath"
	"sluice.dev/sluice/internal/names"
)

// Bounds of an EgressPolicy.
const (
	maxHosts   = 1000
	maxCIDRs   = 1000
	maxPorts   = 64
	maxMatches = 64
	maxWords   = 256 // methods, paths or upgrades of one match, accounts of one selector
	maxUpgrade = 64
)

func (v *validation) egressPolicy(spec *v1alpha1.EgressPolicySpec) {
	v.from(spec.From)
	v.hosts(spec.To.Hosts)
	v.cidrs("spec.to.cidrs", spec.To.CIDRs)
	if len(spec.To.Hosts) == 0 && len(spec.To.CIDRs) == 0 {
		v.fail("spec.to", "must list hosts, cidrs or both")
	}
	v.egressPorts(spec)
	v.cidrs("spec.privateAnswers", spec.PrivateAnswers)
	if len(spec.PrivateAnswers) > 0 && len(spec.To.Hosts) == 0 {
		v.fail("spec.privateAnswers", "says where the names under to.hosts may lead, and there are none (cidrs are consent for their own addresses)")
	}
	if spec.TLS != nil {
		v.egressTLS(spec)
	}
	v.requests(spec)
	v.newNames(spec)
	if spec.Telemetry != nil && spec.Telemetry.Propagate && !slices.ContainsFunc(spec.To.Ports, func(p v1alpha1.EgressPort) bool {
		return takesPlainHTTP(p.Protocol) || p.Protocol == v1alpha1.ProtocolHTTPS
	}) {
		v.fail("spec.telemetry.propagate", "has no effect: no port of spec.to.ports is http, http2, grpc or https, where requests are seen")
	}
}

// newNames checks the rate of names that a wildcard alone allows.
func (v *validation) newNames(spec *v1alpha1.EgressPolicySpec) {
	const field = "spec.maxNewNamesPerMinute"
	wildcard := func(host string) bool { return strings.HasPrefix(host, "*") }
	switch n := spec.MaxNewNamesPerMinute; {
	case n == 0:
	case n < 0 || n > v1alpha1.MostNewNamesPerMinute:
		v.fail(field, "must be from 1 to %d", v1alpha1.MostNewNamesPerMinute)
	case !slices.ContainsFunc(spec.To.Hosts, wildcard):
		v.fail(field, "bounds the names that a wildcard allows, and spec.to.hosts has none")
	}
}

func (v *validation) from(from *v1alpha1.WorkloadSelector) {
	if from == nil {
		return
	}
	v.labels("spec.from.labels", from.Labels)
	if len(from.ServiceAccounts) > maxWords {
		v.fail("spec.from.serviceAccounts", "more than %d accounts", maxWords)
		return
	}
	for i, account := range from.ServiceAccounts {
		if !isDNSName(account) {
			v.fail(fmt.Sprintf("spec.from.serviceAccounts[%d]", i), "%q is not a service account's name", account)
		}
	}
}

func (v *validation) hosts(hosts []string) {
	if len(hosts) > maxHosts {
		v.fail("spec.to.hosts", "more than %d hosts", maxHosts)
		return
	}
	for i, host := range hosts {
		at := fmt.Sprintf("spec.to.hosts[%d]", i)
		v.failIf(at, egressHost(host))
		if slices.Index(hosts, host) < i {
			v.fail(at, "duplicate host: %s", host)
		}
	}
}

// protocols are those of a port, as they are written.
var protocols = []string{v1alpha1.ProtocolHTTP, v1alpha1.ProtocolHTTP2, v1alpha1.ProtocolGRPC, v1alpha1.ProtocolHTTPS, v1alpha1.ProtocolTLS, v1alpha1.ProtocolTCP, v1alpha1.ProtocolMongo}

// takesPlainHTTP reports whether requests in the clear, and nothing else, are taken on a port.
func takesPlainHTTP(protocol string) bool {
	return protocol == v1alpha1.ProtocolHTTP || speaksHTTP2(protocol)
}

// speaksHTTP2 reports whether a protocol is HTTP/2 whatever the client speaks.
func speaksHTTP2(protocol string) bool {
	return protocol == v1alpha1.ProtocolHTTP2 || protocol == v1alpha1.ProtocolGRPC
}

// hostInstead returns how a host that is refused is written, "" where that is not
// known.
func hostInstead(host string) string {
	if name, port, err := net.SplitHostPort(host); err == nil {
		if _, ok := names.ParsePort(port); ok {
			return fmt.Sprintf("%q, and %s under to.ports", name, port)
		}
	}
	wildcard, rest := "", host
	if after, ok := strings.CutPrefix(host, "*."); ok {
		wildcard, rest = "*.", after
	}
	if name, err := names.Parse(rest); err == nil {
		if _, err := names.ParsePattern(wildcard + name.String()); err == nil {
			return strconv.Quote(wildcard + name.String())
		}
	}
	return ""
}

// egressHost validates one host: a pattern, without those that can match no name.
func egressHost(host string) error {
	if _, rest, isURL := strings.Cut(host, "://"); isURL {
		if u, err := url.Parse(host); err == nil && u.Hostname() != "" {
			rest = u.Hostname()
		}
		return fmt.Errorf("%s is a URL: write its host, %q, and its port under to.ports", host, rest)
	}
	if strings.Contains(host, "/") {
		return fmt.Errorf("%s is not a host: list addresses and ranges under to.cidrs", host)
	}
	pattern, err := names.ParsePattern(host)
	if err != nil {
		if written := hostInstead(host); written != "" {
			return fmt.Errorf("%w: write %s", err, written)
		}
		return err
	}
	if _, isAddress := pattern.Addr(); isAddress {
		return fmt.Errorf("%s is an address: list it under to.cidrs", host)
	}
	if pattern.IsAny() {
		return nil
	}
	// The shortest name that the pattern could match.
	sample := host
	if suffix, wild := pattern.Suffix(); wild {
		sample = "a" + suffix
	}
	if _, err := names.Parse(sample); err != nil {
		var refusal *names.Error
		if errors.As(err, &refusal) {
			err = refusal.Why
		}
		return fmt.Errorf("%s can match no host name: %w", host, err)
	}
	return nil
}

func (v *validation) cidrs(path string, cidrs []string) {
	if len(cidrs) > maxCIDRs {
		v.fail(path, "more than %d ranges", maxCIDRs)
		return
	}
	for i, cidr := range cidrs {
		at := fmt.Sprintf("%s[%d]", path, i)
		_, err := addresses.ParseCIDR(cidr)
		v.failIf(at, err)
		if slices.Index(cidrs, cidr) < i {
			v.fail(at, "duplicate range: %s", cidr)
		}
	}
}

func (v *validation) egressPorts(spec *v1alpha1.EgressPolicySpec) {
	ports := spec.To.Ports
	switch {
	case len(ports) == 0:
		v.fail("spec.to.ports", "must list at least one port")
		return
	case len(ports) > maxPorts:
		v.fail("spec.to.ports", "more than %d ports", maxPorts)
		return
	}
	for i, port := range ports {
		at := fmt.Sprintf("spec.to.ports[%d]", i)
		same := func(p v1alpha1.EgressPort) bool { return p.Port == port.Port && p.Protocol == port.Protocol }
		if v.portNumber(at+".port", port.Port) && slices.IndexFunc(ports, same) < i {
			v.fail(at, "duplicate port: %d %s", port.Port, port.Protocol)
		}
		other := func(p v1alpha1.EgressPort) bool {
			return p.Port == port.Port && takesPlainHTTP(p.Protocol) && speaksHTTP2(p.Protocol) != speaksHTTP2(port.Protocol)
		}
		if first := slices.IndexFunc(ports, other); takesPlainHTTP(port.Protocol) && first >= 0 && first < i {
			v.fail(at+".protocol", "port %d is %s already (spec.to.ports[%d]): every request in the clear is taken there, and %s would never count", port.Port, ports[first].Protocol, first, port.Protocol)
		}
		v.idleTimeout(at+".idleTimeout", spec, &port)
		v.upstream(at+".upstream", spec, &port)
		switch port.Protocol {
		case v1alpha1.ProtocolTCP, v1alpha1.ProtocolMongo, v1alpha1.ProtocolHTTP, v1alpha1.ProtocolHTTP2, v1alpha1.ProtocolGRPC, v1alpha1.ProtocolHTTPS, v1alpha1.ProtocolTLS:
		case "udp", "quic":
			v.fail(at+".protocol", "protocol %s is not supported yet", port.Protocol)
		case "":
			v.fail(at+".protocol", "is missing: one of %s", strings.Join(protocols, ", "))
		default:
			hint := ""
			if lower := strings.ToLower(port.Protocol); lower != port.Protocol && slices.Contains(protocols, lower) {
				hint = ": write " + lower
			}
			v.fail(at+".protocol", "protocol %q is not one of %s%s", port.Protocol, strings.Join(protocols, ", "), hint)
		}
	}
}

// upstream validates where the requests of a port go outside.
func (v *validation) upstream(at string, spec *v1alpha1.EgressPolicySpec, port *v1alpha1.EgressPort) {
	up := port.Upstream
	if up == nil {
		return
	}
	v.portNumber(at+".port", up.Port)
	switch {
	case !takesPlainHTTP(port.Protocol):
		v.fail(at, "is for ports of protocol http, http2 or grpc, on which each request is read; what is said on %s port %d goes to that port", port.Protocol, port.Port)
	case port.Protocol == v1alpha1.ProtocolHTTP && up.Protocol != v1alpha1.ProtocolHTTP && up.Protocol != v1alpha1.ProtocolHTTPS:
		v.fail(at+".protocol", "protocol %q is not one of http, https", up.Protocol)
	case speaksHTTP2(port.Protocol) && !speaksHTTP2(up.Protocol) && up.Protocol != v1alpha1.ProtocolHTTPS:
		v.fail(at+".protocol", "protocol %q is not one of http2, grpc, https: on %s port %d the server is spoken to in HTTP/2", up.Protocol, port.Protocol, port.Port)
	case up.Protocol == v1alpha1.ProtocolHTTPS && spec.TLSMode() == v1alpha1.ModePassthrough:
		v.fail(at+".protocol", "https is TLS that Sluice originates, and in tls.mode Passthrough it originates none")
	}
}

// originates reports whether requests of some port leave by TLS of ours.
func originates(spec *v1alpha1.EgressPolicySpec) bool {
	return slices.ContainsFunc(spec.To.Ports, func(p v1alpha1.EgressPort) bool {
		return p.Protocol == v1alpha1.ProtocolHTTPS || p.Upstream != nil && p.Upstream.Protocol == v1alpha1.ProtocolHTTPS
	})
}

// idleTimeout validates that of a port, and that bytes are carried there.
func (v *validation) idleTimeout(path string, spec *v1alpha1.EgressPolicySpec, port *v1alpha1.EgressPort) {
	_, err := port.IdleAfter()
	switch {
	case err != nil:
		v.fail(path, "%v", err)
	case port.IdleTimeout == "":
	case takesPlainHTTP(port.Protocol):
		v.fail(path, "is for connections whose bytes are carried as they are; on %s port %d requests are read", port.Protocol, port.Port)
	case port.Protocol == v1alpha1.ProtocolHTTPS && spec.TLSMode() == v1alpha1.ModeOriginate:
		v.fail(path, "is for connections whose bytes are carried as they are; on https port %d with tls.mode Originate requests are read", port.Port)
	}
}

func (v *validation) egressTLS(spec *v1alpha1.EgressPolicySpec) {
	tls := spec.TLS
	hasPort := func(protocol string) bool {
		return slices.ContainsFunc(spec.To.Ports, func(p v1alpha1.EgressPort) bool { return p.Protocol == protocol })
	}
	https := originates(spec)
	switch mode := spec.TLSMode(); mode {
	case v1alpha1.ModeAuto, v1alpha1.ModePassthrough:
		if !https && !hasPort(v1alpha1.ProtocolTLS) && len(spec.To.Ports) > 0 {
			v.fail("spec.tls", "needs an https or tls port: on the ports here no TLS is looked at")
		}
	case v1alpha1.ModeOriginate:
		if !https && len(spec.To.Ports) > 0 {
			v.fail("spec.tls.mode", "mode Originate needs an https port: it turns plain HTTP into HTTPS")
		}
		if hasPort(v1alpha1.ProtocolTLS) {
			v.fail("spec.tls.mode", "mode Originate does not go with a tls port, on which the workload does TLS itself")
		}
	case v1alpha1.ModeIntercept:
		v.fail("spec.tls.mode", "mode Intercept is not supported yet")
	default:
		v.fail("spec.tls.mode", "mode %q is not one of Auto, Originate, Passthrough", mode)
	}
	if tls.CABundle != "" {
		v.failIf("spec.tls.caBundle", certificates(tls.CABundle))
	}
	if tls.ServerName != "" {
		if _, err := names.Parse(tls.ServerName); err != nil {
			v.fail("spec.tls.serverName", "%v", err)
		}
		v.originated(spec, https, "spec.tls.serverName", "is sent")
	}
	if tls.MinVersion != "" {
		if tls.MinVersion != v1alpha1.TLS12 && tls.MinVersion != v1alpha1.TLS13 {
			v.fail("spec.tls.minVersion", "%q is not one of \"1.2\", \"1.3\"", tls.MinVersion)
		}
		v.originated(spec, https, "spec.tls.minVersion", "holds")
	}
	if certificate := tls.ClientCertificate; certificate != nil {
		const at = "spec.tls.clientCertificate"
		v.failIf(at+".certFile", clientFile(certificate.CertFile))
		v.failIf(at+".keyFile", clientFile(certificate.KeyFile))
		v.originated(spec, https, at, "is shown")
	}
}

// originated fails for a field that is about TLS of ours, where there can be none.
func (v *validation) originated(spec *v1alpha1.EgressPolicySpec, https bool, at, does string) {
	switch {
	case spec.TLSMode() == v1alpha1.ModePassthrough:
		v.fail(at, "%s where Sluice originates TLS; in mode Passthrough the workload's own TLS is passed on", does)
	case !https && len(spec.To.Ports) > 0:
		v.fail(at, "%s where Sluice originates TLS, and that needs an https port", does)
	}
}

// maxClientFile bounds the path of a file of a client certificate, in bytes.
const maxClientFile = 256

// clientFile validates the path of a file below the folder of the rule's namespace.
func clientFile(path string) error {
	switch {
	case path == "":
		return errors.New("is missing")
	case len(path) > maxClientFile:
		return fmt.Errorf("is longer than %d bytes", maxClientFile)
	case !fs.ValidPath(path) || path == "." || strings.ContainsAny(path, "\\\x00"):
		return fmt.Errorf("%q is not a path below the folder of the rule's namespace: it must neither begin with / nor hold . or .. as an element", path)
	}
	return nil
}

// methodToken is a method (RFC 9110 section 9.1) without lower-case letters,
// which no method of the registry has and a mistake mostly is.
var methodToken = lazily("^[-!#$%&'*+.^_`|~0-9A-Z]+$")

// requests validates the requests that are allowed, and that they can be seen.
func (v *validation) requests(spec *v1alpha1.EgressPolicySpec) {
	if len(spec.HTTP) == 0 {
		return
	}
	if len(spec.HTTP) > maxMatches {
		v.fail("spec.http", "more than %d matches", maxMatches)
		return
	}
	for _, port := range spec.To.Ports {
		switch {
		case port.Protocol == v1alpha1.ProtocolHTTPS && spec.TLSMode() != v1alpha1.ModeOriginate:
			v.fail("spec.http", "on https port %d needs tls.mode Originate: TLS that is passed through (mode %s) hides method and path", port.Port, spec.TLSMode())
		case port.Protocol == v1alpha1.ProtocolTLS:
			v.fail("spec.http", "cannot be held on tls port %d: TLS that is passed through hides method and path", port.Port)
		case port.Protocol == v1alpha1.ProtocolTCP, port.Protocol == v1alpha1.ProtocolMongo:
			v.fail("spec.http", "cannot be held on %s port %d: no request is read there", port.Protocol, port.Port)
		}
	}
	for i, match := range spec.HTTP {
		at := fmt.Sprintf("spec.http[%d]", i)
		if len(match.Methods) == 0 && len(match.Paths) == 0 {
			v.fail(at, "names neither methods nor paths, which allows any request and any upgrade: leave http out for that")
		}
		if len(match.Methods) > maxWords || len(match.Paths) > maxWords || len(match.Upgrades) > maxWords {
			v.fail(at, "more than %d methods, paths or upgrades", maxWords)
			continue
		}
		for j, method := range match.Methods {
			if !methodToken().MatchString(method) {
				v.fail(fmt.Sprintf("%s.methods[%d]", at, j), "%q is not a method in upper case", method)
			} else if method == "CONNECT" {
				v.fail(fmt.Sprintf("%s.methods[%d]", at, j), "method CONNECT is not supported yet")
			}
		}
		for j, path := range match.Paths {
			v.failIf(fmt.Sprintf("%s.paths[%d]", at, j), httppath.CheckPattern(path))
		}
		v.upgrades(at, match.Upgrades)
	}
}

// upgradeToken is one protocol of an Upgrade field: a name and, behind a slash, a
// version (RFC 9110 section 7.8).
var upgradeToken = lazily("^[-!#$%&'*+.^_`|~0-9A-Za-z]+(/[-!#$%&'*+.^_`|~0-9A-Za-z]+)?$")

// upgrades validates the protocols that a request may ask to change to.
func (v *validation) upgrades(path string, upgrades []string) {
	seen := make(map[string]bool, len(upgrades))
	for i, upgrade := range upgrades {
		at := fmt.Sprintf("%s.upgrades[%d]", path, i)
		lower := strings.ToLower(upgrade)
		name, _, _ := strings.Cut(lower, "/")
		switch {
		case len(upgrade) > maxUpgrade || !upgradeToken().MatchString(upgrade):
			v.fail(at, "%q is not a protocol of an Upgrade field, such as websocket, of at most %d bytes", upgrade, maxUpgrade)
		case name == "http", name == "h2", name == "h2c", name == "h3":
			v.fail(at, "%s would carry further requests past this rule: after the change to another version of HTTP no method and no path is seen", upgrade)
		case name == "tls":
			v.fail(at, "%s would hide further requests from this rule: after the change to TLS no method and no path is seen", upgrade)
		case seen[lower]:
			v.fail(at, "duplicate upgrade: %s", upgrade)
		}
		seen[lower] = true
	}
}
