package egress

import (
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/follow"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/route"
)

// planned directs a request that passes, and for whose host a route rule matches. What the
// verdict on the request allowed is that host and nothing else: each destination that the
// rule names is decided about again.
func (r *requests) planned(x *exchange.Request, d *Decision, plan route.Plan, delayed bool) exchange.Direction {
	r.Routed(plan.Rule)
	v := &d.Verdict
	asked := follow.Asked{Name: v.Name, Port: v.Port}
	if direction, wait, instead := r.plans.Instead(x, &plan, asked, delayed); wait > 0 {
		return r.later(x, wait)
	} else if instead {
		return direction
	}
	to := r.plans.Draw(d.Snapshot, x, &plan, v.Port)
	led, refused, ok := r.lead(x, d, plan, to)
	if !ok {
		return refused
	}
	r.hold(d, led.Grant)
	direction := exchange.Direction{
		Upstream: led.Upstream, ID: uint64(r.ID()), AllowUpgrade: plan.Upgradable(x.Upgrade), Explain: r.way.kit.TellAll, SetHost: led.SetHost, Answer: r.plans.Answer(),
	}
	if direction.SetHost == "" && (r.aliased || x.Host == "" || !plan.Elsewhere(&to) && r.misses(v)) {
		direction.SetHost = r.named(v)
	}
	r.Trace(&direction, led.Traced)
	r.plans.Edit(&direction, x, &plan, nil)
	direction.Mirror = r.plans.Mirror(x, &plan, v.Port)
	r.plans.Bound(&direction, x, &plan, &follow.Bounds{Overrides: true, Name: v.Name, Attempts: led.Attempts})
	return direction
}

// lead leads a request to a destination of its plan: by the verdict on it where that is what
// it asks for, unchanged.
func (r *requests) lead(x *exchange.Request, d *Decision, plan route.Plan, to route.Destination) (follow.Led, exchange.Direction, bool) {
	if plan.Elsewhere(&to) || plan.Does() != nil && plan.Does().Rewrite != nil {
		return r.plans.Lead(d.Snapshot, x, plan, to, d.Verdict.Port)
	}
	pool, refused := r.take(d, &r.chain, versionsOf(&d.Verdict, x.PriorKnowledge))
	if refused != nil {
		return follow.Led{}, r.Fail(refused), false
	}
	if r.made.behind != "" {
		r.Reached(r.made.behind, record.End{})
	}
	g, _ := r.grant(d, &r.chain)
	return follow.Led{Upstream: pool, Attempts: (*again)(&r.pooled), Grant: g, Traced: propagates(&d.Verdict)}, exchange.Direction{}, true
}

// later is apart from planned so that a request without a delay allocates nothing.
//
//go:noinline
func (r *requests) later(x *exchange.Request, wait time.Duration) exchange.Direction {
	return r.plans.Later(wait, func(s *snapshot.Snapshot) exchange.Direction {
		r.read(s, x)
		defer r.forget()
		d := decide(s, &r.chain)
		r.Decide(&d.Verdict)
		if !d.Verdict.Passes() {
			return r.Deny(s, &r.chain, &d.Verdict)
		}
		return r.pass(x, &d, true)
	})
}

// again sends a request again where it went.
type again pooled

// Another implements follow.Attempts.
func (a *again) Another() bool { return !a.pool.Closed() && a.counted.again() }

// Turn implements follow.Attempts.
func (a *again) Turn() {}

// beside is what the connection's grant was made from while a route rule leads elsewhere.
type beside struct {
	snapshot *snapshot.Snapshot
	rule     *policy.Rule
	name     names.Name
	own      *allowed // nil: it was not
	led      gate.Grant
}

// hold renews the connection's grant where the request or where it is led is let pass by
// something else than the last one. It needs both.
func (r *requests) hold(d *Decision, led gate.Grant) {
	b, v := &r.asked, &d.Verdict
	if b.own != nil && b.snapshot == d.Snapshot && b.rule == v.Rule && b.name == v.Name && b.led == led && b.own.sameRequest(v.Rule, &r.chain) {
		return
	}
	*b = beside{d.Snapshot, v.Rule, v.Name, &allowed{keep(&r.chain)}, led}
	r.Conn().Hold(gate.Both(*b.own, led), d.Snapshot)
}
