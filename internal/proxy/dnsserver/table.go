package dnsserver

import (
	"container/list"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"sluice.dev/sluice/internal/names"
)

// Bounds of a Table.
const (
	// MaxNames is how many names one workload's table holds: every index but
	// the first and the last of 198.19.0.0/16.
	MaxNames = 1<<16 - 2
	// MaxUnspelled is how many of them may be names that no rule spells out: the other
	// half is kept for mesh services and for names that rules do spell out.
	MaxUnspelled = MaxNames / 2
	// MaxUnruled is how many of those may be names that not even a wildcard other than
	// "*" names.
	MaxUnruled = MaxUnspelled / 2
	// KeepAnswered is how long an address stays with its name after the last
	// answer that told it, and after the last connection on it ended.
	KeepAnswered = 24 * time.Hour
	// NewNamesPerSecond and NewNamesBurst are the default rate of new names that are at
	// most under a wildcard, of answers and of the proxy's own look-ups. What a workload
	// writes into names under *.example.com, 156 bytes each, reaches whoever answers for
	// example.com: 936,000 bytes a minute, 1,092,000 in the first. An EgressPolicy's
	// maxNewNamesPerMinute lowers it: 10 are 1,560 bytes a minute.
	NewNamesPerSecond = 100
	NewNamesBurst     = 1000
)

// Why a name got no address.
var (
	ErrTableFull = errors.New("the table of synthetic addresses is full")
	ErrTooMany   = errors.New("too many new names in too short a time")
)

// Prefixes of synthetic addresses. Both hold the same index in their last 16
// bits: 198.19.H.L and 2001:2::HHLL.
var (
	prefix4 = [2]byte{198, 19}
	prefix6 = [14]byte{0x20, 0x01, 0x00, 0x02}
)

// TableConfig is what a Table needs. The zero value works.
type TableConfig struct {
	Now               func() time.Time // time.Now where nil
	NewNamesPerSecond float64          // NewNamesPerSecond where 0
	NewNamesBurst     int              // NewNamesBurst where 0
}

// Table holds the synthetic addresses of one workload: one index for each name,
// under which it has an address in both families. Addresses are given out in
// turn, so an index is used again only when all others were. It is safe for
// concurrent use; Lookup, Pin and Unpin take no lock.
type Table struct {
	now     func() time.Time
	newName *rate.Limiter
	size    int // names at most; half of them unruled

	// pages is indexed by the two halves of an index. A page is made at its
	// first use, so an idle workload costs 2 KB.
	pages [256]atomic.Pointer[page]

	mu      sync.RWMutex
	byName  map[names.Name]*entry
	queue   [classes]list.List // of *entry in the order of entry.queued, by class
	next    int                // the index that is tried first
	version uint64             // counts changes, for Save
	saved   uint64             // version that the last Save or Load saw

	limited atomic.Uint64 // names refused with ErrTooMany
	full    atomic.Uint64 // names refused with ErrTableFull
}

type page [256]atomic.Pointer[entry]

// class says against which part of the table an entry counts. They are in the files.
type class uint8

const (
	unruled class = iota
	spelled       // a mesh service, or a name that a rule spells out
	wild          // under a wildcard other than "*"
	classes
)

type entry struct {
	name  names.Name
	index int

	// used is when the address was last told or its last connection ended, in
	// Unix seconds.
	used atomic.Int64
	// pins counts live connections; retired says that the entry is gone.
	pins atomic.Int32

	// Guarded by Table.mu.
	class  class
	place  *list.Element
	queued int64 // when it was put at the end of its queue, in Unix seconds
}

const retired = -1 << 30

// NewTable makes an empty table.
func NewTable(c TableConfig) *Table {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewNamesPerSecond == 0 {
		c.NewNamesPerSecond = NewNamesPerSecond
	}
	if c.NewNamesBurst == 0 {
		c.NewNamesBurst = NewNamesBurst
	}
	return &Table{
		now:     c.Now,
		newName: rate.NewLimiter(rate.Limit(c.NewNamesPerSecond), c.NewNamesBurst),
		size:    MaxNames,
		byName:  make(map[names.Name]*entry),
		next:    1,
	}
}

