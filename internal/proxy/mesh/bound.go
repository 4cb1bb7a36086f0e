package mesh

import (
	"slices"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// stay leads a request of a client that signed in on a connection, or is about to, to
// where that connection leads, if the plan may lead there: a sign-in takes several
// requests on one connection, and another endpoint knows nothing of it.
func (w *Way) stay(d *Decision, to Target, bound []exchange.Upstream) {
	for destination := range d.Plan.Destinations {
		all := d.Snapshot.Endpoints(destination.Service)
		for i := range all {
			if fits(&all[i], destination.Labels, to.Port) && w.holds(keyOf(&all[i], to.Port, d.Versions), bound) {
				d.Endpoint, d.Why = &all[i], nil
				d.hold.move(&all[i])
				return
			}
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
