package share

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fill takes units until there are no more, and returns how many it got.
func fill(m *Member) (n int) {
	for m.Try(1) {
		n++
	}
	return n
}

func TestAMemberAloneHasThreeQuartersAndTheOnlyOneEverHasAll(t *testing.T) {
	if n := fill(NewStock(Config{Units: 768}).Join(0, nil)); n != 576 {
		t.Errorf("one alone has %d of 768", n)
	}
	if n := fill(NewStock(Config{Units: 768, Alone: true}).Join(0, nil)); n != 768 {
		t.Errorf("the only one has %d of 768", n)
	}
	if n := fill(NewStock(Config{Units: 768}).Join(5, nil)); n != 5 {
		t.Errorf("one that may have 5 has %d", n)
	}
}

func TestTwoThatTakeAllLeaveAThirdItsPart(t *testing.T) {
	s := NewStock(Config{Units: 768})
	a, b, c := s.Join(0, nil), s.Join(0, nil), s.Join(0, nil)
	for more := true; more; {
		more = a.Try(1)
		more = b.Try(1) || more
	}
	if a.Used() != 192 || b.Used() != 192 {
		t.Errorf("two that take all have %d and %d, want 192 each", a.Used(), b.Used())
	}
	if n := fill(c); n < 192 {
		t.Errorf("the third has %d, want its part of 576", n)
	}
}

// However many there are and whatever they take, who comes next begins.
func TestWhoComesNextFindsUnitsAtOnce(t *testing.T) {
	s := NewStock(Config{Units: 1024})
	for i := range 10 {
		if n := fill(s.Join(0, nil)); n == 0 {
			t.Fatalf("member %d finds nothing: %d of 1024 are taken", i, s.Used())
		}
		if i == 0 && s.Used() != 1024-1024/KeptFree {
			t.Errorf("%d are taken by the first, want all but a quarter", s.Used())
		}
	}
}

func TestSeveralUnitsAtATimeKeepToTheSameBounds(t *testing.T) {
	s := NewStock(Config{Units: 768})
	a, b, c := s.Join(0, nil), s.Join(0, nil), s.Join(0, nil)
	for more := true; more; {
		more = a.Try(4)
		more = b.Try(4) || more
	}
	if a.Used() > 192+4 || b.Used() > 192+4 || !c.Try(4) {
		t.Errorf("%d and %d are taken by fours", a.Used(), b.Used())
	}
}

// What two Stocks have together is neither's: what one gives back goes to who waits for
// the other, and who holds little finds some of both.
func TestTwoStocksOfTheSameKindShareWhatThereIs(t *testing.T) {
	down := NewStock(Config{Units: 80, Alone: true})
	up := NewStock(Config{Units: 60, Alone: true, Beside: down})
	down.SetTogether(100)
	closed := 0
	d := down.Join(0, func() bool { closed++; return true })
	u := up.Join(0, nil)
	if n := fill(d); n != 80 {
		t.Errorf("one has %d of its 80", n)
	}
	if n := fill(u); n != 20 {
		t.Errorf("the other has %d, want the 20 that are left", n)
	}
	w := queued(t, u, nil)
	if closed != 1 || ready(w) {
		t.Errorf("%d of what is idle in the other were closed, want one", closed)
	}
	d.Give(1)
	if !ready(w) {
		t.Error("what one gave back did not go to who waits for the other")
	}
	u.Give(21)
	if n := fill(d); n != 1 {
		t.Errorf("it has %d more, want the one up to its own 80", n)
	}
	if n := fill(u); n != 20 {
		t.Errorf("the other has %d", n)
	}
	down.SetTogether(120)
	if n := fill(u); n != 20 {
		t.Errorf("of 20 more it has %d", n)
	}
}

// Of what two Stocks have together a quarter is kept for those who hold little.
func TestWhoComesNextFindsUnitsOfBothStocks(t *testing.T) {
	down := NewStock(Config{Units: 1000})
	up := NewStock(Config{Units: 1000, Beside: down})
	down.SetTogether(1200)
	d, u := down.Join(0, nil), up.Join(0, nil)
	if n := fill(d) + fill(u); n < 900 || n > 900+1000/KeptFree {
		t.Errorf("one that takes all has %d, want what is not kept free of 1,200, and its floor", n)
	}
	for range 5 {
		if !down.Join(0, nil).Try(1) || !up.Join(0, nil).Try(1) {
			t.Fatalf("the next finds nothing: %d and %d are taken", down.Used(), up.Used())
		}
	}
}

// One that has its part of its own Stock waits for others of that: what is idle in the
// Stock beside would be closed for nothing.
func TestWhoHasItsPartHasNothingClosedInTheStockBeside(t *testing.T) {
	down := NewStock(Config{Units: 40})
	up := NewStock(Config{Units: 40, Beside: down})
	down.SetTogether(60)
	closed := 0
	for range 3 {
		light := down.Join(0, func() bool { closed++; return true })
		for range 10 {
			light.Try(1)
		}
	}
	heavy, other := up.Join(0, nil), up.Join(0, nil)
	if n := fill(heavy); n != 15 || down.Used() != 30 {
		t.Fatalf("it has %d of one, others %d of the other: want 15 and 30, all that is not kept free", n, down.Used())
	}
	w := queued(t, heavy, nil)
	heavy.Relieve()
	if closed != 0 || ready(w) {
		t.Errorf("%d of what others have idle were closed for one that has its part", closed)
	}
	for other.Try(1) {
	}
	queued(t, other, nil)
	if closed != 1 {
		t.Errorf("%d were closed for one that the other Stock alone keeps waiting, want one", closed)
	}
}

