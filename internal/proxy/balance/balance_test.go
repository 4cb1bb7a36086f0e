package balance

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"sluice.dev/sluice/internal/route"
)

// set is members as a test has them.
type set struct {
	names []string
	out   []bool // not ready
	loads []atomic.Int64
}

func newSet(n int) *set {
	s := &set{out: make([]bool, n), loads: make([]atomic.Int64, n)}
	for i := range n {
		s.names = append(s.names, fmt.Sprintf("reviews-v1/%d", i+1))
	}
	return s
}

func (s *set) Len() int         { return len(s.names) }
func (s *set) Ready(i int) bool { return !s.out[i] }
func (s *set) Load(i int) int64 { return s.loads[i].Load() }

func (s *set) Take(i int, below int64) bool {
	for {
		n := s.loads[i].Load()
		if n >= below {
			return false
		}
		if s.loads[i].CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *set) ready() (n int) {
	for _, out := range s.out {
		if !out {
			n++
		}
	}
	return n
}

// random is a source of which a failure shows the seed: SLUICE_TEST_SEED gives it again.
func random(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	if text := os.Getenv("SLUICE_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("SLUICE_TEST_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

func ringHash(percent int) route.Balance {
	return route.Balance{By: route.RingHash, Header: "x-user", MaxLoad: percent}
}

func TestWhoIsNotReadyIsNeverPickedWhileAnotherIs(t *testing.T) {
	r := random(t)
	for _, by := range []route.Balance{{}, {By: route.Random}, {By: route.LeastLoaded}, ringHash(125)} {
		for range 500 {
			s := newSet(1 + r.IntN(8))
			for i := range s.out {
				s.out[i] = r.IntN(2) == 0
				s.loads[i].Store(r.Int64N(5))
			}
			b := New(by, s.names)
			for range 4 {
				at := b.First(s, Draw{Turn: r.Uint64(), Random: r.Uint64(), Key: r.Uint64(), Keyed: r.IntN(4) > 0})
				switch {
				case at < 0 && s.ready() > 0:
					t.Fatalf("%v: nobody is picked of %v", by, s.out)
				case at >= 0 && s.out[at]:
					t.Fatalf("%v: %d is picked of %v", by, at, s.out)
				}
			}
		}
	}
}

func TestEachCallIsCountedOnceWhereItIsPicked(t *testing.T) {
	r := random(t)
	for _, by := range []route.Balance{{}, {By: route.Random}, {By: route.LeastLoaded}, ringHash(200)} {
		s := newSet(5)
		b := New(by, s.names)
		counts := make([]int64, 5)
		for turn := range uint64(1000) {
			counts[b.First(s, Draw{Turn: turn, Random: r.Uint64(), Key: r.Uint64(), Keyed: true})]++
		}
		for i := range counts {
			if s.Load(i) != counts[i] {
				t.Errorf("%v: %d calls at %d, and %d are counted", by, counts[i], i, s.Load(i))
			}
		}
	}
}

func TestOfTwoThatAreDrawnTheLessLoadedGetsTheCall(t *testing.T) {
	r := random(t)
	s := newSet(6)
	busiest := 3
	s.loads[busiest].Store(1_000_000)
	b := New(route.Balance{By: route.LeastLoaded}, s.names)
	for range 6000 {
		if at := b.First(s, Draw{Random: r.Uint64()}); at == busiest {
			t.Fatal("the one with the most calls under way got another")
		}
	}
	for i := range s.loads {
		if n := s.Load(i); i != busiest && (n < 1100 || n > 1300) { // 1200 each: two choices keep within a few
			t.Errorf("%d has %d calls", i, n)
		}
	}
}

func TestAtRandomEachGetsItsPart(t *testing.T) {
	r := random(t)
	s := newSet(4)
	s.out[2] = true
	b := New(route.Balance{By: route.Random}, s.names)
	for range 30_000 {
		b.First(s, Draw{Random: r.Uint64()})
	}
	for i := range s.loads {
		if n := s.Load(i); i != 2 && (n < 9_000 || n > 11_000) { // 12 standard deviations
			t.Errorf("%d has %d calls of 30000", i, n)
		}
	}
}

func TestOneThatLeavesMovesItsOwnKeysAlone(t *testing.T) {
	r := random(t)
	for range 6 {
		n := 2 + r.IntN(12)
		s := newSet(n)
		before := New(ringHash(MaxPercent), s.names)
		gone := r.IntN(n)
		left := newSet(n)
		left.names = append(left.names[:gone:gone], left.names[gone+1:]...)
		after := New(ringHash(MaxPercent), left.names)
		const keys = 2000
		moved := 0
		for range keys {
			// Nobody is loaded: each call ends at once.
			d := Draw{Key: r.Uint64(), Keyed: true}
			was := before.First(s, d)
			s.loads[was].Store(0)
			is := after.First(left, d)
			left.loads[is].Store(0)
			if s.names[was] == left.names[is] {
				continue
			}
			if moved++; was != gone {
				t.Fatalf("a key of %s went to %s when %s left", s.names[was], left.names[is], s.names[gone])
			}
		}
		// 100 points each: its part of the keys is 1/n, give or take 10 %.
		if part := float64(moved) / keys * float64(n); part > 2 || part < 0.3 {
			t.Errorf("%d of %d keys moved when one of %d left", moved, keys, n)
		}
	}
}

// MaxPercent is a bound that no single call reaches.
const MaxPercent = route.MaxMaxLoad

func TestABoundedLoadIsNeverExceeded(t *testing.T) {
	r := random(t)
	for range 50 {
		percent := route.MinMaxLoad + r.IntN(100)
		s := newSet(1 + r.IntN(8))
		b := New(ringHash(percent), s.names)
		var open []int
		for range 400 {
			if len(open) > 0 && r.IntN(3) == 0 {
				at := r.IntN(len(open))
				s.loads[open[at]].Add(-1)
				open = append(open[:at], open[at+1:]...)
				continue
			}
			at := b.First(s, Draw{Key: uint64(r.IntN(3)) * 0x123456789abcdef, Keyed: true}) // nearly all of one key
			if at < 0 {
				t.Fatal("nobody is picked")
			}
			open = append(open, at)
			if most := max((len(open)*percent+len(s.names)*100-1)/(len(s.names)*100), route.FreeLoad); s.Load(at) > int64(most) {
				t.Fatalf("%d calls at one of %d, with %d under way and a bound of %d %%: at most %d", s.Load(at), len(s.names), len(open), percent, most)
			}
		}
	}
}

func TestABoundedLoadIsNotExceededByCallsThatArriveTogether(t *testing.T) {
	const callers, members, percent = 48, 4, 125
	s := newSet(members)
	b := New(ringHash(percent), s.names)
	var highest atomic.Int64
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range 100 {
				at := b.First(s, Draw{Key: 42, Keyed: true})
				if at < 0 {
					continue // the others moved all the time
				}
				if n := s.Load(at); n > highest.Load() {
					highest.Store(n)
				}
				s.loads[at].Add(-1)
			}
		})
	}
	all.Wait()
	if most := int64((callers*percent + members*100 - 1) / (members * 100)); highest.Load() > most {
		t.Errorf("%d calls at one member, the bound is %d", highest.Load(), most)
	}
	for i := range s.loads {
		if n := s.Load(i); n != 0 {
			t.Errorf("%d calls are left at %d", n, i)
		}
	}
}

func TestPickingAllocatesNothing(t *testing.T) {
	for _, by := range []route.Balance{{}, {By: route.Random}, {By: route.LeastLoaded}, ringHash(125)} {
		s := newSet(10)
		b := New(by, s.names)
		if n := testing.AllocsPerRun(200, func() {
			if at := b.First(s, Draw{Random: 7, Key: Hash("jason"), Keyed: true}); at >= 0 {
				s.loads[at].Add(-1)
			}
		}); n != 0 {
			t.Errorf("%v: %v allocations", by, n)
		}
	}
}

func BenchmarkFirst(b *testing.B) {
	for _, by := range []route.Balance{{}, {By: route.Random}, {By: route.LeastLoaded}, ringHash(125)} {
		b.Run(string(by.By), func(b *testing.B) {
			s := newSet(10)
			balancer := New(by, s.names)
			turn := uint64(0)
			for b.Loop() {
				turn++
				at := balancer.First(s, Draw{Turn: turn, Random: mix(turn), Key: mix(turn), Keyed: true})
				s.loads[at].Add(-1)
			}
		})
	}
}
