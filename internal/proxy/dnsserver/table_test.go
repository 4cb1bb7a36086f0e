package dnsserver

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice.dev/sluice/internal/names"
)

// clock is a time that a test moves.
type clock struct{ now time.Time }

func newClock() *clock                { return &clock{time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)} }
func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }
func (c *clock) read() time.Time      { return c.now }
func numbered(kind string, i int) names.Name {
	return names.MustParse(fmt.Sprintf("%s%d.example.com", kind, i))
}

// unlimited is a table on a clock whose rate of new names is out of the way.
func unlimited(c *clock) *Table {
	return NewTable(TableConfig{Now: c.read, NewNamesPerSecond: 1e9, NewNamesBurst: 1e9})
}

func tell(t testing.TB, table *Table, n names.Name, by Naming) Addresses {
	t.Helper()
	a, err := table.Tell(n, by)
	if err != nil {
		t.Fatalf("%s: %v", n, err)
	}
	return a
}

func TestAddressesAreGivenInTurnAndFoundAgain(t *testing.T) {
	table := unlimited(newClock())
	for i := 1; i <= 300; i++ {
		n := numbered("n", i)
		a := tell(t, table, n, Naming(i%2*2))
		want := Addresses{
			V4: netip.AddrFrom4([4]byte{198, 19, byte(i >> 8), byte(i)}),
			V6: netip.MustParseAddr(fmt.Sprintf("2001:2::%x", i)),
		}
		if a != want {
			t.Fatalf("%s has %v, want %v", n, a, want)
		}
		if again := tell(t, table, n, Naming(i%3)); again != a {
			t.Fatalf("%s has %v, then %v", n, a, again)
		}
		for _, addr := range []netip.Addr{a.V4, a.V6} {
			if found, ok := table.Lookup(addr); !ok || found != n {
				t.Fatalf("%v is %q, want %q", addr, found, n)
			}
		}
	}
}

func TestOnlySyntheticAddressesHaveNames(t *testing.T) {
	table := unlimited(newClock())
	for i := range 300 {
		tell(t, table, numbered("n", i), Exactly)
	}
	for _, a := range []string{
		"198.19.0.0", "198.19.255.255", "198.18.0.1", "198.20.0.1", "8.8.8.8",
		"2001:2::", "2001:2::ffff", "2001:2:0:1::1", "2001:2::1:1", "2001:db8::1", "::ffff:198.19.0.1", "::1",
	} {
		if n, ok := table.Lookup(netip.MustParseAddr(a)); ok {
			t.Errorf("%s is %q, want no name", a, n)
		}
		if _, ok := table.Pin(netip.MustParseAddr(a)); ok {
			t.Errorf("%s could be pinned", a)
		}
	}
	if _, ok := table.Lookup(netip.Addr{}); ok {
		t.Error("the zero address has a name")
	}
	table.Unpin(netip.MustParseAddr("8.8.8.8")) // does nothing
}

func TestHalfOfTheTableIsKeptForNamesOfRules(t *testing.T) {
	c := newClock()
	table := unlimited(c)
	for i := range MaxUnruled {
		tell(t, table, numbered("stranger", i), Unnamed)
	}
	if _, err := table.Tell(numbered("stranger", MaxUnruled), Unnamed); !errors.Is(err, ErrTableFull) {
		t.Fatalf("one stranger too many: %v", err)
	}
	for i := range MaxNames - MaxUnruled {
		tell(t, table, numbered("rule", i), Exactly)
	}
	if _, err := table.Tell(numbered("rule", MaxNames), Exactly); !errors.Is(err, ErrTableFull) {
		t.Fatalf("one name too many: %v", err)
	}
	if got := table.Stats(); got.Names != MaxNames || got.Unruled != MaxUnruled || got.Full != 2 {
		t.Errorf("%+v", got)
	}

	c.pass(KeepAnswered) // not yet over
	if _, err := table.Tell(numbered("late", 0), Exactly); !errors.Is(err, ErrTableFull) {
		t.Fatalf("an address was reused within %v: %v", KeepAnswered, err)
	}
	tell(t, table, numbered("stranger", 0), Unnamed) // told again: stays
	held := addressesOf(2).V4
	if n, ok := table.Pin(held); !ok || n != numbered("stranger", 1) {
		t.Fatalf("pinned %q", n)
	}
	c.pass(time.Second)
	if got := tell(t, table, numbered("late", 0), Exactly); got != addressesOf(3) {
		t.Errorf("the address of %v was reused, want that of %v", got, addressesOf(3))
	}
	if n, ok := table.Lookup(addressesOf(3).V6); !ok || n != numbered("late", 0) {
		t.Errorf("the reused address is %q", n)
	}
	if _, ok := table.byName[numbered("stranger", 2)]; ok {
		t.Error("the name before still has an address")
	}
	for i, want := range map[int]names.Name{1: numbered("stranger", 0), 2: numbered("stranger", 1)} {
		if n, _ := table.Lookup(addressesOf(i).V4); n != want {
			t.Errorf("%v is %q, want %q", addressesOf(i).V4, n, want)
		}
	}

	// Everything else goes before what a connection holds, and then a day more.
	c.pass(KeepAnswered + time.Second)
	for i := range MaxUnruled - 1 {
		tell(t, table, numbered("new", i), Unnamed)
	}
	if n, ok := table.Lookup(held); !ok || n != numbered("stranger", 1) {
		t.Fatalf("%v of a live connection became %q", held, n)
	}
	table.Unpin(held)
	if _, err := table.Tell(numbered("new", MaxUnruled), Unnamed); !errors.Is(err, ErrTableFull) {
		t.Fatalf("the address of a connection that just ended was reused: %v", err)
	}
}

