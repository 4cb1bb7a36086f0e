// Package pools keeps the upstream pools of one workload on one way, by what they
// lead to, and says what becomes of them under a new snapshot. Egress and mesh have
// one table each. It never dials and never decides: the way tells it what a pool was
// made for and whether that still stands.
package pools

import (
	"sync"
	"time"

	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
)

// MaxPools bounds the pools of one workload on one way; past it the one that was used
// longest ago is closed.
const MaxPools = 1024

// Fate is what becomes of a pool under a new snapshot.
type Fate uint8

const (
	Keep  Fate = iota
	End        // what runs on it goes on, nothing else begins
	Abort      // what runs on it ends
)

// Table holds pools by what their connections share, a K; each with what it was made
// for, an M. It is safe for concurrent use. The zero Table is ready.
type Table[K comparable, M any] struct {
	mu     sync.Mutex
	byKey  map[K]*entry[M]
	uses   uint64
	closed bool
}

type entry[M any] struct {
	pool *upstream.Pool
	made M
	used uint64 // by the table's count of uses
}

// Get returns the pool of a key and what it was made for. Where there is none, or one that leads elsewhere than
// made does, one takes the place whose connections are made as open says.
func (t *Table[K, M]) Get(key K, made M, same func(a, b M) bool, open func() (upstream.Config, error)) (*upstream.Pool, M, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, made, refusal.New(refusal.Withdrawn, "")
	}
	t.uses++
	found := t.byKey[key]
	if found != nil && same(found.made, made) {
		found.used = t.uses
		return found.pool, found.made, nil
	}
	config, err := open()
	if err != nil {
		return nil, made, err
	}
	pool, err := upstream.NewPool(config)
	if err != nil {
		return nil, made, err
	}
	switch {
	case found != nil:
		found.pool.Close(false)
	case len(t.byKey) >= MaxPools:
		t.closeOldest()
	}
	if t.byKey == nil {
		t.byKey = make(map[K]*entry[M])
	}
	t.byKey[key] = &entry[M]{pool, made, t.uses}
	return pool, made, nil
}

func (t *Table[K, M]) closeOldest() {
	var oldest K
	first := true
	for key, candidate := range t.byKey {
		if first || candidate.used < t.byKey[oldest].used {
			oldest, first = key, false
		}
	}
	t.byKey[oldest].pool.Close(false)
	delete(t.byKey, oldest)
}

// Recheck asks about each pool and closes those whose fate is not Keep.
func (t *Table[K, M]) Recheck(fateOf func(K, M) Fate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, candidate := range t.byKey {
		if fate := fateOf(key, candidate.made); fate != Keep {
			candidate.pool.Close(fate == Abort)
			delete(t.byKey, key)
		}
	}
}

// Is reports whether the pool of a key is this one.
func (t *Table[K, M]) Is(key K, pool *upstream.Pool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byKey[key]
	return e != nil && e.pool == pool
}

// LongestIdle returns the pool with the connection that is idle for longest, and for how
// long; nil where none is idle.
func (t *Table[K, M]) LongestIdle() (longest *upstream.Pool, idle time.Duration) {
	return t.LongestIdleOf(func(K) bool { return true })
}

// LongestIdleOf is LongestIdle among the pools of some keys.
func (t *Table[K, M]) LongestIdleOf(which func(K) bool) (longest *upstream.Pool, idle time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, candidate := range t.byKey {
		if !which(key) {
			continue
		}
		if d, ok := candidate.pool.LongestIdle(); ok && (longest == nil || d > idle) {
			longest, idle = candidate.pool, d
		}
	}
	return longest, idle
}

// Len returns how many pools there are.
func (t *Table[K, M]) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byKey)
}

// Stats returns how many pools there are, and their connections.
func (t *Table[K, M]) Stats() (pools int, connections upstream.Stats) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.byKey {
		s := e.pool.Stats()
		connections.Idle += s.Idle
		connections.Busy += s.Busy
	}
	return len(t.byKey), connections
}

// Close closes every pool and what runs on it; there are none any more.
func (t *Table[K, M]) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for key, candidate := range t.byKey {
		candidate.pool.Close(true)
		delete(t.byKey, key)
	}
}