// Addresses is what a name is answered with: one address in each family.
type Addresses struct{ V4, V6 netip.Addr }

func addressesOf(index int) Addresses {
	var v6 [16]byte
	copy(v6[:], prefix6[:])
	v6[14], v6[15] = byte(index>>8), byte(index)
	return Addresses{
		V4: netip.AddrFrom4([4]byte{prefix4[0], prefix4[1], byte(index >> 8), byte(index)}),
		V6: netip.AddrFrom16(v6),
	}
}

// indexOf returns the index inside a synthetic address, 0 for any other.
func indexOf(a netip.Addr) int {
	if a.Is4() {
		b := a.As4()
		if [2]byte(b[:2]) != prefix4 {
			return 0
		}
		return int(b[2])<<8 | int(b[3])
	}
	if !a.Is6() {
		return 0
	}
	b := a.As16()
	if [14]byte(b[:14]) != prefix6 {
		return 0
	}
	return int(b[14])<<8 | int(b[15])
}

// Naming is what knows a name.
type Naming uint8

const (
	Unnamed       Naming = iota // nothing does, or "*"
	UnderWildcard               // a rule's wildcard other than "*"
	Exactly                     // a mesh service, or a rule that spells it out
)

// Tell returns the addresses of n, and gives it some where it has none. Unless it is named
// Exactly, these are out of one half of the table, and given at a limited rate. The error
// is ErrTableFull or ErrTooMany.
func (t *Table) Tell(n names.Name, by Naming) (Addresses, error) {
	now := t.now()
	want := [...]class{Unnamed: unruled, UnderWildcard: wild, Exactly: spelled}[by]
	t.mu.RLock()
	e := t.byName[n]
	if e != nil && e.class == want {
		// Still under the lock, so that it cannot be reclaimed in between.
		e.used.Store(now.Unix())
		t.mu.RUnlock()
		return addressesOf(e.index), nil
	}
	t.mu.RUnlock()
	return t.tellSlowly(n, want, by == Exactly, now)
}

func (t *Table) tellSlowly(n names.Name, want class, unlimited bool, now time.Time) (Addresses, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byName[n]; e != nil {
		if e.class != want && t.moves(e.class, want) {
			t.queue[e.class].Remove(e.place)
			e.class = want
			t.enqueue(e, now.Unix())
			t.version++
		}
		e.used.Store(now.Unix())
		return addressesOf(e.index), nil
	}
	if !unlimited && !t.newName.AllowN(now, 1) {
		t.limited.Add(1)
		return Addresses{}, ErrTooMany
	}
	index := t.free(want, now.Unix())
	if index == 0 {
		t.full.Add(1)
		return Addresses{}, ErrTableFull
	}
	t.put(index, n, want, now.Unix())
	t.version++
	return addressesOf(index), nil
}

// put makes the entry of a free index.
func (t *Table) put(index int, n names.Name, c class, used int64) {
	e := &entry{name: n, index: index, class: c}
	e.used.Store(used)
	t.byName[n] = e
	t.enqueue(e, used)
	p := t.pages[index>>8].Load()
	if p == nil {
		p = new(page)
		t.pages[index>>8].Store(p)
	}
	p[index&0xff].Store(e)
}

func (t *Table) enqueue(e *entry, now int64) {
	e.queued = now
	e.place = t.queue[e.class].PushBack(e)
}

