// Package proxy is the data plane: what happens to a connection of a workload
// from its capture to its end. outbound.go tells the way out, inside.go the way
// between two workloads, ingress.go the way in; the rooms below do the work. It
// never trusts a name or an address that the workload sent alone, and it never
// imports the control plane.
package proxy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/proxy/proof"
	"sluice.dev/sluice/internal/proxy/relay"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/record"
)

// DrainTime is how long a proxy that ends lets the requests under way finish.
const DrainTime = time.Second

// Config is what the workloads of one process share.
type Config struct {
	Sockets  capture.Sockets   // the way out: the host's sockets, or those of another namespace
	Resolver *resolve.Resolver // our own resolution
	Flows    *record.Ring
	Log      *slog.Logger
	// UpstreamRoots, where not nil, are trusted for upstream certificates beside
	// the mesh's own (--upstream-ca).
	UpstreamRoots *x509.CertPool
	// TellAll says everything to a denied workload: the rule, and the change that
	// would allow it. Otherwise it is told the reason and the id.
	TellAll bool
	// MaxConnections bounds the live connections of one workload where it is not 0,
	// in place of the default.
	MaxConnections int
	Now            func() time.Time // time.Now where nil
}

// Proxy serves many workloads; each has its own snapshot, names and pools.
type Proxy struct {
	config Config
	dialer *resolve.Dialer
	prover *proof.Prover

	buffers sniff.Buffers
	memory  relay.Memory
	bounds  bounds
	open    atomic.Int64 // live connections of all workloads

	mu        sync.Mutex
	closed    bool
	workloads map[string]*Workload // by instance
	places    [MaxWorkloads]bool   // which mesh addresses are taken
}

// New returns a Proxy without workloads.
func New(c Config) (*Proxy, error) {
	if c.Sockets == nil || c.Resolver == nil || c.Flows == nil {
		return nil, errors.New("proxy: Sockets, Resolver and Flows must be set")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Proxy{
		config:    c,
		bounds:    boundsOf(c.MaxConnections, descriptors()),
		dialer:    resolve.NewDialer(resolve.DialerConfig{Resolver: c.Resolver, Sockets: c.Sockets}),
		prover:    proof.NewProver(proof.Config{Now: c.Now}),
		workloads: make(map[string]*Workload),
	}, nil
}

// Attach begins to serve a workload. It is served until its Close.
func (p *Proxy) Attach(ctx context.Context, c WorkloadConfig) (*Workload, error) {
	w, err := newWorkload(p, c)
	if err != nil {
		return nil, fmt.Errorf("attach %s: %w", c.Workload.Instance, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fmt.Errorf("attach %s: this proxy is shutting down", w.Instance())
	}
	if p.workloads[w.Instance()] != nil {
		return nil, fmt.Errorf("attach %s: this proxy serves a workload of that name", w.Instance())
	}
	place := 0
	for place < MaxWorkloads && p.places[place] {
		place++
	}
	if place == MaxWorkloads {
		return nil, fmt.Errorf("attach %s: this proxy serves %d workloads already", w.Instance(), MaxWorkloads)
	}
	p.places[place] = true
	w.place = place
	w.source4, w.source6 = capture.WorkloadAddresses(place + 1)
	p.workloads[w.Instance()] = w
	w.start(ctx)
	return w, nil
}

func (p *Proxy) detach(w *Workload) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.workloads[w.Instance()] == w {
		delete(p.workloads, w.Instance())
		p.places[w.place] = false
	}
}

// local returns the workload of that instance where this proxy serves it.
func (p *Proxy) local(instance string) *Workload {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.workloads[instance]
}

// Flows returns the ring of closed accounts.
func (p *Proxy) Flows() *record.Ring { return p.config.Flows }

// Drain ends connections of HTTP that wait for a request, turns new ones away, and
// returns when those under way have been answered. Those that ctx ends first are
// cut off. Nothing may be known of bytes that are relayed: they go on until Close.
func (p *Proxy) Drain(ctx context.Context) {
	var all sync.WaitGroup
	for _, w := range p.list() {
		all.Go(func() { w.http.Shutdown(ctx) })
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
}

func (p *Proxy) list() []*Workload {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.workloads))
}
