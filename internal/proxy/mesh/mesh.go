// Package mesh is the way to a service of the mesh: plan by the route rules, pick an
// endpoint, balance, and go in at the other workload's sandbox. The proxy calls it with
// each connection whose destination is a service, and ingress for each request from
// outside. It never resolves a name outside the mesh and never dials anything but an
// endpoint that the snapshot lists.
package mesh

import (
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/follow"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/pools"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/wire"
)

// Config is one workload's way to services. All must be set, Caller for whoever has an
// address.
type Config struct {
	Kit    *carry.Kit
	Caller Caller // the workload itself
	// Inward finds the way into the sandbox of an instance that this proxy serves; ok
	// is false where it serves none of that name that takes calls.
	Inward func(instance string) (in Inward, ok bool)
	// Unready is which ports of an instance that this proxy serves are not ready now; ok
	// is false where it serves none of that name. Of others a snapshot says it. nil: all
	// that it serves are ready.
	Unready func(instance string) (unready []wire.Unready, ok bool)
	// Ways is the workload's, by which route rules lead out of the mesh; nil: they do not.
	Ways *follow.Ways
}

// Way is the way of one workload to the services of the mesh.
type Way struct {
	kit      *carry.Kit
	caller   Caller
	inward   func(instance string) (Inward, bool)
	local    func(instance string) ([]wire.Unready, bool) // Config.Unready
	balance  balance                                      // whose turn it is among the endpoints
	ends     ends                                         // what records say of endpoints
	findings findings                                     // which ports' servers were seen to speak first
	pools    pools.Table[poolKey, int]
	ways     *follow.Ways
}

// New returns a way without connections.
func New(c Config) *Way {
	if c.Unready == nil {
		c.Unready = func(string) ([]wire.Unready, bool) { return nil, false }
	}
	if c.Ways == nil {
		c.Ways = follow.NewWays()
	}
	return &Way{kit: c.Kit, caller: c.Caller, inward: c.Inward, local: c.Unready, ways: c.Ways}
}

// Recheck closes the pools to endpoints that a new snapshot does not have, and what runs
// on them where it denies everything. Connections are the gate's.
func (w *Way) Recheck(s *snapshot.Snapshot) {
	w.balance.forget(s)
	w.ends.forget()
	w.pools.Recheck(func(key poolKey, _ int) pools.Fate {
		switch {
		case s.Policy.DeniesAll() != "":
			return pools.Abort
		case !s.HasInstance(key.instance), outlived(key, s):
			return pools.End
		}
		return pools.Keep
	})
}

// LongestIdle returns the pool with the connection that is idle for longest, and for how
// long; nil where none is idle.
func (w *Way) LongestIdle() (*upstream.Pool, time.Duration) { return w.pools.LongestIdle() }

// Close ends what runs on the pools. Copies of requests are the Ways'.
func (w *Way) Close() { w.pools.Close() }

// Pools returns how many pools there are, and their connections.
func (w *Way) Pools() (int, upstream.Stats) { return w.pools.Stats() }

// reachable is the grant of what goes to a service: it lives for as long as the service
// does.
type reachable struct{ service names.Name }

// Recheck implements gate.Grant.
func (g reachable) Recheck(s *snapshot.Snapshot) gate.Objection {
	if s.Service(g.service) == nil {
		return gate.Objection{Reason: noEndpoint, MayReturn: true}
	}
	return gate.Objection{}
}
