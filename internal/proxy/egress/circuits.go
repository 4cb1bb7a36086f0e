package egress

import (
	"sync"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/circuit"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/refusal"
)

// maxCircuits bounds the hosts that are counted at a time, of those that policies are about: a
// wildcard is about any number. Past it those with nothing under way make way.
const maxCircuits = 1024

// circuits is what one workload has under way to hosts that policies are about: each host, and
// each port of it, for itself.
type circuits struct {
	mu  sync.Mutex
	all map[circuitKey]*circuit.Breaker
}

type circuitKey struct {
	host names.Name
	port uint16 // that is dialled
}

// circuitOf returns what counts the calls that a verdict lets pass, and after how many requests
// one of its connections ends; nil where no policy is about its host.
func (w *Way) circuitOf(s *snapshot.Snapshot, v *policy.Verdict) (b *circuit.Breaker, perConn int, err error) {
	if v.Name.IsZero() {
		return nil, 0, nil
	}
	p := s.Routes.PolicyOfHost(v.Name)
	if p == nil {
		return nil, 0, nil
	}
	c, key := &w.circuits, circuitKey{v.Name, v.DialPort()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if b = c.all[key]; b == nil {
		if len(c.all) >= maxCircuits && !c.makeRoom() {
			return nil, 0, refusal.New(refusal.Overflow, "calls to as many hosts under circuit breakers are under way as one workload may have")
		}
		b = circuit.New(v.Name.String(), func() bool { return w.closeIdle(b) })
		if c.all == nil {
			c.all = make(map[circuitKey]*circuit.Breaker)
		}
		c.all[key] = b
	}
	b.Set(p)
	return b, p.Limits.PerConnection, nil
}

// makeRoom drops those with nothing under way. It is called with mu held.
func (c *circuits) makeRoom() (some bool) {
	for key, b := range c.all {
		if b.Retire() {
			delete(c.all, key)
			some = true
		}
	}
	return some
}

// closeIdle closes the connection under a circuit that is idle for longest; it reports false
// where none is.
func (w *Way) closeIdle(of *circuit.Breaker) bool {
	pool, _ := w.pools.LongestIdleOf(func(k poolKey) bool { return k.circuit == of })
	return pool != nil && pool.CloseLongestIdle()
}

// counted is one call that circuits count; the zero one is counted nowhere.
type counted struct {
	by                         *circuit.Breaker
	request, retry, connection bool
}

// count counts a request until it is over.
func (c *counted) count(by *circuit.Breaker) *refusal.Error {
	c.over()
	if by == nil {
		return nil
	}
	refused := by.Request()
	if refused == nil {
		*c = counted{by: by, request: true}
	}
	return refused
}

// connect counts a connection that is carried as a whole, until it is over. One that is counted
// there already keeps its place.
func (c *counted) connect(by *circuit.Breaker) *refusal.Error {
	if c.connection && c.by == by {
		return nil
	}
	c.over()
	if by == nil {
		return nil
	}
	refused := by.Connect()
	if refused == nil {
		*c = counted{by: by, connection: true}
	}
	return refused
}

// again reports whether the request may be sent again.
func (c *counted) again() bool {
	if c.by != nil && !c.retry {
		c.retry = c.by.Retry()
		return c.retry
	}
	return true
}

// over ends the counting.
func (c *counted) over() {
	if c.request {
		c.by.Done()
	}
	if c.retry {
		c.by.Retried()
	}
	if c.connection {
		c.by.Closed()
	}
	*c = counted{}
}
