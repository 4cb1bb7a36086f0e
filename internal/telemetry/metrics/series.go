package metrics

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/record"
)

// When series are given back: what had no traffic for so long is gone.
const (
	GoneAfter         = 24 * time.Hour
	GoneAfterWhenFull = time.Hour // where something found no series since the last look
	sweepEvery        = time.Minute
)

// istioCost is how many series there are for one of ours where the names of Istio are shown
// besides: each end of a call reports it.
const istioCost = 3

// sweep is what the last look at a series saw. It belongs to whoever holds traffic.looking.
type sweep struct {
	seen  uint64
	since time.Time
}

// idle notes how much a series had counted by now, and returns since when it did.
func (s *sweep) idle(count uint64, now time.Time) time.Time {
	if count != s.seen || s.since.IsZero() {
		s.seen, s.since = count, now
	}
	return s.since
}

// counter is the requests of one outcome.
type counter struct {
	count atomic.Uint64
	sizes *sizes
	sweep sweep
}

// sizes is what requests of one path took.
type sizes struct {
	counters                 int // that lead here; under the lock of the table
	mu                       sync.Mutex
	duration, sent, received histogram
}

func newSizes() *sizes {
	return &sizes{duration: newHistogram(&seconds), sent: newHistogram(&octets), received: newHistogram(&octets)}
}

func (c *counter) add(r *record.Record) {
	c.count.Add(1)
	s := c.sizes
	s.mu.Lock()
	s.duration.observe(&seconds, r.Duration.Seconds())
	s.sent.observe(&octets, float64(r.Sent))
	s.received.observe(&octets, float64(r.Received))
	s.mu.Unlock()
}

// bytes is the connections of one outcome whose bytes were carried.
type bytes struct {
	connections, sent, received atomic.Uint64
	sweep                       sweep
}

func (b *bytes) add(r *record.Record) {
	b.sent.Add(uint64(max(r.Sent, 0)))
	b.received.Add(uint64(max(r.Received, 0)))
	b.connections.Add(1)
}

// number is the denials of one kind.
type number struct {
	count atomic.Uint64
	sweep sweep
}

// traffic is the series that records make: of what had traffic, and at most so many as the
// bound says. What finds none is counted as Other, under a lock that is shared.
type traffic struct {
	now func() time.Time

	mu          sync.RWMutex // held shared while something is counted: what is given back has all that was
	requests    map[outcome]*counter
	sizes       map[path]*sizes
	connections map[outcome]*bytes
	denials     map[denial]*number
	istio       *istio // nil: those names are not shown
	bound       int    // series that may be shown

	used, most atomic.Int64 // series of our own: those made, and those that may be

	otherRequests    counter
	otherConnections bytes
	otherDenials     number
	overflow         atomic.Uint64 // how often something was counted as Other

	looking sync.Mutex // one looks for what is gone at a time
	looked  time.Time
	full    uint64 // overflow at that time
}

// Series that one of each makes.
var (
	perSizes       = int64(seconds.series() + 2*octets.series())
	perConnections = int64(3)
	perOthers      = 1 + perSizes + perConnections + 1
)

func newTraffic(bound int) *traffic {
	t := &traffic{
		now: time.Now, requests: make(map[outcome]*counter), sizes: make(map[path]*sizes),
		connections: make(map[outcome]*bytes), denials: make(map[denial]*number),
	}
	t.otherRequests.sizes = newSizes()
	t.used.Store(perOthers) // what finds no series is counted, whatever comes
	t.set(bound, nil)
	return t
}

// set bounds the series from now on, and shows them under the names of Istio too where
// istio is not nil. Where there are more already, those give way that had no traffic for
// longest.
func (t *traffic) set(bound int, istio *istio) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bound, t.istio = bound, istio
	if istio != nil {
		bound /= istioCost
	}
	t.most.Store(max(int64(bound), perOthers))
	if t.used.Load() > t.most.Load() {
		t.shrink()
	}
}

// fits reports whether so many series may still be made.
func (t *traffic) fits(series int64) bool { return t.used.Load()+series <= t.most.Load() }

// cost is how many series a new outcome of requests makes. The lock is held.
func (t *traffic) cost(o *outcome) int64 {
	if t.sizes[o.path] != nil {
		return 1
	}
	return 1 + perSizes
}

