package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/dnsserver"
	"sluice.dev/sluice/internal/proxy/egress"
	"sluice.dev/sluice/internal/proxy/follow"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/loop"
	"sluice.dev/sluice/internal/proxy/mesh"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/wire"
)

// WorkloadConfig is one workload as it joins.
type WorkloadConfig struct {
	Workload wire.Workload
	Capture  *capture.Capture // closed with the workload; nil for an ingress
	Inward   mesh.Inward      // the way in to what the workload serves; nil: by Capture
	Holder   *snapshot.Holder
	Names    *dnsserver.Table                                      // nil: a new one
	Ask      func(ctx context.Context, denied *record.Record) bool // see carry.Kit; nil: nobody is asked
	Sink     record.Sink                                           // takes the records of this workload, beside the proxy's own sinks; nil: none
}

// Workload is one workload that the proxy serves: its listeners, its names, its gate and
// its ways.
type Workload struct {
	proxy    *Proxy
	config   WorkloadConfig
	log      *slog.Logger
	warn     rate.Sometimes // so that a workload cannot fill the log
	share    rate.Sometimes // likewise, that it is at its share
	denials  rate.Sometimes // likewise, that its denials wait
	source   policy.Source
	dns      *dnsserver.Server
	http     *http1.Server
	http2    *http2.Server
	sessions upstream.Sessions
	kit      carry.Kit
	portion  *portion // of what the workloads of the process share
	gate     *gate.Gate
	egress   *egress.Way
	lookups  *resolve.Share
	mesh     *mesh.Way
	ways     *follow.Ways
	inward   mesh.Inward // into its sandbox; nil where nothing listens inside: an ingress
	instance atomic.Pointer[string]
	caller   mesh.Caller // its own addresses in the mesh
	loop     *loop.Loop  // accepts what is captured; nil: goroutines do
	place    int         // among the workloads of the proxy
	ctx      context.Context
	cancel   context.CancelFunc
	closing  sync.Once

	mu    sync.Mutex
	ended bool // nothing begins any more
	work  sync.WaitGroup
}

// newWorkload puts together what serves a workload. Its place among the workloads of the
// proxy gives it its address in the mesh.
func newWorkload(p *Proxy, c WorkloadConfig, place int) (*Workload, error) {
	if c.Holder == nil {
		return nil, errors.New("it has no snapshot holder")
	}
	if c.Names == nil {
		c.Names = dnsserver.NewTable(dnsserver.TableConfig{})
	}
	of := &c.Workload
	w := &Workload{
		proxy: p, config: c, place: place, log: p.config.Log.With("workload", of.Instance), warn: rate.Sometimes{Interval: time.Second},
		share: rate.Sometimes{Interval: time.Minute}, denials: rate.Sometimes{Interval: time.Minute},
		source: policy.Source{Namespace: of.Namespace, Account: of.Account, Labels: of.Labels},
	}
	w.instance.Store(&of.Instance)
	w.http, w.http2 = engines(p.giveBack)
	w.portion = p.capacity.join(func() bool { return w.http.CloseIdle() || w.http2.CloseIdle() }, w.closeIdleUpstream)
	w.keepBounds(c.Holder.Load())
	w.kit = carry.Kit{
		Instance: w.Instance, Source: record.NewEnd(record.Party{Workload: of.Base(), Service: of.Service, Namespace: of.Namespace, Version: of.Version, Account: of.Account}), For: advice.Options{Namespace: of.Namespace, Labels: of.Labels}, TellAll: p.config.TellAll,
		Recorder: p.config.Records, HTTP: w.http, HTTP2: w.http2, Buffers: &p.buffers, Memory: &p.memory, Now: p.config.Now,
		Hellos: w.portion.hellos, Pipes: w.portion.pipes,
		Upstream: upstream.Allowance{Open: w.portion.up, Handshakes: w.portion.handshakes, Shaken: p.shaken, Sessions: &w.sessions},
	}
	w.kit.Ask = c.Ask
	if c.Sink != nil {
		w.kit.Recorder = p.config.Records.Also(c.Sink)
	}
	w.kit.Denials = carry.NewDenials(w.denialsWait)
	w.gate = gate.New(gate.Config{Holder: c.Holder, Share: w.portion.down, Crowded: w.crowded})
	w.lookups = p.config.Resolver.Join()
	w.caller.V4, w.caller.V6 = capture.WorkloadAddresses(place + 1)
	w.ways = follow.NewWays()
	w.egress = egress.New(egress.Config{Ways: w.ways, Source: &w.source, Address: w.caller.V4, Kit: &w.kit, Dialer: p.dialer, Prover: p.prover, Roots: p.config.UpstreamRoots, Certificates: p.config.Certificates, Via: p.config.Via, Lookups: w.lookups})
	w.mesh = mesh.New(mesh.Config{Kit: &w.kit, Caller: w.caller, Inward: p.inward, Unready: p.unready.of, Ways: w.ways})
	w.ways.Services, w.ways.Hosts = w.mesh, w.egress
	switch {
	case c.Inward != nil:
		w.inward = c.Inward
	case c.Capture != nil:
		w.inward = mesh.Into(c.Capture)
	}
	w.dns = dnsserver.New(dnsserver.Config{
		Names:        c.Names,
		Directory:    liveDirectory{c.Holder},
		Named:        func(n names.Name) bool { return c.Holder.Load().Policy.Names(n) },
		NamedExactly: func(n names.Name) bool { return c.Holder.Load().Policy.NamesExactly(n) },
		OnlyV4:       p.config.Resolver.OnlyV4,
		Unanswered:   w.unanswered,
		Upstream:     w.ownDNS(),
		Now:          p.config.Now,
		WithoutV6:    c.Capture != nil && len(c.Capture.DNS) < 2,
		Log:          w.log,
	})
	w.kit.TargetOf = w.dns.TargetOf
	return w, nil
}

