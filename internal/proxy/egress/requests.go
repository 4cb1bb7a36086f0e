package egress

import (
	"context"
	"net"
	"strconv"
	"unsafe"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/follow"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/route"
)

// requests directs the HTTP requests of one connection. It remembers from one to the
// next what a steady one need not parse, look up or allocate again.
type requests struct {
	carry.Requests
	pooled
	chain policy.Chain
	host  names.LastHost
	plans follow.Plans
	asked beside // what planned held
}

func newRequests(c *connection) *requests {
	return requestsOn(c.way, c.conn, c.chain, about(&c.chain, ""))
}

func requestsOn(w *Way, conn *gate.Conn, chain policy.Chain, about carry.About) *requests {
	r := &requests{chain: chain}
	r.Init(w.kit, conn, about)
	r.pooled = pooled{way: w, records: &r.Requests}
	r.plans.Init(&r.Requests, w.ways, true)
	return r
}

// Branch implements exchange.Multiplexed: each of the requests that go side by side has a
// chain, a verdict and a grant of its own.
func (r *requests) Branch() (exchange.Branch, bool) {
	conn, ctx, ok := r.Conn().Branch()
	if !ok {
		return exchange.Branch{}, false
	}
	return exchange.Branch{Context: ctx, Director: requestsOn(r.way, conn, r.chain, r.About()), Leave: conn.Leave}, true
}

// Direct implements exchange.Director: the name chain, the verdict, and the pool that
// the verdict leads to.
func (r *requests) Direct(x *exchange.Request) exchange.Direction {
	s := r.Conn().Snapshot()
	r.Open(x, s)
	r.read(s, x)
	defer r.forget()
	d := decide(s, &r.chain)
	r.Decide(&d.Verdict)
	switch {
	case d.Verdict.Passes():
		return r.pass(x, &d, false)
	case r.Asks():
		return r.askLater(x, d)
	}
	return r.Deny(s, &r.chain, &d.Verdict)
}

// askLater keeps the decision until there is an answer. It is apart from Direct so that a
// request that passes allocates nothing.
//
//go:noinline
func (r *requests) askLater(x *exchange.Request, d Decision) exchange.Direction {
	return exchange.Direction{ID: uint64(r.ID()), Later: func(ctx context.Context) exchange.Direction { return r.ask(ctx, x, d) }}
}

// ask asks about a request that was denied, and decides anew where there are other rules
// now.
func (r *requests) ask(ctx context.Context, x *exchange.Request, d Decision) exchange.Direction {
	changed := r.Ask(ctx)
	r.read(r.Conn().Snapshot(), x)
	defer r.forget()
	if changed {
		d = decide(r.Conn().Snapshot(), &r.chain)
		r.Under(d.Snapshot)
		r.Decide(&d.Verdict)
	}
	if d.Verdict.Passes() {
		return r.pass(x, &d, false)
	}
	return r.DenyNow(ctx, d.Snapshot, &r.chain, &d.Verdict)
}

// pass directs a request that passes, by the route rules of its host; delayed says that a
// fault has held it up already.
func (r *requests) pass(x *exchange.Request, d *Decision, delayed bool) exchange.Direction {
	if v := &d.Verdict; d.Snapshot.Routes.RoutesHosts() && !v.Name.IsZero() {
		plan := d.Snapshot.Routes.PlanHost(v.Name, route.Request{Method: x.Method, Path: x.Target, Authority: x.Host, HTTPS: x.HTTPS, Fields: x, Look: &r.plans.Look,
			Ends: route.Ends{Source: r.way.address, Destination: r.chain.Addr}})
		if plan.Rule != "" {
			return r.planned(x, d, plan, delayed)
		}
	}
	return r.forward(x, d)
}

// forward directs a request to the host that it is for.
func (r *requests) forward(x *exchange.Request, d *Decision) exchange.Direction {
	pool, refused := r.take(d, &r.chain, versionsOf(&d.Verdict, x.PriorKnowledge))
	if refused != nil {
		return r.Fail(refused)
	}
	if g, fresh := r.grant(d, &r.chain); fresh || r.asked.own != nil {
		r.asked = beside{}
		r.Conn().Hold(g, d.Snapshot)
	}
	if behind := r.made.behind; behind != "" {
		r.Via(behind, d.Verdict.Rule.ID, record.End{})
	}
	direction := exchange.Direction{Upstream: pool, ID: uint64(r.ID()), AllowUpgrade: true, Explain: r.way.kit.TellAll}
	r.Trace(&direction, propagates(&d.Verdict))
	if r.misses(&d.Verdict) {
		direction.SetHost = r.named(&d.Verdict)
	}
	return direction
}

// misses reports whether the Host of the request is none that names the port that is dialled: it
// has none, another name, or that of a port in whose place another is.
func (r *requests) misses(v *policy.Verdict) bool {
	return r.chain.Host.IsZero() || r.aliased || v.Upstream != 0 && v.Upstream != r.chain.Host.Port && (r.chain.Host.Port != 0 || r.named(v) != r.chain.Host.Name.String())
}

// Done implements exchange.Director.
func (r *requests) Done(x *exchange.Request, o exchange.Outcome) {
	r.counted.over()
	r.plans.Done()
	r.Requests.Done(x, o)
}

// read brings a request into the chain. What it says are views, which forget takes out.
// A Host that is another name for the host that was dialled, as an ExternalName of a cluster
// is, means that one: it is decided about, and it is what the server gets.
func (r *requests) read(s *snapshot.Snapshot, x *exchange.Request) {
	c := &r.chain
	r.aliased = false
	c.Method, c.Path, c.HTTPS, c.Upgrade, c.Fields = x.Method, x.Path, x.HTTPS, x.Upgrade, x
	c.Host, c.HostBad = names.Host{}, false
	if text := x.Host; text != "" {
		host, err := r.host.Parse(unsafe.Slice(unsafe.StringData(text), len(text))) // a view: Parse keeps none of it
		c.Host, c.HostBad = host, err != nil
		if err == nil && !c.Dialled.IsZero() && host.Name != c.Dialled && s.Directory.Alias(host.Name) == c.Dialled {
			c.Host.Name, r.aliased = c.Dialled, true
		}
	}
}

func (r *requests) forget() {
	r.chain.Method, r.chain.Path, r.chain.HTTPS, r.chain.Upgrade, r.chain.Fields = "", "", false, "", nil
}

// propagates reports whether the rule that lets a request out has it go on with its trace.
func propagates(v *policy.Verdict) bool { return v.Rule != nil && v.Rule.Propagate }

// authority is the Host of a request that had none (HTTP/1.0): the name that was
// dialled, as its server knows it (RFC 9110, section 7.2).
func authority(v *policy.Verdict) string {
	host := v.Name.String()
	if v.Name.IsZero() {
		host = v.Addr.String()
	}
	port := v.DialPort()
	if v.Treatment == policy.Originate && port == 443 || v.Treatment == policy.Forward && port == 80 {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