func (t *traffic) request(o *outcome, r *record.Record) {
	t.mu.RLock()
	c := t.requests[*o]
	if c == nil && !t.fits(t.cost(o)) {
		t.overflow.Add(1)
		c = &t.otherRequests
	}
	if c != nil {
		c.add(r)
		t.mu.RUnlock()
		return
	}
	t.mu.RUnlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.newCounter(o).add(r)
}

// newCounter returns the series of an outcome. The lock is held.
func (t *traffic) newCounter(o *outcome) *counter {
	if c := t.requests[*o]; c != nil {
		return c // somebody else was faster
	}
	cost := t.cost(o)
	if !t.fits(cost) {
		t.overflow.Add(1)
		return &t.otherRequests
	}
	t.used.Add(cost)
	key := *o
	s := t.sizes[key.path]
	if s == nil {
		s = newSizes()
		t.sizes[key.path] = s
	}
	s.counters++
	c := &counter{sizes: s}
	t.requests[key] = c
	return c
}

func (t *traffic) connection(o *outcome, r *record.Record) {
	counted(t, t.connections, o, perConnections, &t.otherConnections, func(b *bytes) { b.add(r) })
}

func (t *traffic) denied(d *denial) {
	counted(t, t.denials, d, 1, &t.otherDenials, func(n *number) { n.count.Add(1) })
}

// counted adds to the series of a key, which are made where they are not there and fit, or
// else to other.
func counted[K comparable, V any](t *traffic, all map[K]*V, key *K, cost int64, other *V, add func(*V)) {
	t.mu.RLock()
	v := all[*key]
	if v == nil && !t.fits(cost) {
		t.overflow.Add(1)
		v = other
	}
	if v != nil {
		add(v)
		t.mu.RUnlock()
		return
	}
	t.mu.RUnlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if v = all[*key]; v == nil {
		if v = other; t.fits(cost) {
			t.used.Add(cost)
			v = new(V)
			all[*key] = v
		} else {
			t.overflow.Add(1)
		}
	}
	add(v)
}

// giveBack removes the series of what is gone, at most once in sweepEvery. It looks under
// the shared lock, which holds up nobody who counts.
func (t *traffic) giveBack() {
	t.looking.Lock()
	defer t.looking.Unlock()
	now := t.now()
	if !t.looked.IsZero() && now.Sub(t.looked) < sweepEvery {
		return
	}
	overflow := t.overflow.Load()
	after := GoneAfter
	if overflow != t.full {
		after = GoneAfterWhenFull
	}
	t.looked, t.full = now, overflow
	t.mu.RLock()
	all := t.held(now)
	t.mu.RUnlock()
	all = slices.DeleteFunc(all, func(h held) bool { return now.Sub(h.since) < after })
	if len(all) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range all {
		h.remove()
	}
}

// shrink gives series back until there are no more than may be. The lock is held.
func (t *traffic) shrink() {
	all := t.held(t.now())
	slices.SortFunc(all, func(a, b held) int { return a.since.Compare(b.since) })
	for _, h := range all {
		if t.fits(0) {
			return
		}
		h.remove()
	}
}

// held is series of one key: since when they had no traffic, and what removes them unless
// they have some meanwhile.
type held struct {
	since  time.Time
	remove func()
}

// held lists all series. The lock is held, shared at least, and so is looking unless it is
// held alone.
func (t *traffic) held(now time.Time) []held {
	var all []held
	for o, c := range t.requests {
		all = append(all, held{c.sweep.idle(c.count.Load(), now), func() {
			if t.requests[o] != c || c.count.Load() != c.sweep.seen {
				return
			}
			delete(t.requests, o)
			t.used.Add(-1)
			if c.sizes.counters--; c.sizes.counters == 0 {
				delete(t.sizes, o.path)
				t.used.Add(-perSizes)
			}
		}})
	}
	for o, b := range t.connections {
		all = append(all, held{b.sweep.idle(b.connections.Load(), now), func() { release(t, t.connections, o, b, perConnections, &b.connections, &b.sweep) }})
	}
	for d, n := range t.denials {
		all = append(all, held{n.sweep.idle(n.count.Load(), now), func() { release(t, t.denials, d, n, 1, &n.count, &n.sweep) }})
	}
	return all
}

func release[K comparable, V any](t *traffic, all map[K]*V, key K, v *V, cost int64, count *atomic.Uint64, seen *sweep) {
	if all[key] != v || count.Load() != seen.seen {
		return
	}
	delete(all, key)
	t.used.Add(-cost)
}
