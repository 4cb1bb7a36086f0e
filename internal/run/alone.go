package run

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy"
	"sluice.dev/sluice/internal/proxy/egress"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/tunnel"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/report"
	"sluice.dev/sluice/internal/rulefile"
	"sluice.dev/sluice/internal/wire"
)

// runAlone runs the command with a proxy of its own in this process.
func runAlone(ctx context.Context, c Config, w *watch) (int, error) {
	c.Workload.Instance = instanceName(c) // by which a service of its own knows it
	if c.Watch {
		files, err := follow(c.Rules.Files, c.workdir())
		if err != nil {
			return ExitFailed, err
		}
		defer files.close()
		c.Rules.Open, c.Mask = files.open, append(slices.Clone(c.Mask), files.folders()...)
		c.followed = files
	}
	if c.Certificates != "" {
		folder, err := hideable(c.Certificates, c.workdir())
		if err != nil {
			return ExitFailed, fmt.Errorf("--client-certificates: %w", err)
		}
		c.Certificates, c.Mask = folder, append(slices.Clone(c.Mask), folder)
	}
	if c.Ask {
		var err error
		if c.asks, err = newAsks(&c); err != nil {
			return ExitFailed, err
		}
		defer c.asks.end()
	}
	rules, compiled, err := c.compile()
	if err != nil {
		return ExitFailed, err
	}
	published, err := listen(c.Publish)
	if err != nil {
		return ExitFailed, err
	}
	defer closeAll(published)
	if c.asks != nil {
		if err := c.asks.takeTerminal(&c); err != nil {
			return ExitFailed, err
		}
		w.stderr = c.Stderr
	}
	if c.Via != nil && c.Via.file != "" {
		c.Mask = append(slices.Clone(c.Mask), c.Via.file)
	}
	box, err := open(ctx, c, w)
	if err != nil {
		return ExitFailed, err
	}
	defer box.Kill()
	files := box.Files()
	captured, err := capture.FromFiles(files)
	capture.CloseFiles(files)
	if err != nil {
		return ExitFailed, fmt.Errorf("take the sandbox's sockets: %w", err)
	}
	holder := snapshot.NewHolder(snapshot.HolderConfig{})
	holder.Swap(compiled)
	var each func(*record.Record) error
	if w.each() {
		each = func(r *record.Record) error { w.tell(r); return nil }
	}
	collected := report.NewCollector(each)
	p, err := newProxy(ctx, c, record.NewBook(collected))
	if err != nil {
		captured.Close()
		return ExitFailed, err
	}
	defer p.Close()
	workload := c.Workload
	workload.PID, workload.Level = box.PID(), box.Enforcement().Level
	workload.Unready = unready(box)
	joins := proxy.WorkloadConfig{Workload: workload, Capture: captured, Holder: holder}
	if c.asks != nil {
		c.asks.CloseCommand() // the sandbox has its own
		joins.Ask = c.asks.asker.Ask
	}
	attached, err := p.Attach(ctx, joins)
	if err != nil {
		captured.Close()
		return ExitFailed, err
	}
	for i, listener := range published {
		go attached.Publish(listener, c.Publish[i].Port, "--publish "+c.Publish[i].String())
	}
	go followPorts(box, func(unready []wire.Unready) error {
		attached.SetUnready(unready)
		return nil
	})
	sayLevel(c, box)
	w.start(c, workload.Instance, c.enforcement(box))
	collected.Begin()
	inForce := rules
	swap := func(rules *wire.Snapshot, compiled *snapshot.Snapshot) {
		inForce = rules
		holder.Swap(compiled)
	}
	if c.asks != nil {
		c.asks.begin(swap)
	}
	following := c.follow(ctx, swap)
	o := outcome{advise: func(r *record.Record) string { return allowAdvice(r, inForce, c.Workload) }}
	o.exit, o.failed = startAndWait(ctx, c.signals, box, compiled.Directory.SearchText(), nil, c.asks, w)
	following()
	if c.asks != nil {
		c.asks.end()
		c.asks.begin(nil) // an answer that comes now changes nothing
	}
	p.Close() // each connection has its record now
	o.reached = box.Reached()
	o.summary, o.dropped = collected.End(), collected.Dropped()
	if c.asks != nil {
		defer c.asks.sayUnkept(c.Stderr)
	}
	return w.finish(c, o)
}

