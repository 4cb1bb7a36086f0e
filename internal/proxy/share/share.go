// Package share divides what a process has only so much of (descriptors, handshakes,
// memory) among its workloads. Gate, proof, sniff and the pools take units of a Stock
// before they use what it stands for. It never opens or closes what a unit stands for,
// and never lets a workload that holds little wait for one that holds much.
package share

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a Stock.
const (
	// KeptFree is which part of a Stock only members who hold little may take: one in
	// four units, so that a new workload always finds what it begins with.
	KeptFree = 4
	// minFloors is among how many members what is kept free is divided at least.
	minFloors = 4
	// MaxWaiting bounds the waiters of one member; who comes then is turned away.
	MaxWaiting = 4096
)

// Why no unit was taken.
var (
	ErrQueue = errors.New("too many are waiting already")
	ErrWait  = errors.New("none became free in time")
)

// Config is a Stock's.
type Config struct {
	Units int
	// Beside, where not nil, is another Stock whose units are made of the same: of both
	// together no more are taken than SetTogether says, and of that too a quarter is kept
	// free. A Stock can count on what the other's Units leave of it.
	Beside *Stock
	// Alone says that there is one member, ever, which may have all units.
	Alone bool
}

// Stock is so many units of one kind, which its members share. A quarter is kept free
// for members who hold less than their part of it. Of the rest a member may have what
// everybody's equal part is, and more for as long as it holds fewer than are free (the
// dynamic threshold of Choudhury and Hahne, 1998). So one that is alone may have three
// quarters, of two beside a quiet third each has a quarter, and who wakes up or comes
// next finds units at once. It is safe for concurrent use.
type Stock struct {
	units  int
	common int // units, without what is kept free

	alone bool

	beside   *Stock // which shares mu; nil: none
	together int    // that may be taken of both

	mu      *sync.Mutex
	used    int
	floor   int // what each member may have in any case
	members []*Member
	waiting []*Member    // whose queue is not empty; the next to be served first
	queued  atomic.Int32 // len(waiting), to be looked at without mu
}

// Member is what one workload holds of a Stock.
type Member struct {
	stock   *Stock
	reclaim func() bool

	// Under the Stock's mu.
	used  int
	max   int
	wait  time.Duration // bounds each wait; 0: the context alone does
	left  bool
	queue []*Waiter // first come, first served
}

// NewStock returns a Stock of which nothing is taken.
func NewStock(c Config) *Stock {
	s := &Stock{units: max(c.Units, 1), alone: c.Alone, mu: new(sync.Mutex)}
	s.common = s.commonOf(s.units)
	s.share()
	if o := c.Beside; o != nil {
		s.beside, s.mu = o, o.mu
		s.mu.Lock()
		o.beside = s
		s.mu.Unlock()
		s.SetTogether(s.units + o.units)
	}
	return s
}

// commonOf is what of n units is not kept free.
func (s *Stock) commonOf(n int) int {
	if s.alone {
		return n
	}
	return max(n-n/KeptFree, 1)
}

// SetTogether says how many units of s and of the Stock beside it may be taken. What is
// taken already stays so.
func (s *Stock) SetTogether(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.together, s.beside.together = n, n
	s.serve()
	s.beside.serve()
}

// Join adds a member. max, where not 0, bounds what it may hold. reclaim, where not nil,
// begins to give back one unit that is held for nothing but the next use, such as an idle
// connection, and reports whether there was one. It is called without a lock of the
// Stock, by whoever needs the unit.
func (s *Stock) Join(max int, reclaim func() bool) *Member {
	m := &Member{stock: s, reclaim: reclaim}
	s.mu.Lock()
	defer s.mu.Unlock()
	m.bound(max)
	s.members = append(s.members, m)
	s.share()
	return m
}

// Leave ends the membership. What m still holds is given back by Give as before.
func (m *Member) Leave() {
	s := m.stock
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.left {
		return
	}
	m.left = true
	s.members = slices.DeleteFunc(s.members, func(o *Member) bool { return o == m })
	s.share()
	s.serve()
}

// SetMax changes what m may hold; 0 means that only the others bound it. What it holds
// already it keeps.
func (m *Member) SetMax(max int) {
	m.stock.mu.Lock()
	defer m.stock.mu.Unlock()
	m.bound(max)
	m.stock.serve()
}

// SetWait changes how long a Waiter may wait; 0 leaves it to its context.
func (m *Member) SetWait(wait time.Duration) {
	m.stock.mu.Lock()
	defer m.stock.mu.Unlock()
	m.wait = wait
}

// MaxWait is what SetWait said.
func (m *Member) MaxWait() time.Duration {
	m.stock.mu.Lock()
	defer m.stock.mu.Unlock()
	return m.wait
}

func (m *Member) bound(max int) {
	if m.max = max; max <= 0 {
		m.max = m.stock.units
	}
}

// share says what each member may have in any case: what is kept free serves them all,
// and one more who may come.
func (s *Stock) share() {
	s.floor = max((s.units-s.common)/max(minFloors, len(s.members)+1), 1)
}

// Try takes n units where m may have them now and nobody of m waits.
func (m *Member) Try(n int) bool {
	s := m.stock
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(m.queue) > 0 || !s.may(m, n) {
		return false
	}
	s.used += n
	m.used += n
	return true
}

// may reports whether m may take n units.
func (s *Stock) may(m *Member, n int) bool { return s.has(m, n) && !s.lacks(m, n) }

// has reports whether m may take n units, as far as s itself goes.
func (s *Stock) has(m *Member, n int) bool {
	switch {
	case m.used+n > m.max || s.used+n > s.units:
		return false
	case s.little(m, n):
		return true
	case s.used+n > s.common:
		return false
	}
	return m.used+n <= max(s.common/max(len(s.members), 1), s.common-s.used-n+1)
}

// lacks reports whether the Stock beside leaves m fewer than n more units. The caller holds
// mu.
func (s *Stock) lacks(m *Member, n int) bool {
	if s.beside == nil {
		return false
	}
	of := s.together
	if !s.little(m, n) {
		of = s.commonOf(of)
	}
	return s.used+s.beside.used+n > of
}

// little reports whether m would hold so little with n more units that it may have what is
// kept free: at most half of what is left, so that something always is.
func (s *Stock) little(m *Member, n int) bool {
	return m.used+n <= min(s.floor, s.units-s.used-n+1)
}

// Give gives n units back.
func (m *Member) Give(n int) {
	s := m.stock
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
	m.used -= n
	if m.used < 0 {
		panic("share: a unit is given back twice")
	}
	s.serve()
	if s.beside != nil {
		s.beside.serve()
	}
}

// Take takes a unit, and waits for one as Waiter.Wait does.
func (m *Member) Take(ctx context.Context) error {
	if m.Try(1) {
		return nil
	}
	w, err := m.Queue(nil)
	if err != nil {
		return err
	}
	return w.Wait(ctx)
}

// Used returns how many units m holds.
func (m *Member) Used() int {
	m.stock.mu.Lock()
	defer m.stock.mu.Unlock()
	return m.used
}

// Waiting returns how many of m wait.
func (m *Member) Waiting() int {
	m.stock.mu.Lock()
	defer m.stock.mu.Unlock()
	return len(m.queue)
}

// Used returns how many units are taken.
func (s *Stock) Used() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}
