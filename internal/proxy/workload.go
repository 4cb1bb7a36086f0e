package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/dnsserver"
	"sluice.dev/sluice/internal/proxy/httpproxy"
	"sluice.dev/sluice/internal/proxy/proof"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/wire"
)

// WorkloadConfig is one workload as it joins.
type WorkloadConfig struct {
	Workload wire.Workload
	Capture  *capture.Capture // closed with the workload; nil for an ingress
	Holder   *snapshot.Holder
	Names    *dnsserver.Table // nil: a new one
}

// Workload is one workload that the proxy serves: its listeners, its names, its
// pools and its live connections.
type Workload struct {
	proxy   *Proxy
	config  WorkloadConfig
	log     *slog.Logger
	dns     *dnsserver.Server
	http    *httpproxy.Server
	pools   pools
	live    live
	next    atomic.Uint32 // round robin over endpoints
	lookups *rate.Limiter // of names that only a wildcard allows
	proofs  *proof.Share  // of the proxy's handshakes
	trusted trusted
	inward  inward         // nil where nothing listens inside: an ingress
	warn    rate.Sometimes // so that a workload cannot fill the log

	place            int
	source4, source6 netip.Addr // what other workloads see as this one's address

	ctx    context.Context
	cancel context.CancelFunc
	once   sync.Once

	mu    sync.Mutex
	ended bool // nothing begins any more
	work  sync.WaitGroup
}

func newWorkload(p *Proxy, c WorkloadConfig) (*Workload, error) {
	if c.Holder == nil {
		return nil, errors.New("it has no snapshot holder")
	}
	if c.Names == nil {
		c.Names = dnsserver.NewTable(dnsserver.TableConfig{})
	}
	w := &Workload{proxy: p, config: c, log: p.config.Log.With("workload", c.Workload.Instance), warn: rate.Sometimes{Interval: time.Second}}
	w.lookups = rate.NewLimiter(dnsserver.NewNamesPerSecond, dnsserver.NewNamesBurst)
	w.proofs = proof.NewShare()
	if c.Capture != nil {
		w.inward = func(ctx context.Context, from *Workload, port uint16) (*net.TCPConn, error) {
			return capture.DialInward(ctx, c.Capture.Inward, from.source4, from.source6, port)
		}
	}
	w.pools.init()
	w.live.init()
	w.dns = dnsserver.New(dnsserver.Config{
		Names:        c.Names,
		Directory:    liveDirectory{c.Holder},
		Named:        func(n names.Name) bool { return c.Holder.Load().Policy.Names(n) },
		NamedExactly: func(n names.Name) bool { return c.Holder.Load().Policy.NamesExactly(n) },
		WithoutV6:    c.Capture != nil && len(c.Capture.DNS) < 2,
		Log:          w.log,
	})
	var err error
	w.http, err = httpproxy.NewServer(httpproxy.Config{Director: director{w}})
	return w, err
}

// Instance is the workload's name on the mesh: "details-v2/1".
func (w *Workload) Instance() string { return w.config.Workload.Instance }

// start serves the listeners of the workload until Close.
func (w *Workload) start(ctx context.Context) {
	w.ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	stop := w.config.Holder.OnSwap(w.recheck)
	context.AfterFunc(w.ctx, stop)
	if w.config.Capture == nil {
		return
	}
	for _, listener := range w.config.Capture.TCP {
		w.work.Go(func() { w.accept(listener) })
	}
	for _, socket := range w.config.Capture.DNS {
		w.work.Go(func() { w.answer(socket) })
	}
}

// accept takes connections of the workload until the listener closes.
func (w *Workload) accept(listener *net.TCPListener) {
	for {
		conn, err := listener.AcceptTCP()
		switch {
		case err == nil:
			w.work.Go(func() { w.carry(conn, capture.OriginalDestination(conn)) })
		case errors.Is(err, net.ErrClosed):
			return
		default:
			if !w.pause(err) {
				return
			}
		}
	}
}

// pause waits a little after a failed accept, such as for a lack of descriptors.
// It reports false when the workload ended.
func (w *Workload) pause(err error) bool {
	w.warn.Do(func() { w.log.Warn("connections cannot be accepted", "error", err) })
	select {
	case <-w.ctx.Done():
		return false
	case <-time.After(50 * time.Millisecond):
		return true
	}
}

// admit takes c among the live connections, until leave. At a bound, and after the
// workload's end, it resets c and reports false.
func (w *Workload) admit(c *connection) bool {
	bounds := w.proxy.bounds
	if w.proxy.open.Add(1) <= int64(bounds.all) && w.live.add(c, bounds.workload) {
		return true
	}
	w.proxy.open.Add(-1)
	if w.ctx.Err() == nil {
		w.warn.Do(func() {
			w.log.Warn("connections are reset: too many are live", "of the workload", bounds.workload, "of all", bounds.all)
		})
	}
	reset(c.down)
	return false
}

// leave ends what admit began.
func (w *Workload) leave(c *connection) {
	w.live.remove(c)
	w.proxy.open.Add(-1)
}

// answer serves DNS on one socket until it closes.
func (w *Workload) answer(socket *net.UDPConn) {
	if err := w.dns.ServeUDP(socket); err != nil && w.ctx.Err() == nil {
		w.log.Error("DNS is not served any more", "error", err)
	}
}

// begin counts a piece of work that Close waits for, until w.work.Done; it reports
// false once Close has begun.
func (w *Workload) begin() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.work.Add(1)
	}
	return !w.ended
}

// Close ends the workload: its listeners, its connections, its pools. It waits
// for all of them.
func (w *Workload) Close() {
	w.once.Do(func() {
		w.mu.Lock()
		w.ended = true
		w.mu.Unlock()
		w.cancel()
		if w.config.Capture != nil {
			w.config.Capture.Close()
		}
		w.live.closeAll()
		w.pools.closeAll()
		w.work.Wait()
		w.http.Shutdown(w.ctx) // has no connection left; its sweeper ends
		w.proxy.detach(w)
	})
}

// liveDirectory asks the snapshot of the moment, so that DNS follows each swap.
type liveDirectory struct{ holder *snapshot.Holder }

func (d liveDirectory) Service(n names.Name) (names.Name, bool) {
	return d.holder.Load().Directory.Service(n)
}
func (d liveDirectory) Local(n names.Name) bool { return d.holder.Load().Directory.Local(n) }
func (d liveDirectory) Search() []names.Name    { return d.holder.Load().Directory.Search() }

// explainOptions says for whom a verdict is explained.
func (w *Workload) explainOptions() advice.Options {
	return advice.Options{Namespace: w.config.Workload.Namespace, Labels: w.config.Workload.Labels}
}
