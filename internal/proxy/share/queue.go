package share

import (
	"context"
	"slices"
	"time"
)

// Waiter waits for a unit, or for something that already has one.
type Waiter struct {
	member *Member
	key    any
	given  any
	wait   time.Duration
	ready  chan struct{}
	served bool // under the Stock's mu
}

// Queue begins to wait for a unit. Where one may be taken at once the Waiter is ready;
// else something that is held for nothing but its next use is reclaimed: from the member
// that holds most, or from m itself. The wait ends with Ready or Abandon. key says what
// HandOver may give the Waiter instead.
func (m *Member) Queue(key any) (*Waiter, error) {
	w, _, err := m.line(key)
	return w, err
}

// TakeIdle takes a unit. Where there is none it reclaims one that is held for nothing but its next
// use, and waits for at most so long until that is given back; where there is no such one either,
// it reports false at once.
func (m *Member) TakeIdle(most time.Duration) bool {
	if m.Try(1) {
		return true
	}
	w, reclaimed, err := m.line(nil)
	if err != nil {
		return false
	}
	if !reclaimed {
		return !w.Abandon()
	}
	end := time.NewTimer(most)
	defer end.Stop()
	select {
	case <-w.ready:
		return true
	case <-end.C:
		return !w.Abandon()
	}
}

// line is Queue; reclaimed says that something is reclaimed for w.
func (m *Member) line(key any) (_ *Waiter, reclaimed bool, _ error) {
	s := m.stock
	w := &Waiter{member: m, key: key, ready: make(chan struct{})}
	s.mu.Lock()
	if len(m.queue) >= MaxWaiting {
		s.mu.Unlock()
		return nil, false, ErrQueue
	}
	w.wait = m.wait
	m.queue = append(m.queue, w)
	if len(m.queue) == 1 {
		s.waiting = append(s.waiting, m)
		s.queued.Store(int32(len(s.waiting)))
	}
	s.serve()
	served := w.served
	s.mu.Unlock()
	if !served {
		reclaimed = m.Relieve()
	}
	return w, reclaimed, nil
}

// Ready is closed once w has a unit.
func (w *Waiter) Ready() <-chan struct{} { return w.ready }

// Given is what HandOver gave, once w is ready: nil where w has a unit for something
// new.
func (w *Waiter) Given() any { return w.given }

// Wait waits until w is ready. The error is ErrWait where that takes longer than the
// member's SetWait allows, or the cause of the context that ended before; w has no unit
// then.
func (w *Waiter) Wait(ctx context.Context) error {
	if w.wait > 0 {
		limited, cancel := context.WithTimeoutCause(ctx, w.wait, ErrWait)
		defer cancel()
		ctx = limited
	}
	var again <-chan time.Time // nothing tells of what becomes idle in the Stock beside
	if w.member.stock.beside != nil {
		tick := time.NewTicker(relieveEvery)
		defer tick.Stop()
		again = tick.C
	}
	for {
		select {
		case <-w.ready:
			return nil
		case <-again:
			w.relieveBeside()
		case <-ctx.Done():
			if w.Abandon() {
				return context.Cause(ctx)
			}
			return nil
		}
	}
}

// relieveEvery is how often the first who waits of a member looks for what is idle in the
// Stock beside.
const relieveEvery = 100 * time.Millisecond

// relieveBeside is what of Relieve concerns the Stock beside, where w is the first who waits.
func (w *Waiter) relieveBeside() {
	m := w.member
	s := m.stock
	s.mu.Lock()
	var other *Member
	if !w.served && m.queue[0] == w {
		other = s.besideOf(m)
	}
	s.mu.Unlock()
	if other != nil {
		other.yield()
	}
}

// besideOf returns the member of the Stock beside that is to yield a unit to m; nil where
// it is not that Stock alone that keeps m waiting: what is closed there would help others
// at most. The caller holds mu.
func (s *Stock) besideOf(m *Member) *Member {
	if !s.has(m, 1) || !s.lacks(m, 1) {
		return nil
	}
	return s.beside.heaviest()
}