// Instance is the workload's name on the mesh: "details-v2/1".
func (w *Workload) Instance() string { return *w.instance.Load() }

// Rename gives the workload, which was served before the server knew it, the name that
// the server gave it. Records that are opened from now on have that name.
func (w *Workload) Rename(instance string) error {
	p := w.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.workloads[instance] {
	case w:
		return nil
	case nil:
	default:
		return fmt.Errorf("rename %s to %s: this proxy serves a workload of that name", w.Instance(), instance)
	}
	if p.workloads[w.Instance()] == w { // it is not closed
		delete(p.workloads, w.Instance())
		p.workloads[instance] = w
	}
	w.instance.Store(&instance)
	return nil
}

// SetUnready says which of its ports are not ready from now on, in place of what its
// WorkloadConfig said: they get no calls while other endpoints take them.
func (w *Workload) SetUnready(unready []wire.Unready) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended && w.inward != nil {
		w.proxy.unready.set(w.Instance(), unready)
	}
}

// start serves the listeners of the workload until Close.
func (w *Workload) start(ctx context.Context) {
	w.ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	stop := w.config.Holder.OnSwap(w.recheck)
	context.AfterFunc(w.ctx, stop)
	if w.config.Capture == nil {
		return
	}
	if !w.acceptLooped() {
		for _, listener := range w.config.Capture.TCP {
			w.work.Go(func() {
				w.accept(listener, func(down *net.TCPConn) func() { return w.admit(down, w.config.Capture.Destination(down)) })
			})
		}
	}
	for _, socket := range w.config.Capture.DNS {
		w.work.Go(func() { w.answer(socket) })
	}
	if questions := w.config.Capture.Questions; questions != nil {
		w.tellRules(w.config.Holder.Load())
		w.work.Go(func() { questions.Serve(w.foretell) }) // an error ends the asking: connects go on without
	}
}

// recheck asks a new snapshot about all that lives of the workload.
func (w *Workload) recheck(s *snapshot.Snapshot) {
	w.keepBounds(s)
	w.tellRules(s)
	w.gate.Recheck(s)
	w.egress.Recheck(s)
	w.mesh.Recheck(s)
}

// keepBounds makes the workload keep to the bounds of its mesh and of its proxy,
// whichever are lower.
func (w *Workload) keepBounds(s *snapshot.Snapshot) {
	w.portion.keep(lowest(w.proxy.config.Limits, s.Limits))
	if s.Version != "" && w.proxy.config.Mesh != nil {
		w.proxy.config.Mesh(s)
	}
}