// What is idle in the Stock beside is not handed over: who waits has to look again.
func TestWhatBecomesIdleInTheStockBesideIsReclaimedForWhoWaitsAlready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := NewStock(Config{Units: 80, Alone: true})
		up := NewStock(Config{Units: 60, Alone: true, Beside: down})
		down.SetTogether(100)
		var idle atomic.Int32
		var d *Member
		d = down.Join(0, func() bool {
			if idle.Load() == 0 {
				return false
			}
			idle.Add(-1)
			d.Give(1)
			return true
		})
		u := up.Join(0, nil)
		u.SetWait(time.Minute)
		fill(d)
		fill(u)
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if err := u.Take(t.Context()); err != nil {
					t.Errorf("it waited in vain: %v", err)
				}
			})
		}
		time.Sleep(time.Second)
		idle.Store(10)
		all.Wait()
		if left := idle.Load(); left != 7 {
			t.Errorf("of 10 idle ones %d are left, want all but three", left)
		}
	})
}

func queued(t *testing.T, m *Member, key any) *Waiter {
	t.Helper()
	w, err := m.Queue(key)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func ready(w *Waiter) bool {
	select {
	case <-w.Ready():
		return true
	default:
		return false
	}
}

// One with many waiters does not keep another's only one behind them all.
func TestWaitersAreServedMemberByMemberAndEachInOrder(t *testing.T) {
	s := NewStock(Config{Units: 4, Alone: true})
	a, b := s.Join(0, nil), s.Join(0, nil)
	a.Try(1)
	a.Try(1)
	b.Try(1)
	b.Try(1)
	a1, a2, a3, b1 := queued(t, a, nil), queued(t, a, nil), queued(t, a, nil), queued(t, b, nil)
	a.Give(1)
	if !ready(a1) || ready(a2) || ready(b1) {
		t.Fatal("the first unit does not go to who came first")
	}
	b.Give(1)
	if !ready(b1) || ready(a2) {
		t.Fatal("the second unit does not go to the other member")
	}
	a.Give(1)
	if !ready(a2) || ready(a3) {
		t.Fatal("the third unit does not go to the next")
	}
	if !a3.Abandon() || a2.Abandon() {
		t.Error("only who waits still can leave")
	}
	a.Give(2 - 1)
	b.Give(2)
	if s.Used() != 1 {
		t.Errorf("%d are taken", s.Used())
	}
}

func TestWhoLeavesTheQueueIsNotServedAndTheNextOneIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStock(Config{Units: 1, Alone: true})
		m := s.Join(0, nil)
		m.Try(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := m.Take(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a wait that is over: %v", err)
		}
		m.SetWait(2 * time.Second)
		if err := m.Take(t.Context()); !errors.Is(err, ErrWait) {
			t.Errorf("a wait that the member bounds: %v", err)
		}
		done := make(chan error, 1)
		go func() { done <- m.Take(t.Context()) }()
		synctest.Wait()
		m.Give(1)
		if err := <-done; err != nil || m.Used() != 1 {
			t.Errorf("%v, %d are taken", err, m.Used())
		}
	})
}

func TestAQueueIsBounded(t *testing.T) {
	m := NewStock(Config{Units: 1, Alone: true}).Join(0, nil)
	m.Try(1)
	for range MaxWaiting {
		queued(t, m, nil)
	}
	if _, err := m.Queue(nil); !errors.Is(err, ErrQueue) {
		t.Errorf("one more: %v", err)
	}
	if m.Try(1) {
		t.Error("one that does not wait goes before those that do")
	}
}

func TestWhatIsHandedOverGoesToWhoWaitsLongestAndForIt(t *testing.T) {
	s := NewStock(Config{Units: 2, Alone: true})
	m := s.Join(0, nil)
	m.Try(1)
	m.Try(1)
	if m.HandOver("a", "it") || m.Wanted() {
		t.Error("something is handed to nobody")
	}
	first, second := queued(t, m, "a"), queued(t, m, "b")
	if m.HandOver("b", "it") {
		t.Error("who came second is served first")
	}
	if !m.HandOver("a", "it") || !ready(first) || first.Given() != "it" || m.Used() != 2 {
		t.Errorf("given %v, %d are taken", first.Given(), m.Used())
	}
	if !m.Wanted() {
		t.Error("nobody wants what the second waits for")
	}
	m.Give(1)
	if !ready(second) || second.Given() != nil {
		t.Error("the second has no unit")
	}
}

