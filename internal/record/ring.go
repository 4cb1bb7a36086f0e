package record

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// RingSize is how many closed records a Ring keeps, some 0.6 kB each with what they
// hold; older ones are forgotten.
const RingSize = 4096

// Ring is a Sink that keeps RingSize records of one process and hands each new one to
// whoever follows. While it is full a record takes the place of the oldest one of the
// workload that has most, so that those who make many take none from those who make
// few: of three workloads each has its last 1,365. Adding takes no allocation for a
// workload that has records in it, and waits for no follower. The zero Ring is not usable:
// see NewRing.
type Ring struct {
	added     atomic.Uint64 // flows that may be read, or were
	slots     []slot
	followers followers

	mu     sync.Mutex
	taken  uint64            // the number of the last record that was given a slot
	next   int               // the first slot that was never used
	newer  []int             // by slot: the next newer one of the same workload; -1: none
	shares map[string]*share // by workload
	heap   []*share          // the one with most first
}

// slot is one record. Its number orders records; a late writer that was overtaken in
// its slot does not overwrite the newer record.
type slot struct {
	mu     sync.Mutex
	number uint64 // 0: never written
	flow   Record
}

// share is what the ring holds of one workload.
type share struct {
	workload       string
	count          int
	oldest, newest int
	at             int // in the heap
}

// NewRing returns an empty ring of RingSize flows.
func NewRing() *Ring { return newRing(RingSize) }

func newRing(size int) *Ring {
	return &Ring{slots: make([]slot, size), newer: make([]int, size), shares: make(map[string]*share)}
}

// Closed implements Sink: it puts a copy of f into the ring and hands it to the
// followers. It never waits for one of them.
func (r *Ring) Closed(f *Record) {
	at, number := r.take(f.Workload)
	s := &r.slots[at]
	s.mu.Lock()
	if s.number < number {
		s.number, s.flow = number, *f
	}
	s.mu.Unlock()
	r.followers.send(f)
	r.added.Add(1)
}

// take gives a workload a slot for its next record, and the number of that.
func (r *Ring) take(workload string) (at int, number uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.shares[workload]
	if r.next < len(r.slots) {
		at = r.next
		r.next++
	} else {
		from := of
		if most := r.heap[0]; of == nil || most.count > of.count {
			from = most
		}
		at = r.release(from)
	}
	if of == nil || of.count == 0 {
		of = &share{workload: workload, oldest: at, at: len(r.heap)}
		r.shares[workload] = of
		r.heap = append(r.heap, of)
	} else {
		r.newer[of.newest] = at
	}
	of.newest, r.newer[at] = at, -1
	of.count++
	r.up(of.at)
	r.taken++
	return at, r.taken
}

// release takes its oldest slot from a workload.
func (r *Ring) release(of *share) (at int) {
	at = of.oldest
	of.oldest = r.newer[at]
	of.count--
	r.down(of.at)
	if of.count == 0 {
		last := len(r.heap) - 1
		at := of.at
		r.swap(at, last)
		r.heap[last] = nil
		r.heap = r.heap[:last]
		if at < last {
			r.down(at)
			r.up(at)
		}
		delete(r.shares, of.workload)
	}
	return at
}

func (r *Ring) up(i int) {
	for i > 0 && r.heap[(i-1)/2].count < r.heap[i].count {
		r.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (r *Ring) down(i int) {
	for {
		most := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(r.heap); child++ {
			if r.heap[child].count > r.heap[most].count {
				most = child
			}
		}
		if most == i {
			return
		}
		r.swap(i, most)
		i = most
	}
}

func (r *Ring) swap(i, j int) {
	r.heap[i], r.heap[j] = r.heap[j], r.heap[i]
	r.heap[i].at, r.heap[j].at = i, j
}

// Dropped implements Sink: it returns how many records followers lost because they
// read too slowly. The ring itself takes every one.
func (r *Ring) Dropped() uint64 { return r.followers.dropped.Load() }

// Added returns how many flows were ever added. Each of them was in the ring and with
// the followers before it counts.
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
// oldest of them first. It is for people who ask, as Get is.
func (r *Ring) Recent(n int, filter Filter) []Record {
	type numbered struct {
		number uint64
		flow   Record
	}
	var found []numbered
	for i := range r.slots {
		s := &r.slots[i]
		s.mu.Lock()
		if s.number != 0 && filter.Match(&s.flow) {
			found = append(found, numbered{s.number, s.flow})
		}
		s.mu.Unlock()
	}
	slices.SortFunc(found, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	found = found[max(0, len(found)-max(n, 0)):]
	flows := make([]Record, len(found))
	for i := range found {
		flows[i] = found[i].flow
	}
	return flows
}