// Under a wildcard a workload chooses the names; those that a rule spells out have their
// half of the table whatever it chose, and so has the wildcard its part beside "*".
func TestNamesUnderAWildcardLeaveHalfOfTheTableToNamesThatAreSpelledOut(t *testing.T) {
	c := newClock()
	table := unlimited(c)
	for i := range MaxUnspelled {
		tell(t, table, numbered("wild", i), UnderWildcard)
	}
	if _, err := table.Tell(numbered("wild", MaxUnspelled), UnderWildcard); !errors.Is(err, ErrTableFull) {
		t.Fatalf("one name under a wildcard too many: %v", err)
	}
	for i := range MaxNames - MaxUnspelled {
		tell(t, table, numbered("exact", i), Exactly)
	}
	if got := table.Stats(); got.Names != MaxNames || got.Wild != MaxUnspelled {
		t.Errorf("%+v", got)
	}
	// A rule that spells nothing out any more makes no place for what it named.
	tell(t, table, numbered("exact", 0), UnderWildcard)
	if got := table.Stats(); got.Wild != MaxUnspelled {
		t.Errorf("%+v", got)
	}

	strangers := unlimited(c)
	for i := range MaxUnruled {
		tell(t, strangers, numbered("stranger", i), Unnamed)
	}
	if _, err := strangers.Tell(numbered("stranger", MaxUnruled), Unnamed); !errors.Is(err, ErrTableFull) {
		t.Fatalf("one stranger too many: %v", err)
	}
	for i := range MaxUnspelled - MaxUnruled {
		tell(t, strangers, numbered("wild", i), UnderWildcard)
	}
}

func TestANameChangesItsHalfWithTheRules(t *testing.T) {
	table := unlimited(newClock())
	n := numbered("n", 1)
	a := tell(t, table, n, Unnamed)
	for _, c := range []struct {
		by      Naming
		unruled int
	}{{Exactly, 0}, {Unnamed, 1}, {UnderWildcard, 0}} {
		if got := tell(t, table, n, c.by); got != a {
			t.Fatalf("the address changed from %v to %v", a, got)
		}
		if got := table.Stats().Unruled; got != c.unruled {
			t.Errorf("named %v: %d names count against strangers, want %d", c.by, got, c.unruled)
		}
	}
}

func TestNewNamesOfStrangersComeAtALimitedRate(t *testing.T) {
	c := newClock()
	table := NewTable(TableConfig{Now: c.read})
	for i := range NewNamesBurst {
		tell(t, table, numbered("n", i), Unnamed)
	}
	if _, err := table.Tell(numbered("n", NewNamesBurst), Unnamed); !errors.Is(err, ErrTooMany) {
		t.Fatalf("after the burst: %v", err)
	}
	if _, err := table.Tell(numbered("wildcard", 0), UnderWildcard); !errors.Is(err, ErrTooMany) {
		t.Fatalf("under a wildcard, after the burst: %v", err)
	}
	tell(t, table, numbered("n", 0), Unnamed)    // an old one may be asked for
	tell(t, table, numbered("rule", 0), Exactly) // and one that a rule names
	if got := table.Stats().Limited; got != 2 {
		t.Errorf("%d counted as limited, want 2", got)
	}
	c.pass(time.Second)
	for i := range NewNamesPerSecond {
		tell(t, table, numbered("later", i), Unnamed)
	}
	if _, err := table.Tell(numbered("later", NewNamesPerSecond), Unnamed); !errors.Is(err, ErrTooMany) {
		t.Errorf("after a second's worth: %v", err)
	}
}

