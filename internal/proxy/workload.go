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

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/dnsserver"
	"sluice.dev/sluice/internal/proxy/httpproxy"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/wire"
)

// MaxConnections bounds the live connections of one workload. At the bound a new
// one is reset.
const MaxConnections = 16384

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

	place            int
	source4, source6 netip.Addr // what other workloads see as this one's address

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	once   sync.Once
}

func newWorkload(p *Proxy, c WorkloadConfig) (*Workload, error) {
	if c.Holder == nil {
		return nil, errors.New("it has no snapshot holder")
	}
	if c.Names == nil {
		c.Names = dnsserver.NewTable(dnsserver.TableConfig{})
	}
	w := &Workload{proxy: p, config: c, log: p.config.Log.With("workload", c.Workload.Instance)}
	w.lookups = rate.NewLimiter(dnsserver.NewNamesPerSecond, dnsserver.NewNamesBurst)
	w.pools.init()
	w.live.init()
	w.dns = dnsserver.New(dnsserver.Config{
		Names:     c.Names,
		Directory: liveDirectory{c.Holder},
		Named:     func(n names.Name) bool { return c.Holder.Load().Policy.Names(n) },
		WithoutV6: c.Capture != nil && len(c.Capture.DNS) < 2,
		Log:       w.log,
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
			w.work.Go(func() { w.outbound(conn) })
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
	w.log.Warn("a connection could not be accepted", "error", err)
	select {
	case <-w.ctx.Done():
		return false
	case <-time.After(50 * time.Millisecond):
		return true
	}
}

// answer serves DNS on one socket until it closes.
func (w *Workload) answer(socket *net.UDPConn) {
	if err := w.dns.ServeUDP(socket); err != nil && w.ctx.Err() == nil {
		w.log.Error("DNS is not served any more", "error", err)
	}
}

// Close ends the workload: its listeners, its connections, its pools. It waits
// for all of them.
func (w *Workload) Close() {
	w.once.Do(func() {
		w.cancel()
		if w.config.Capture != nil {
			w.config.Capture.Close()
		}
		w.live.closeAll()
		w.pools.closeAll()
		w.work.Wait()
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
func (w *Workload) explainOptions() policy.ExplainOptions {
	return policy.ExplainOptions{Namespace: w.config.Workload.Namespace, Labels: w.config.Workload.Labels}
}