// free returns an index that no name has, 0 when there is none: one that is
// free, else that of an entry whose time is over.
func (t *Table) free(want class, now int64) int {
	if want == unruled && t.queue[unruled].Len() >= t.size/4 {
		return t.reclaim(unruled, now)
	}
	if want != spelled && t.unspelled() >= t.size/2 {
		if index := t.reclaim(unruled, now); index != 0 {
			return index
		}
		return t.reclaim(wild, now)
	}
	if len(t.byName) < t.size {
		for t.slot(t.next) != nil {
			t.next = t.next%t.size + 1
		}
		index := t.next
		t.next = t.next%t.size + 1
		return index
	}
	for _, c := range [...]class{unruled, wild, spelled} {
		if index := t.reclaim(c, now); index != 0 {
			return index
		}
	}
	return 0
}

// unspelled is how many names no rule spells out.
func (t *Table) unspelled() int { return t.queue[unruled].Len() + t.queue[wild].Len() }

// moves reports whether a name may count as another class: it may not push that beyond
// its part.
func (t *Table) moves(from, to class) bool {
	switch {
	case to == spelled:
		return true
	case to == unruled && t.queue[unruled].Len() >= t.size/4:
		return false
	}
	return from != spelled || t.unspelled() < t.size/2
}

// reclaim takes the index of the first entry of a queue that nobody was told for
// KeepAnswered and that no connection uses, 0 when there is none. An entry that
// is still in use goes to the end, so each is looked at once in KeepAnswered.
func (t *Table) reclaim(c class, now int64) int {
	keep := int64(KeepAnswered / time.Second)
	q := &t.queue[c]
	for front := q.Front(); front != nil; front = q.Front() {
		e := front.Value.(*entry)
		if now-e.queued <= keep {
			return 0
		}
		q.Remove(front)
		if now-e.used.Load() <= keep || !e.pins.CompareAndSwap(0, retired) {
			t.enqueue(e, now)
			continue
		}
		// Its last connection may have ended between the two looks.
		if now-e.used.Load() <= keep {
			e.pins.Store(0)
			t.enqueue(e, now)
			continue
		}
		delete(t.byName, e.name)
		t.pages[e.index>>8].Load()[e.index&0xff].Store(nil)
		t.version++
		return e.index
	}
	return 0
}

func (t *Table) slot(index int) *entry {
	p := t.pages[index>>8].Load()
	if p == nil {
		return nil
	}
	return p[index&0xff].Load()
}

// Lookup returns the name behind a synthetic address.
func (t *Table) Lookup(a netip.Addr) (names.Name, bool) {
	e := t.slot(indexOf(a))
	if e == nil {
		return names.Name{}, false
	}
	return e.name, true
}

// Pin is Lookup for a connection that lives on: until as many Unpin the address
// stays with its name.
func (t *Table) Pin(a netip.Addr) (names.Name, bool) {
	e := t.slot(indexOf(a))
	if e == nil {
		return names.Name{}, false
	}
	for {
		n := e.pins.Load()
		if n < 0 {
			return names.Name{}, false // reclaimed meanwhile
		}
		if e.pins.CompareAndSwap(n, n+1) {
			return e.name, true
		}
	}
}

// Unpin ends one Pin that succeeded.
func (t *Table) Unpin(a netip.Addr) {
	e := t.slot(indexOf(a))
	if e == nil {
		return
	}
	e.used.Store(t.now().Unix()) // before the count falls, so that it is not reclaimed in between
	if e.pins.Add(-1) < 0 {
		panic("dnsserver: Unpin without Pin of " + a.String())
	}
}

// TableStats counts what a Table holds and refused.
type TableStats struct {
	Names   int    // in all
	Unruled int    // of them those that neither a service nor a rule names
	Wild    int    // of them those that a wildcard names
	Limited uint64 // refused by the rate of new names
	Full    uint64 // refused for want of addresses
}

// Stats returns the counts.
func (t *Table) Stats() TableStats {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return TableStats{
		Names:   len(t.byName),
		Unruled: t.queue[unruled].Len(),
		Wild:    t.queue[wild].Len(),
		Limited: t.limited.Load(),
		Full:    t.full.Load(),
	}
}
