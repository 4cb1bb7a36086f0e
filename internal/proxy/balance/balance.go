// Package balance picks which member of a set of endpoints gets a call: in turn, at random,
// by the fewest calls under way, or by a hash. The way into the mesh calls it for each call
// to a destination that has a policy. It never waits, takes no lock, and knows no endpoint:
// members are numbers.
package balance

import (
	"sluice.dev/sluice/internal/route"
)

// Members is the endpoints of one set, in an order that stays.
type Members interface {
	// Len is how many there are.
	Len() int
	// Ready reports whether a member may get a call now.
	Ready(i int) bool
	// Load is how many calls a member has under way.
	Load(i int) int64
	// Take counts a call to a member, and reports true, where it has fewer than so many under
	// way.
	Take(i int, below int64) bool
}

// Unbounded is for Take: however many calls a member has under way.
const Unbounded = int64(1) << 62

// Draw is what one call is picked by.
type Draw struct {
	Turn   uint64 // one more for each call to the set
	Random uint64 // 64 random bits
	Key    uint64 // Hash of what calls are kept together by
	Keyed  bool   // the call has a Key
}

// Balancer picks among the members of one set. It never changes and is safe for concurrent
// use.
type Balancer struct {
	policy route.Balance
	ring   ring
}

// New returns a balancer of members of these names, each of another one.
func New(policy route.Balance, names []string) *Balancer {
	b := &Balancer{policy: policy}
	if policy.By == route.RingHash {
		b.ring = newRing(names)
	}
	return b
}

// First returns who gets a call, which is counted by Take; -1 where nobody is ready.
func (b *Balancer) First(m Members, d Draw) int {
	n := m.Len()
	if n == 0 {
		return -1
	}
	at := -1
	switch {
	case b.policy.By == route.RingHash && d.Keyed:
		return b.ring.take(m, d.Key, b.policy.MaxLoad)
	case b.policy.By == route.LeastLoaded:
		at = lessLoaded(m, d.Random)
	case b.policy.By == route.RoundRobin:
		at = orReady(m, d.Turn%uint64(n), d.Turn/uint64(n))
	default:
		at = orReady(m, d.Random%uint64(n), d.Random/uint64(n))
	}
	if at >= 0 {
		m.Take(at, Unbounded)
	}
	return at
}

// orReady returns the member at a place or, where that is not ready, another one by a second
// number, so that those that are ready share its calls evenly; -1 where none is ready.
func orReady(m Members, place, second uint64) int {
	if m.Ready(int(place)) {
		return int(place)
	}
	return nthReady(m, second)
}

// nthReady returns the n-th of those that are ready, modulo their number; -1 where there are
// none.
func nthReady(m Members, n uint64) int {
	ready := uint64(0)
	for i := range m.Len() {
		if m.Ready(i) {
			ready++
		}
	}
	if ready == 0 {
		return -1
	}
	n %= ready
	last := -1
	for i := range m.Len() {
		if !m.Ready(i) {
			continue
		}
		if last = i; n == 0 {
			break
		}
		n--
	}
	return last // what was ready may have ceased to be meanwhile
}

// lessLoaded draws two that are ready, and returns the one with fewer calls under way.
func lessLoaded(m Members, random uint64) int {
	n := uint64(m.Len())
	one, two := random%n, uint64(0)
	if n > 1 {
		two = (one + 1 + random/n%(n-1)) % n // another one
	}
	a, b := int(one), int(two)
	if !m.Ready(a) {
		a = nthReady(m, random/n)
	}
	if a < 0 || !m.Ready(b) {
		b = nthReady(m, random/n/n)
	}
	if a < 0 || b >= 0 && m.Load(b) < m.Load(a) {
		return b
	}
	return a
}
