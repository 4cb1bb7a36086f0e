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
}

// Sluice is the role of our own proxy: one workload of a real proxy.Proxy, whose
// captured listeners stand on the synthetic address of load.Host. It ends with
// its input.
func Sluice(ca, profile string, in io.Reader, out io.Writer) error {
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
	addresses, err := table.Tell(host, dnsserver.Exactly)
	if err != nil {
		return err
	}
	at := listening{Plain: netip.AddrPortFrom(addresses.V4, 80).String(), TLS: netip.AddrPortFrom(addresses.V4, 443).String()}
	captured := new(capture.Capture)
	for _, address := range []string{at.Plain, at.TLS} {
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
			Ports: []policy.Port{{Port: 80, Protocol: policy.ProtocolHTTP}, {Port: 443, Protocol: policy.ProtocolHTTPS}},
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
