package mesh

import (
	"slices"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
)

// stay leads a request of a client that signed in on a connection, or is about to, to
// where that connection leads, if the plan may lead there: a sign-in takes several
// requests on one connection, and another endpoint knows nothing of it.
func (w *Way) stay(d *Decision, to Target, bound []exchange.Upstream) {
	if d.Why != nil && d.Why.Reason == refusal.CircuitBreaker {
		return // a connection that is kept is no way past the limits
	}
	for destination := range d.Plan.Destinations {
		f, _ := w.fitting(setKey{destination.Service, to.Port, destination.Set, ""}, d.Snapshot.Endpoints(destination.Service), &destination)
		for _, e := range f.fit {
			h := hold{of: f.governed}
			key := keyOf(e, to.Port, d.Versions)
			if key.of, _ = h.pooled(e); !w.holds(key, bound) {
				continue
			}
			d.Endpoint, d.fit, d.Why = e, f.fit, d.hold.lead(f.governed, e)
			return
		}
	}
}

// holds reports whether the pool of a key is one of them.
func (w *Way) holds(key poolKey, bound []exchange.Upstream) bool {
	return slices.ContainsFunc(bound, func(u exchange.Upstream) bool {
		pool, ok := u.(*upstream.Pool) // what a call has chosen
		return ok && w.pools.Is(key, pool)
	})
}
