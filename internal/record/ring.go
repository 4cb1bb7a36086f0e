package record

import (
	"sync"
	"sync/atomic"
)

// RingSize is how many closed records a Ring keeps; older ones are forgotten.
const RingSize = 4096

// Ring is a Sink that keeps the last RingSize records of one process and hands each new one to
// whoever follows. Adding takes no allocation and, but for the one slot that is
// written, no lock. The zero Ring is not usable: see NewRing.
type Ring struct {
	added     atomic.Uint64 // flows ever added; the next one's number is added+1
	slots     []slot
	followers followers
}

// slot is one place of the ring. Its number orders flows; a late writer that was
// overtaken by a whole round does not overwrite the newer flow.
type slot struct {
	mu     sync.Mutex
	number uint64 // 0: never written
	flow   Record
}

// NewRing returns an empty ring of RingSize flows.
func NewRing() *Ring { return newRing(RingSize) }

func newRing(size int) *Ring { return &Ring{slots: make([]slot, size)} }

// Closed implements Sink: it puts a copy of f into the ring, over the oldest
// record where the ring is full, and hands it to the followers. It never waits for
// one of them.
func (r *Ring) Closed(f *Record) {
	number := r.added.Add(1)
	s := r.slot(number)
	s.mu.Lock()
	if s.number < number {
		s.number, s.flow = number, *f
	}
	s.mu.Unlock()
	r.followers.send(f)
}

// Dropped implements Sink: it returns how many records followers lost because they
// read too slowly. The ring itself takes every one.
func (r *Ring) Dropped() uint64 { return r.followers.dropped.Load() }

// Added returns how many flows were ever added.
func (r *Ring) Added() uint64 { return r.added.Load() }

// Get returns the flow with the given ID while the ring holds it. It looks at
// each slot: it is for people who ask why, not for the data path.
func (r *Ring) Get(id ID) (Record, bool) {
	for i := range r.slots {
		s := &r.slots[i]
		s.mu.Lock()
		if s.number != 0 && s.flow.ID == id {
			f := s.flow
			s.mu.Unlock()
			return f, true
		}
		s.mu.Unlock()
	}
	return Record{}, false
}

// Recent returns the newest flows that the filter lets through, at most n, the
// oldest of them first.
func (r *Ring) Recent(n int, filter Filter) []Record {
	var found []Record
	newest := r.added.Load()
	for back := uint64(0); back < uint64(len(r.slots)) && back < newest && len(found) < n; back++ {
		number := newest - back
		s := r.slot(number)
		s.mu.Lock()
		// A newer flow may have come since, or this one is still being written.
		if s.number == number && filter.Match(&s.flow) {
			found = append(found, s.flow)
		}
		s.mu.Unlock()
	}
	for i, j := 0, len(found)-1; i < j; i, j = i+1, j-1 {
		found[i], found[j] = found[j], found[i]
	}
	return found
}

func (r *Ring) slot(number uint64) *slot { return &r.slots[number%uint64(len(r.slots))] }