// compile compiles the rules of a call.
func (c *Config) compile() (*wire.Snapshot, *snapshot.Snapshot, error) {
	rules, err := c.Rules.Compile(c.Workload, c.Stderr)
	if err != nil {
		return nil, nil, err
	}
	compiled, err := snapshot.Build(rules, snapshot.View{Namespace: cmp.Or(c.Workload.Namespace, wire.DefaultNamespace)})
	return rules, compiled, err
}

// follow calls swap with each new state of the rules that are followed, until what it
// returns is called. Rules that are wrong change nothing.
func (c *Config) follow(ctx context.Context, swap func(*wire.Snapshot, *snapshot.Snapshot)) (stop func()) {
	if c.followed == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		c.followed.each(ctx, func() {
			if c.asks != nil { // which compiles too
				c.asks.mu.Lock()
				defer c.asks.mu.Unlock()
			}
			rules, compiled, err := c.compile()
			if err != nil {
				fmt.Fprintf(c.Stderr, "sluice: the changed rules are wrong, so the previous ones stay in force: %v\n", err)
				return
			}
			swap(rules, compiled)
			if c.Verbose {
				fmt.Fprintln(c.Stderr, "sluice: the changed rules are in force")
			}
		})
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// newProxy makes the proxy of this process, which keeps records.
func newProxy(ctx context.Context, c Config, records proxy.Records) (*proxy.Proxy, error) {
	var sockets capture.Sockets = capture.Host{}
	if c.EgressSockets != "" {
		factory, err := capture.DialFactory(ctx, c.EgressSockets)
		if err != nil {
			return nil, fmt.Errorf("reach --egress-sockets: %w", err)
		}
		sockets = factory
	}
	known := make(map[names.Name][]netip.Addr)
	if len(c.Rules.Host) > 0 {
		known[rulefile.HostName] = rulefile.HostAddresses()
	}
	resolver := resolve.NewResolver(resolve.ResolverConfig{Sockets: sockets, Lookups: resolve.LookupsOf(proxy.Descriptors()), Servers: c.Resolvers, Known: known})
	roots, err := UpstreamRoots(c.UpstreamCA)
	if err != nil {
		return nil, err
	}
	certificates, err := ClientCertificates(c.Certificates)
	if err != nil {
		return nil, err
	}
	var via *tunnel.Proxy
	if c.Via != nil {
		if via, err = c.Via.proxy(&c, sockets, resolver, roots); err != nil {
			return nil, fmt.Errorf("--via-proxy: %w", err)
		}
	}
	return proxy.New(proxy.Config{
		Via:     via,
		Sockets: sockets, Resolver: resolver, Records: records, Log: c.Log, UpstreamRoots: roots, Certificates: certificates, TellAll: true,
		Limits: c.Limits, Alone: true,
	})
}

// ClientCertificates opens the folder of --client-certificates; nil where there is none.
func ClientCertificates(folder string) (*egress.Certificates, error) {
	if folder == "" {
		return nil, nil
	}
	certificates, err := egress.OpenCertificates(folder, nil)
	if err != nil {
		return nil, fmt.Errorf("--client-certificates: %w", err)
	}
	return certificates, nil
}

// UpstreamRoots reads the file of --upstream-ca; nil where there is none. Its
// certificates are trusted beside the system's.
func UpstreamRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read --upstream-ca: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read --upstream-ca: %s holds no certificate in PEM", file)
	}
	return pool, nil
}
