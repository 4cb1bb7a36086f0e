package follow

import (
	"math/rand/v2"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
)

// Waits between two attempts, as those of Istio 0.5's proxy: drawn from 0 to a bound that
// doubles.
const (
	firstWait = 25 * time.Millisecond
	mostWait  = 250 * time.Millisecond
)

// Attempts leads the attempts of a request that is sent again.
type Attempts interface {
	// Another reports whether there is where to send it once more.
	Another() bool
	// Turn leads the next attempt to what Another found.
	Turn()
}

// retries decides whether the request of the moment is sent again: an exchange.Retrier. It
// belongs to one connection.
type retries struct {
	to     Attempts
	most   int
	each   time.Duration
	budget *budget
	now    func() time.Time
}

// begin is for the next request.
func (r *retries) begin(plan *route.Retries, most int, of *budget, now func() time.Time, to Attempts) {
	r.to, r.most, r.each = to, plan.Attempts, plan.Each
	if most >= 0 {
		r.most = most
	}
	r.budget, r.now = of, now
	of.asked(now())
}

// AttemptTimeout implements exchange.Retrier.
func (r *retries) AttemptTimeout() time.Duration { return r.each }

// Again implements exchange.Retrier.
func (r *retries) Again(a exchange.Attempt) (wait time.Duration, again bool) {
	wait = rand.N(longestWait(a.Number))
	if a.Number > r.most || !mayBeRepeated(a) || a.Left > 0 && wait >= a.Left {
		return 0, false
	}
	if !r.to.Another() || !r.budget.take(r.now()) {
		return 0, false
	}
	r.to.Turn()
	return wait, true
}

// longestWait is the bound of the wait after so many attempts.
func longestWait(attempts int) time.Duration {
	return min(firstWait*(1<<min(attempts, 10)-1), mostWait)
}

// mayBeRepeated reports whether an attempt ended in what Istio 0.5 repeated: an answer of
// 500 and above, which for gRPC is UNAVAILABLE, none at all, or no connection. What this proxy itself refuses would be
// refused again.
func mayBeRepeated(a exchange.Attempt) bool {
	if a.Failure == nil {
		return a.Status >= 500 || a.Unavailable
	}
	switch a.Failure.Reason {
	case refusal.ConnectRefused, refusal.ConnectTimeout, refusal.ConnectFailed, refusal.UpstreamConnect,
		refusal.UpstreamReset, refusal.UpstreamTimeout, refusal.UpstreamProtocol:
		return true
	}
	return false
}
