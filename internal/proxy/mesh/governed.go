package mesh

import (
	"math/rand/v2"
	"sync/atomic"

	balancing "sluice.dev/sluice/internal/proxy/balance"
	"sluice.dev/sluice/internal/proxy/circuit"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// member is one endpoint of a set whose calls a DestinationPolicy is about. It outlives
// snapshots, and is another one where the endpoint is.
type member struct {
	set  *set
	load atomic.Int64 // calls under way
}

// governed is the members of a set in the order of its endpoints, and how they are picked: a
// balancing.Members.
type governed struct {
	way      *Way
	port     uint16
	fit      []*wire.Endpoint
	members  []*member
	balancer *balancing.Balancer
	header   string           // whose value keeps calls together; "": none does
	breaker  *circuit.Breaker // nil: no limits
	perConn  int              // requests that one connection serves; 0: any number
}

// govern makes the members of a set. Those that were there before keep what is known of them.
func (w *Way) govern(s *set, f *fitting, port uint16) *governed {
	g := &governed{way: w, port: port, fit: f.fit, header: f.policy.Balance.Header}
	names := make([]string, len(f.fit))
	s.mu.Lock()
	defer s.mu.Unlock()
	known := make(map[poolKey]*member, len(f.fit))
	for i, e := range f.fit {
		key := keyOf(e, port, upstream.HTTP11) // whatever it is spoken to in
		m := s.members[key]
		if m == nil {
			m = &member{set: s}
		}
		known[key] = m
		g.members = append(g.members, m)
		names[i] = e.Instance
	}
	s.members = known
	if l := f.policy.Limits; l != nil {
		if s.breaker == nil {
			s.breaker = circuit.New(s.key.service.String(), func() bool { return w.closeIdle(s) })
		}
		s.breaker.Set(f.policy)
		g.breaker, g.perConn = s.breaker, l.PerConnection
	}
	g.balancer = balancing.New(f.policy.Balance, names)
	return g
}

// Len implements balancing.Members.
func (g *governed) Len() int { return len(g.fit) }

// Ready implements balancing.Members.
func (g *governed) Ready(i int) bool { return g.way.unready(g.fit[i], g.port) == nil }

// Load implements balancing.Members.
func (g *governed) Load(i int) int64 { return g.members[i].load.Load() }

// Take implements balancing.Members.
func (g *governed) Take(i int, below int64) bool {
	load := &g.members[i].load
	for {
		n := load.Load()
		if n >= below {
			return false
		}
		if load.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// at returns where an endpoint of the set is; -1: it is not one of it.
func (g *governed) at(e *wire.Endpoint) int {
	for i := range g.fit {
		if g.fit[i] == e {
			return i
		}
	}
	return -1
}

// closeIdle closes the connection to a set with limits that is idle for longest; it reports
// false where none is.
func (w *Way) closeIdle(s *set) bool {
	pool, _ := w.pools.LongestIdleOf(func(k poolKey) bool { return k.of != nil && k.of.set == s })
	return pool != nil && pool.CloseLongestIdle()
}

// outlived reports whether a pool was made for limits that a new snapshot does not have.
func outlived(key poolKey, s *snapshot.Snapshot) bool {
	if key.of == nil {
		return false
	}
	p := s.Routes.PolicyOf(key.of.set.key.service, key.of.set.key.labels)
	return p == nil || p.Limits == nil
}

// first lets the policy pick an endpoint for a call, a request or a connection; nil where none is
// ready. The error is that of a request beyond the limits.
func (g *governed) first(turn uint64, request bool, key *key) (e *wire.Endpoint, h hold, refused *refusal.Error) {
	if h.of = g; request && g.breaker != nil {
		if refused = g.breaker.Request(); refused != nil {
			return nil, hold{}, refused
		}
		h.request = true
	}
	d := balancing.Draw{Turn: turn, Random: rand.Uint64()}
	if g.header != "" && key != nil {
		d.Key, d.Keyed = key.of(g.header)
	}
	if at := g.balancer.First(g, d); at >= 0 {
		e, h.member = g.fit[at], g.members[at]
	}
	return e, h, nil
}

// hold is one call that is counted at a member of a set with a policy; of any other set it is
// zero. Whoever picked an endpoint has it, and releases it when the call is over.
type hold struct {
	of     *governed
	member *member

	request, retry, connection bool // that the breaker counts
}

// move counts the call at another endpoint of the set in place of the first.
func (h *hold) move(to *wire.Endpoint) {
	if h.member != nil {
		h.member.load.Add(-1)
		h.member = nil
	}
	if h.of == nil {
		return
	}
	if at := h.of.at(to); at >= 0 {
		h.member = h.of.members[at]
		h.member.load.Add(1)
	}
}

// lead counts the request at an endpoint, of this set or of another, which may have no policy.
// The error is that of a request beyond that one's limits.
func (h *hold) lead(to *governed, e *wire.Endpoint) *refusal.Error {
	if h.of != to {
		h.release()
		h.of = to
		if to != nil && to.breaker != nil {
			if refused := to.breaker.Request(); refused != nil {
				*h = hold{}
				return refused
			}
			h.request = true
		}
	}
	h.move(e)
	return nil
}

// again reports whether the call may be sent again.
func (h *hold) again() bool {
	if h.of != nil && h.of.breaker != nil && !h.retry {
		h.retry = h.of.breaker.Retry()
		return h.retry
	}
	return true
}

// connect counts a connection of the call's own.
func (h *hold) connect() *refusal.Error {
	if h.of == nil || h.of.breaker == nil {
		return nil
	}
	refused := h.of.breaker.Connect()
	h.connection = refused == nil
	return refused
}

// release ends the counting.
func (h *hold) release() {
	if h.member != nil {
		h.member.load.Add(-1)
	}
	if h.request {
		h.of.breaker.Done()
	}
	if h.retry {
		h.of.breaker.Retried()
	}
	if h.connection {
		h.of.breaker.Closed()
	}
	*h = hold{}
}

// pooled is the member of an endpoint, or of the call's own for nil, whose pool of connections
// the call takes; nil where that is everybody's.
func (h *hold) pooled(e *wire.Endpoint) (of *member, perConn int) {
	switch {
	case h.of == nil || h.of.breaker == nil:
		return nil, 0
	case e == nil:
		return h.member, h.of.perConn
	}
	at := h.of.at(e)
	if at < 0 {
		return nil, 0
	}
	return h.of.members[at], h.of.perConn
}

// key reads what keeps the requests of one connection together, one after another, without an
// allocation for each.
type key struct {
	fields route.Fields
	hash   uint64
	found  bool
	take   func(string) bool // first, bound once
}

// of returns the hash of the first value of a header.
func (k *key) of(header string) (hash uint64, found bool) {
	if k.fields == nil {
		return 0, false
	}
	if k.take == nil {
		k.take = k.first
	}
	k.hash, k.found = 0, false
	k.fields.Values(header, k.take)
	return k.hash, k.found
}

func (k *key) first(value string) bool {
	k.hash, k.found = balancing.Hash(value), true
	return false
}
