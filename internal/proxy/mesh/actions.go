package mesh

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"sluice.dev/sluice/internal/pause"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
)

// afterDelay is how long the decision may take after a delay, at most.
const afterDelay = 10 * time.Second

// instead returns what a plan does with a request in place of sending it on at once; false
// where it is sent on.
func (r *Requests) instead(x *exchange.Request, d *Decision, to Target, delayed bool) (exchange.Direction, bool) {
	actions := d.Plan.Does()
	if c := actions.CORS; c != nil && r.edits != nil {
		if reply, ok := r.cors.preflight(x, c); ok {
			r.Via("", d.Rule, record.End{})
			return exchange.Direction{ID: uint64(r.ID()), Reply: reply, Answer: r.cors.answer(c, true)}, true
		}
	}
	if actions.Redirect != nil {
		r.Via("", d.Rule, record.End{})
		return r.redirect(x, actions.Redirect, to), true
	}
	if !delayed {
		if wait := d.Plan.Delayed(rand.Uint64()); wait > 0 {
			r.Via("", d.Rule, record.End{})
			return r.later(x, to, wait), true
		}
	}
	if status := d.Plan.Aborted(rand.Uint64()); status != 0 {
		r.Via("", d.Rule, record.End{})
		return r.abort(status, d.Rule), true
	}
	return exchange.Direction{}, false
}

// redirect answers with another address. Istio 0.5's proxy answered with 301 and dropped
// the query where the path was replaced.
func (r *Requests) redirect(x *exchange.Request, to *route.Redirect, asked Target) exchange.Direction {
	scheme, authority, target := "http://", to.Authority, to.URI
	if x.HTTPS {
		scheme = "https://"
	}
	if authority == "" {
		if authority = x.Host; authority == "" {
			authority = asked.authority()
		}
	}
	if target == "" && x.Target != "*" {
		target = x.Target
	}
	location := scheme + authority + target
	return exchange.Direction{ID: uint64(r.ID()), Answer: r.edits, Reply: &exchange.Reply{
		Status: 301, Message: "It is at " + location, Header: []exchange.Field{{Name: "location", Value: location}},
	}}
}

// abort answers a request with a fault.
func (r *Requests) abort(status int, rule string) exchange.Direction {
	direction := r.Fail(refusal.New(refusal.FaultInjected, fmt.Sprintf("fault filter abort by %s", rule)))
	direction.Reply.Status, direction.Answer = status, r.edits
	return direction
}

// later holds a request up by a fault, and decides about it anew: the rules may have
// changed meanwhile. It is apart from Route so that a request without one allocates
// nothing.
//
//go:noinline
func (r *Requests) later(x *exchange.Request, to Target, wait time.Duration) exchange.Direction {
	return exchange.Direction{ID: uint64(r.ID()), Timeout: wait + afterDelay, UntilFIN: true, Later: func(ctx context.Context) exchange.Direction {
		if err := pause.For(ctx, wait); err != nil {
			return r.Fail(&refusal.Error{Reason: refusal.ClientGone, Err: err}) // the engine knows better why
		}
		s := r.Conn().Snapshot()
		r.Under(s)
		direction := r.route(s, x, to, true)
		if direction.Later != nil { // a denial, at its pace
			direction = direction.Later(ctx)
		}
		return direction
	}}
}

// upgrade refuses a request for WebSocket where its rule does not say that connections may
// change to it: as in Istio 0.5, that is said or is not so.
func (r *Requests) upgrade(x *exchange.Request, d *Decision) (exchange.Direction, bool) {
	if x.Upgrade == "" || d.Plan.Upgradable(x.Upgrade) || !strings.EqualFold(x.Upgrade, route.WebSocket) {
		return exchange.Direction{}, false
	}
	r.Via("", d.Rule, record.End{})
	return r.Fail(refusal.New(refusal.UpgradeForbidden, d.Rule+" does not say websocketUpgrade: true")), true
}

// bound says for how long a request waits for its answer, and whether it is sent again.
func (r *Requests) bound(direction *exchange.Direction, x *exchange.Request, actions *route.Actions) {
	direction.HeadTimeout = route.DefaultTimeout
	var again *route.Retries
	if actions != nil {
		again = actions.Retries
		if actions.Timeout > 0 {
			direction.HeadTimeout = actions.Timeout
		}
	}
	most := -1
	if !r.Edge {
		r.over.read(x, again != nil)
		if r.over.timeout > 0 {
			direction.HeadTimeout = r.over.timeout
		}
		if r.over.found {
			direction.Remove = OverrideFields
		}
		most = r.over.retries
	}
	if again != nil {
		r.retries.begin(&r.call, again, most, r.held)
		direction.Retry = &r.retries
	}
}

// edit changes a request as its plan says.
func (r *Requests) edit(direction *exchange.Direction, x *exchange.Request, d *Decision) {
	actions := d.Plan.Does()
	if actions.Rewrite != nil {
		direction.SetTarget, direction.CutTarget = d.Plan.Rewritten(x.Target)
		if actions.Rewrite.Authority != "" {
			direction.SetHost = actions.Rewrite.Authority
		}
	}
	if len(actions.Append) > 0 {
		r.appended = append(r.appended[:0], r.Append...)
		for i := range actions.Append {
			r.appended = append(r.appended, exchange.Field(actions.Append[i]))
		}
		direction.Append = r.appended
	}
}
