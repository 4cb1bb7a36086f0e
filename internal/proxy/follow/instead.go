package follow

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"sluice.dev/sluice/internal/pause"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
)

// afterDelay is how long the decision may take after a delay, at most.
const afterDelay = 10 * time.Second

// Instead is what a plan does with a request in place of sending it on at once: it waits for
// so long (Later), or is answered as direction says. Where ok is false it is sent on. delayed
// says that it has waited.
func (p *Plans) Instead(x *exchange.Request, plan *route.Plan, asked Asked, delayed bool) (direction exchange.Direction, wait time.Duration, ok bool) {
	p.answer = nil
	if direction, refused := p.upgrade(x, plan); refused {
		return direction, 0, true
	}
	actions := plan.Does()
	if actions == nil {
		return exchange.Direction{}, 0, false
	}
	if c := actions.CORS; c != nil && p.cors.read(x, c) {
		p.answer = p.cors.answer(c, false)
		if reply, ok := p.cors.preflight(x, c); ok {
			p.nowhere(plan)
			return exchange.Direction{ID: uint64(p.records.ID()), Reply: reply, Answer: p.cors.answer(c, true)}, 0, true
		}
	}
	if actions.Redirect != nil {
		p.nowhere(plan)
		return p.redirect(x, actions.Redirect, asked), 0, true
	}
	if !delayed {
		if wait := plan.Delayed(rand.Uint64()); wait > 0 {
			p.nowhere(plan)
			return exchange.Direction{}, wait, true
		}
	}
	if status := plan.Aborted(rand.Uint64()); status != 0 {
		p.nowhere(plan)
		return p.abort(status, plan.Rule), 0, true
	}
	return exchange.Direction{}, 0, false
}

// nowhere notes the rule of a request that goes nowhere, or not yet.
func (p *Plans) nowhere(plan *route.Plan) {
	if p.out {
		p.records.Routed(plan.Rule)
		return
	}
	p.records.Via("", plan.Rule, record.End{})
}

// redirect answers with another address. Istio 0.5's proxy answered with 301 and dropped
// the query where the path was replaced.
func (p *Plans) redirect(x *exchange.Request, to *route.Redirect, asked Asked) exchange.Direction {
	scheme, authority, target := "http://", to.Authority, to.URI
	if x.HTTPS {
		scheme = "https://"
	}
	if authority == "" {
		if authority = x.Host; authority == "" {
			authority = asked.Authority()
		}
	}
	if target == "" && x.Target != "*" {
		target = x.Target
	}
	location := scheme + authority + target
	return exchange.Direction{ID: uint64(p.records.ID()), Answer: p.answer, Reply: &exchange.Reply{
		Status: 301, Message: "It is at " + location, Header: []exchange.Field{{Name: "location", Value: location}},
	}}
}

// abort answers a request with a fault.
func (p *Plans) abort(status int, rule string) exchange.Direction {
	direction := p.records.Fail(refusal.New(refusal.FaultInjected, fmt.Sprintf("fault filter abort by %s", rule)))
	direction.Reply.Status, direction.Answer = status, p.answer
	return direction
}

// Later holds a request up by a fault. anew then decides about it by the rules of that
// moment, which may have changed.
func (p *Plans) Later(wait time.Duration, anew func(s *snapshot.Snapshot) exchange.Direction) exchange.Direction {
	return exchange.Direction{ID: uint64(p.records.ID()), Timeout: wait + afterDelay, UntilFIN: true, Later: func(ctx context.Context) exchange.Direction {
		if err := pause.For(ctx, wait); err != nil {
			return p.records.Fail(&refusal.Error{Reason: refusal.ClientGone, Err: err}) // the engine knows better why
		}
		s := p.records.Conn().Snapshot()
		p.records.Under(s)
		direction := anew(s)
		if direction.Later != nil { // a denial, at its pace
			direction = direction.Later(ctx)
		}
		return direction
	}}
}

// upgrade refuses a request for WebSocket where its rule does not say that connections may
// change to it: as in Istio 0.5, that is said or is not so.
func (p *Plans) upgrade(x *exchange.Request, plan *route.Plan) (exchange.Direction, bool) {
	if x.Upgrade == "" || plan.Upgradable(x.Upgrade) || !strings.EqualFold(x.Upgrade, route.WebSocket) {
		return exchange.Direction{}, false
	}
	p.nowhere(plan)
	return p.records.Fail(refusal.New(refusal.UpgradeForbidden, plan.Rule+" does not say websocketUpgrade: true")), true
}