// One that had the whole stock while it was alone gives back what is idle, and lends
// nothing on to its own, as soon as another needs it.
func TestWhatIsIdleOfTheHeaviestIsReclaimedFirst(t *testing.T) {
	s := NewStock(Config{Units: 64})
	idle := 0
	var heavy *Member
	heavy = s.Join(0, func() bool {
		if idle == 0 {
			return false
		}
		idle--
		heavy.Give(1)
		return true
	})
	idle = fill(heavy) / 2
	light := s.Join(0, func() bool { t.Error("the lighter one gives something back"); return false })
	got := fill(light)
	for range 20 {
		if !ready(queued(t, light, nil)) {
			t.Fatalf("after %d the lighter one waits, beside %d idle ones", light.Used(), idle)
		}
	}
	if light.Used() != got+20 {
		t.Errorf("it has %d, had %d", light.Used(), got)
	}
	for idle > 0 {
		queued(t, light, nil)
	}
	// Nothing is idle any more, both wait: what becomes idle goes to the lighter one.
	for light.Used()+1 < heavy.Used() {
		w := queued(t, light, nil)
		own := queued(t, heavy, "pool")
		if heavy.HandOver("pool", "it") || !heavy.Wanted() {
			t.Fatalf("the heavier one (%d) keeps what the lighter one (%d) waits for", heavy.Used(), light.Used())
		}
		heavy.Give(1)
		if !ready(w) {
			t.Fatal("the lighter one is not served")
		}
		own.Abandon()
	}
}

func TestAMaximumThatChangesHoldsForWhatIsTakenNext(t *testing.T) {
	m := NewStock(Config{Units: 16, Alone: true}).Join(2, nil)
	fill(m)
	w := queued(t, m, nil)
	m.SetMax(4)
	if !ready(w) || fill(m) != 1 {
		t.Errorf("%d are held under a maximum of 4", m.Used())
	}
	m.SetMax(1)
	m.Give(2)
	if m.Try(1) {
		t.Error("more is taken than the new maximum")
	}
	m.SetMax(0)
	if n := fill(m); n != 14 {
		t.Errorf("%d more without a maximum", n)
	}
}

func TestWhatALeavingMemberHeldComesBack(t *testing.T) {
	s := NewStock(Config{Units: 8})
	a, b := s.Join(0, nil), s.Join(0, nil)
	a.Try(3)
	a.Leave()
	a.Leave()
	a.Give(3)
	if n := fill(b); n != 6 || s.Used() != 6 {
		t.Errorf("the other takes %d, %d are counted", n, s.Used())
	}
}

func TestManyAtOnceLoseNoUnit(t *testing.T) {
	s := NewStock(Config{Units: 8})
	var all sync.WaitGroup
	for range 4 {
		m := s.Join(0, nil)
		for i := range 8 {
			all.Go(func() {
				for j := range 200 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*j%7)*10*time.Microsecond)
					if m.Take(ctx) == nil {
						m.Give(1)
					}
					cancel()
				}
			})
		}
	}
	all.Wait()
	if s.Used() != 0 || len(s.waiting) != 0 {
		t.Errorf("%d are taken, %d wait", s.Used(), len(s.waiting))
	}
}

func TestTakingAndGivingAllocatesNothing(t *testing.T) {
	m := NewStock(Config{Units: 8}).Join(0, nil)
	if n := testing.AllocsPerRun(100, func() { m.Try(1); m.Wanted(); m.Give(1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTryAndGive(b *testing.B) {
	m := NewStock(Config{Units: 1024}).Join(0, nil)
	for b.Loop() {
		m.Try(1)
		m.Give(1)
	}
}

func TestAUnitIsWaitedForElsewhereWhereHandOverDoesNotGiveIt(t *testing.T) {
	m := NewStock(Config{Units: 1, Alone: true}).Join(0, nil)
	m.Try(1)
	if m.Elsewhere("a") {
		t.Error("nobody waits")
	}
	first := queued(t, m, "b")
	queued(t, m, "a")
	if !m.Elsewhere("a") || m.Elsewhere("b") {
		t.Error("the first who waits does so for b")
	}
	first.Abandon()
	if m.Elsewhere("a") {
		t.Error("the first who waits does so for a")
	}
	s := NewStock(Config{Units: 4, Alone: true})
	heavy := s.Join(0, nil)
	fill(heavy)
	light := s.Join(0, nil)
	queued(t, light, "a")
	if !heavy.Elsewhere("a") || light.Elsewhere("a") {
		t.Error("who holds less waits for what the other has")
	}
}

// A limit that was lowered is reached by giving back what is idle, however much that is.
func TestAMaximumThatWasLoweredIsReachedByGivingBackWhatIsIdle(t *testing.T) {
	idle := 3
	var m *Member
	m = NewStock(Config{Units: 16, Alone: true}).Join(0, func() bool {
		if idle == 0 {
			return false
		}
		idle--
		m.Give(1)
		return true
	})
	m.Try(3)
	m.SetMax(2)
	if w := queued(t, m, nil); !ready(w) || m.Used() != 2 || idle != 1 {
		t.Errorf("%d are held under a maximum of 2, %d of them idle", m.Used(), idle)
	}
}