// crowded says that connections wait because the workload has as many as it may.
func (w *Workload) crowded() {
	w.share.Do(func() {
		w.log.Warn("this workload is at its share of connections: more have to wait, and are reset where none ends in time", "connections", w.portion.down.Used())
	})
}

// closeIdleUpstream closes the upstream connection that is idle for longest.
func (w *Workload) closeIdleUpstream() bool {
	out, outIdle := w.egress.LongestIdle()
	in, inIdle := w.mesh.LongestIdle()
	if out == nil || in != nil && inIdle > outIdle {
		out = in
	}
	return out != nil && out.CloseLongestIdle()
}

// denialsWait says that denials of the workload are answered late.
func (w *Workload) denialsWait() {
	w.denials.Do(func() {
		w.log.Warn("denials are answered late: the workload is denied more than it may be in a second", "bound", carry.DenialsPerSecond, "late so far", w.kit.Denials.Delayed())
	})
}

// answer serves DNS on one socket until it closes.
func (w *Workload) answer(socket *net.UDPConn) {
	if err := w.dns.ServeUDP(socket); err != nil && w.ctx.Err() == nil {
		w.log.Error("DNS is not served any more", "error", err)
	}
}

// ownDNS is whom the workload's names are asked of before it dials them: nobody where all
// leaves through a proxy, which alone may know them.
func (w *Workload) ownDNS() dnsserver.Upstream {
	if w.proxy.config.Via != nil {
		return nil
	}
	return lookups{w}
}

// unanswered keeps the record of a question to DNS that got an empty answer for want of
// support.
func (w *Workload) unanswered(u dnsserver.Unanswered) {
	text := u.Type + " records are not supported: the answer was empty"
	switch {
	case (u.Type == "SRV" || u.Type == "TXT") && w.proxy.config.Via == nil:
		text = u.Type + " records are answered for hosts that a rule allows: the answer was empty"
		if u.Named {
			text = u.Type + " records are answered for a host and its services (_mongodb._tcp) alone: the answer was empty"
		}
	case u.Type == "SRV":
		text += "; name the hosts that they list, with their ports"
	}
	if !u.Named {
		text += ", and no rule names the host"
	}
	var entry record.Entry
	entry.Edit(func(r *record.Record) {
		*r = record.Record{
			ID: record.NewID(), Start: w.kit.Now(), Workload: w.Instance(), Source: w.kit.Source, Direction: record.Egress, Dialled: record.Text(u.Name), Port: 53,
			Transport: policy.UDP, Question: u.Type, Verdict: record.Failed, Reason: refusal.DNSType, Detail: text,
			Snapshot: w.config.Holder.Load().Version,
		}
	})
	w.kit.Recorder.Open(&entry)
	w.kit.Recorder.Close(&entry)
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
	w.closing.Do(func() {
		w.mu.Lock()
		w.ended = true
		w.mu.Unlock()
		w.gate.Close() // before cancel: what ends by it is recorded with the proxy as its cause
		w.cancel()
		if w.config.Capture != nil {
			w.config.Capture.Close()
		}
		w.ways.Close()
		w.egress.Close()
		w.lookups.Leave()
		w.mesh.Close()
		w.work.Wait()
		if w.loop != nil {
			w.loop.Close()
		}
		w.sessions.Close()
		w.http2.Shutdown(w.ctx) // has no connection left; its sweeper ends
		w.http.Shutdown(w.ctx)  // likewise
		w.portion.leave()
		w.proxy.detach(w)
	})
}

// liveDirectory asks the snapshot of the moment, so that DNS follows each swap.
type liveDirectory struct{ holder *snapshot.Holder }

func (d liveDirectory) Service(n names.Name) (names.Name, bool) {
	return d.holder.Load().Directory.Service(n)
}
func (d liveDirectory) Alias(n names.Name) names.Name { return d.holder.Load().Directory.Alias(n) }
func (d liveDirectory) Local(n names.Name) bool       { return d.holder.Load().Directory.Local(n) }
func (d liveDirectory) Search() []names.Name          { return d.holder.Load().Directory.Search() }