func TestAFullTableIsAServerFailureThatSaysWhy(t *testing.T) {
	s := newServer(t)
	s.table = NewTable(TableConfig{NewNamesPerSecond: 1e-9, NewNamesBurst: 1})
	told(t, ask(t, s, "a.example.com.", 1))
	m := ask(t, s, "b.example.com.", 1)
	if code, text := extended(t, m); m.RCode != 2 || code != 0 || text != "sluice: "+ErrTooMany.Error() {
		t.Errorf("%v, extended error %d %q", m.RCode, code, text)
	}
	if s.Stats().Failed != 1 {
		t.Errorf("%+v", s.Stats())
	}
}

func TestUnpinWithoutPinPanics(t *testing.T) {
	table := unlimited(newClock())
	a := tell(t, table, numbered("n", 1), Unnamed)
	defer func() {
		if recover() == nil {
			t.Error("it did not")
		}
	}()
	table.Unpin(a.V4)
}

// A table of a model's size is asked, pinned and aged at random: an address that
// was told less than KeepAnswered ago, or that is pinned, never changes its name.
func TestNoAddressInUseChangesItsName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		table := unlimited(c)
		table.size = 16
		for i := range table.size { // full, so that every new name takes an old one's place
			table.put(i+1, numbered("old", i), class(i%2), c.now.Unix())
		}
		type use struct {
			until time.Time
			pins  int
		}
		inUse := map[names.Name]*use{}
		address := map[names.Name]netip.Addr{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			n := numbered("n", rapid.IntRange(0, 20).Draw(t, "name"))
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				c.pass(time.Duration(rapid.IntRange(0, 30).Draw(t, "hours")) * time.Hour)
			case 1:
				a, err := table.Tell(n, Naming(rapid.IntRange(0, 2).Draw(t, "naming")))
				if err != nil {
					continue
				}
				if inUse[n] == nil {
					inUse[n] = &use{}
				}
				inUse[n].until = c.now.Add(KeepAnswered)
				address[n] = a.V4
			case 2:
				if a, ok := address[n]; ok {
					if found, ok := table.Pin(a); ok && found == n {
						inUse[n].pins++
					} else if ok {
						table.Unpin(a)
					}
				}
			case 3:
				if u := inUse[n]; u != nil && u.pins > 0 {
					table.Unpin(address[n])
					u.pins--
					u.until = c.now.Add(KeepAnswered)
				}
			}
			for n, u := range inUse {
				if u.pins == 0 && c.now.After(u.until) {
					continue
				}
				if found, _ := table.Lookup(address[n]); found != n {
					t.Fatalf("%v of %s is now %q", address[n], n, found)
				}
			}
		}
	})
}

func TestManyAskAndDialAtOnce(t *testing.T) {
	table := unlimited(newClock())
	table.now = time.Now
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 2000 {
				n := numbered("n", (i*7+g)%500)
				a, err := table.Tell(n, Naming(i%2*2))
				if err != nil {
					t.Error(err)
					return
				}
				if found, ok := table.Pin(a.V6); !ok || found != n {
					t.Errorf("%v is %q, want %q", a.V6, found, n)
					return
				}
				table.Unpin(a.V4)
			}
		})
	}
	all.Wait()
	if got := table.Stats().Names; got != 500 {
		t.Errorf("%d names, want 500", got)
	}
}

func TestLookupAndPinAllocateNothing(t *testing.T) {
	table := unlimited(newClock())
	a := tell(t, table, numbered("n", 1), Exactly)
	if n := testing.AllocsPerRun(100, func() {
		table.Lookup(a.V4)
		table.Pin(a.V6)
		table.Unpin(a.V6)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	table := unlimited(newClock())
	a := tell(b, table, numbered("n", 1), Exactly)
	b.ReportAllocs()
	for b.Loop() {
		table.Lookup(a.V4)
	}
}
