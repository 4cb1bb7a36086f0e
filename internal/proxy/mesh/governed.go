package mesh

import (
	"math/rand/v2"
	"sync/atomic"

	balancing "sluice.dev/sluice/internal/proxy/balance"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// member is one endpoint of a set whose calls a DestinationPolicy is about. It outlives
// snapshots, and is another one where the endpoint is.
type member struct {
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
	header   string // whose value keeps calls together; "": none does
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
			m = new(member)
		}
		known[key] = m
		g.members = append(g.members, m)
		names[i] = e.Instance
	}
	s.members = known
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

// first lets the policy pick an endpoint; nil where none is ready.
func (g *governed) first(turn uint64, key *key) (*wire.Endpoint, hold) {
	d := balancing.Draw{Turn: turn, Random: rand.Uint64()}
	if g.header != "" && key != nil {
		d.Key, d.Keyed = key.of(g.header)
	}
	at := g.balancer.First(g, d)
	if at < 0 {
		return nil, hold{}
	}
	return g.fit[at], hold{g, g.members[at]}
}

// hold is one call that is counted at a member of a set with a policy; of any other set it is
// zero. Whoever picked an endpoint has it, and releases it when the call is over.
type hold struct {
	of     *governed
	member *member
}

// move counts the call at another endpoint of the set in place of the first.
func (h *hold) move(to *wire.Endpoint) {
	of := h.of
	h.release()
	if of == nil {
		return
	}
	if at := of.at(to); at >= 0 {
		of.members[at].load.Add(1)
		*h = hold{of, of.members[at]}
	}
}

// release ends the counting.
func (h *hold) release() {
	if h.member != nil {
		h.member.load.Add(-1)
	}
	*h = hold{}
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
