package mesh

import (
	"math/rand/v2"
	"slices"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// Waits between two attempts, as those of Istio 0.5's proxy: drawn from 0 to a bound that
// doubles.
const (
	firstWait = 25 * time.Millisecond
	mostWait  = 250 * time.Millisecond
)

// retries decides whether the request of the moment is sent again: an exchange.Retrier. It
// belongs to one connection.
type retries struct {
	call   *call
	most   int
	each   time.Duration
	budget *budget
}

// begin is for the next request.
func (r *retries) begin(c *call, plan *route.Retries, most int, to names.Name) {
	r.call, r.most, r.each = c, plan.Attempts, plan.Each
	if most >= 0 {
		r.most = most
	}
	r.budget = c.way.budgets.get(to)
	r.budget.asked(c.way.kit.Now())
}

// AttemptTimeout implements exchange.Retrier.
func (r *retries) AttemptTimeout() time.Duration { return r.each }

// Again implements exchange.Retrier: the next attempt goes to the next endpoint, where there
// is another.
func (r *retries) Again(a exchange.Attempt) (wait time.Duration, again bool) {
	wait = rand.N(longestWait(a.Number))
	if a.Number > r.most || !mayBeRepeated(a) || a.Left > 0 && wait >= a.Left {
		return 0, false
	}
	next, pool := r.call.nextAttempt()
	if next == nil || !r.budget.take(r.call.way.kit.Now()) {
		return 0, false
	}
	r.call.turn(next, pool)
	return wait, true
}

// longestWait is the bound of the wait after so many attempts.
func longestWait(attempts int) time.Duration {
	return min(firstWait*(1<<min(attempts, 10)-1), mostWait)
}

// mayBeRepeated reports whether an attempt ended in what Istio 0.5 repeated: an answer of
// 500 and above, none at all, or no connection. What this proxy itself refuses would be
// refused again.
func mayBeRepeated(a exchange.Attempt) bool {
	if a.Failure == nil {
		return a.Status >= 500
	}
	switch a.Failure.Reason {
	case refusal.ConnectRefused, refusal.ConnectTimeout, refusal.ConnectFailed, refusal.UpstreamConnect,
		refusal.UpstreamReset, refusal.UpstreamTimeout, refusal.UpstreamProtocol:
		return true
	}
	return false
}

// nextAttempt returns the endpoint after the current one, or that again where there is no other; nil
// where there is none any more.
func (c *call) nextAttempt() (*wire.Endpoint, *upstream.Pool) {
	next := c.way.nextOf(c.fit, nil, slices.Index(c.fit, c.current)+1, c.port)
	if next == nil {
		return nil, nil
	}
	pool, err := c.way.pool(next, c.port)
	if err != nil {
		return nil, nil
	}
	return next, pool
}

// turn leads the call to another endpoint.
func (c *call) turn(next *wire.Endpoint, pool *upstream.Pool) {
	c.current, c.n, c.pool = next, 0, pool
	c.requests.Via(next.Instance, c.rule, c.requests.endOf(next))
}