// Abandon ends the wait. It reports false where w is ready already: what it has is the
// caller's to give back.
func (w *Waiter) Abandon() bool {
	s := w.member.stock
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.served {
		return false
	}
	w.member.remove(w)
	s.serve() // the one behind it may be served
	return true
}

// HandOver gives something that holds a unit of m to the one of m who waits longest,
// where that one waits for the same key and no member who holds less waits.
func (m *Member) HandOver(key, given any) bool {
	s := m.stock
	if s.queued.Load() == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(m.queue) == 0 || m.queue[0].key != key || s.lighterWaits(m) {
		return false
	}
	w := m.queue[0]
	m.remove(w)
	w.given, w.served = given, true
	close(w.ready)
	return true
}

// Wanted reports whether a unit that m holds for nothing but its next use is waited for:
// by m itself, or by a member that holds less.
func (m *Member) Wanted() bool {
	s := m.stock
	if s.queued.Load() == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(m.queue) > 0 || s.lighterWaits(m)
}

// Elsewhere reports whether a unit that m holds is waited for, and HandOver would not give it to
// who waits for this key: whose turn it is waits for another, or is of a member that holds less.
func (m *Member) Elsewhere(key any) bool {
	s := m.stock
	if s.queued.Load() == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(m.queue) > 0 && m.queue[0].key != key || s.lighterWaits(m)
}

func (s *Stock) lighterWaits(m *Member) bool {
	return slices.ContainsFunc(s.waiting, func(o *Member) bool { return o.used+1 < m.used && o.used < o.max })
}

// Relieve begins to make a unit free for m, of what is held for nothing but its next
// use: by the member that holds most, where that is not m, else by m; and where it is the
// Stock beside that leaves none, by the member that holds most of that. Where m holds more than
// it may, since SetMax, that is as many units as are too many. It reports whether there was any.
func (m *Member) Relieve() bool {
	s := m.stock
	s.mu.Lock()
	own := max(1, m.used+1-m.max)
	heaviest, need := m, own
	if m.used < m.max { // else nothing of another's helps
		need = max(need, s.used+1-s.common)
		for _, o := range s.members {
			if o.used > heaviest.used {
				heaviest = o
			}
		}
	}
	if heaviest.used <= m.used+1 {
		heaviest, need = m, own // nobody holds more in earnest
	}
	other := s.besideOf(m)
	s.mu.Unlock()
	if other != nil && other.yield() {
		return true
	}
	freed := 0
	for freed < need && heaviest.yield() {
		freed++
	}
	return freed > 0 || heaviest != m && m.yield()
}

// heaviest returns the member that holds most; nil where nobody holds any. The caller holds
// mu.
func (s *Stock) heaviest() (m *Member) {
	for _, o := range s.members {
		if o.used > 0 && (m == nil || o.used > m.used) {
			m = o
		}
	}
	return m
}

func (m *Member) yield() bool { return m.reclaim != nil && m.reclaim() }

// serve gives free units to who waits: member by member in turn, the longest waiter of
// each. The caller holds mu.
func (s *Stock) serve() {
	for i := 0; i < len(s.waiting); {
		m := s.waiting[i]
		if !s.may(m, 1) {
			i++
			continue
		}
		w := m.queue[0]
		m.remove(w)
		if len(m.queue) > 0 { // its next one comes after those of the others
			s.waiting = append(slices.Delete(s.waiting, i, i+1), m)
		}
		s.used++
		m.used++
		w.served = true
		close(w.ready)
		i = 0
	}
}

// remove takes w out of the queue of m, and m out of those that wait. The caller holds
// mu.
func (m *Member) remove(w *Waiter) {
	s := m.stock
	at := slices.Index(m.queue, w)
	m.queue = slices.Delete(m.queue, at, at+1)
	if len(m.queue) == 0 {
		s.waiting = slices.DeleteFunc(s.waiting, func(o *Member) bool { return o == m })
		s.queued.Store(int32(len(s.waiting)))
	}
}
