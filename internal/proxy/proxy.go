// Package proxy is the data plane: it puts together what serves the workloads of one
// process, starts and ends it, and says which way each captured connection goes: egress
// or mesh, with ingress beside them. The commands call it. It never decides whether a
// connection may go on (gate does), and never imports the control plane.
package proxy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/proxy/dnsserver"
	"sluice.dev/sluice/internal/proxy/egress"
	"sluice.dev/sluice/internal/proxy/mesh"
	"sluice.dev/sluice/internal/proxy/proof"
	"sluice.dev/sluice/internal/proxy/relay"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/proxy/tunnel"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/wire"
)

// DrainTime is how long a proxy that ends lets the requests under way finish.
const DrainTime = time.Second

// Records takes the records of what is carried, and lists those that are open. A
// record.Book is one.
type Records interface {
	record.Recorder
	Also(record.Sink) record.Recorder
	Live(n int, filter record.Filter) []record.Record
}

// MaxWorkloads bounds the workloads of one proxy. There is one for every 32 descriptors
// that the process may open at most.
const MaxWorkloads = 4096

// Config is what the workloads of one process share.
type Config struct {
	Sockets  capture.Sockets   // the way out: the host's sockets, or those of another namespace
	Resolver *resolve.Resolver // our own resolution
	Records  Records           // of all that is carried
	Log      *slog.Logger
	// UpstreamRoots, where not nil, are trusted for upstream certificates beside
	// the mesh's own (--upstream-ca).
	UpstreamRoots *x509.CertPool
	// Certificates, where not nil, are what rules have shown to servers
	// (--client-certificates). Close closes them.
	Certificates *egress.Certificates
	// Via, where not nil, is the proxy that all leaves through (--via-proxy).
	Via *tunnel.Proxy
	// TellAll says everything to a denied workload: the rule, and the change that
	// would allow it. Otherwise it is given the reason and the id.
	TellAll bool
	Limits  wire.Limits      // of one workload, where its mesh sets no lower ones
	Alone   bool             // there is one workload, ever: nothing is kept free for others
	Now     func() time.Time // time.Now where nil
	// Mesh is called with each snapshot that a workload runs from then on, for what of it is
	// the process's; nil: nobody is. It must not block.
	Mesh func(*snapshot.Snapshot)
}

// Proxy serves many workloads; each has its own snapshot, names and pools.
type Proxy struct {
	config Config
	dialer *resolve.Dialer
	prover *proof.Prover

	buffers  sniff.Buffers
	memory   relay.Memory
	capacity *capacity

	handshakes handshakes
	trim       rate.Sometimes // so that it costs little however clients come and go

	mu        sync.Mutex
	closed    bool
	asked     dnsserver.Stats      // by workloads that have left
	workloads map[string]*Workload // by instance
	unready   unreadyPorts
	places    [MaxWorkloads]bool // which mesh addresses are taken
}

// New returns a Proxy without workloads.
func New(c Config) (*Proxy, error) {
	if c.Sockets == nil || c.Resolver == nil || c.Records == nil {
		return nil, errors.New("proxy: Sockets, Resolver and Records must be set")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Proxy{
		config:    c,
		capacity:  newCapacity(stocksOf(Descriptors(), c.Alone)),
		dialer:    resolve.NewDialer(resolve.DialerConfig{Resolver: c.Resolver, Sockets: c.Sockets}),
		prover:    proof.NewProver(proof.Config{Now: c.Now}),
		workloads: make(map[string]*Workload),
		trim:      rate.Sometimes{Interval: time.Minute},
	}, nil
}

// giveBack gives the memory back that was taken while many connections came, and is not
// held by what they are now: the runtime would keep as much again for the next ones.
func (p *Proxy) giveBack() { p.trim.Do(debug.FreeOSMemory) }

// Attach begins to serve a workload. It is served until its Close.
func (p *Proxy) Attach(ctx context.Context, c WorkloadConfig) (*Workload, error) {
	w, err := p.attach(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("attach %s: %w", c.Workload.Instance, err)
	}
	return w, nil
}

// attach starts a workload at a place that nobody has.
func (p *Proxy) attach(ctx context.Context, c WorkloadConfig) (*Workload, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	instance := c.Workload.Instance
	most := workloadsOf(Descriptors())
	place := slices.Index(p.places[:most], false)
	switch {
	case p.closed:
		return nil, errors.New("this proxy is shutting down")
	case p.workloads[instance] != nil:
		return nil, errors.New("this proxy serves a workload of that name")
	case place < 0:
		return nil, fmt.Errorf("this proxy serves %d workloads already; with a higher ulimit -n it may serve up to %d", most, MaxWorkloads)
	}
	w, err := newWorkload(p, c, place)
	if err != nil {
		return nil, err
	}
	p.places[place] = true
	p.workloads[instance] = w
	if w.inward != nil {
		p.unready.set(instance, c.Workload.Unready)
	}
	w.start(ctx)
	return w, nil
}

func (p *Proxy) detach(w *Workload) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.workloads[w.Instance()] == w {
		delete(p.workloads, w.Instance())
		p.unready.drop(w.Instance())
		p.asked = p.asked.Plus(w.dns.Stats())
		p.places[w.place] = false
	}
}

// inward is the way into the sandbox of an instance that this proxy serves.
func (p *Proxy) inward(instance string) (mesh.Inward, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.workloads[instance]
	if w == nil || w.inward == nil {
		return nil, false
	}
	return w.inward, true
}

// Live returns the records that are open: the newest n that the filter lets through,
// the oldest first.
func (p *Proxy) Live(n int, filter record.Filter) []record.Record {
	return p.config.Records.Live(n, filter)
}

// Drain ends connections of HTTP that wait for a request, turns new ones away, and
// returns when those under way have been answered. Those that ctx ends first are
// cut off. Nothing may be known of bytes that are relayed: they go on until Close.
func (p *Proxy) Drain(ctx context.Context) {
	var all sync.WaitGroup
	for _, w := range p.list() {
		all.Go(func() { w.http.Shutdown(ctx) })
		all.Go(func() { w.http2.Shutdown(ctx) })
	}
	all.Wait()
}

// Close ends every workload at once and waits for their connections to end. None
// is attached any more.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	var all sync.WaitGroup
	for _, w := range p.list() {
		all.Go(w.Close)
	}
	all.Wait()
	p.prover.Close()
	p.memory.Close()
	if err := p.config.Certificates.Close(); err != nil {
		p.config.Log.Warn("the folder of client certificates is not closed", "error", err)
	}
}

func (p *Proxy) list() []*Workload {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.workloads))
}
