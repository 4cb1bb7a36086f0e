package snapshot

import (
	"sync"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/refusal"
)

// HolderConfig configures a Holder.
type HolderConfig struct {
	Now func() time.Time // nil: time.Now
}

// Holder holds the snapshot that counts for one workload. Until the first Swap
// everything is denied with NoSnapshot; once the snapshot is older than it may
// be, with StaleSnapshot.
type Holder struct {
	now     func() time.Time
	current atomic.Pointer[Snapshot]

	mu        sync.Mutex // held while a swap and its callbacks run: they are in order
	fresh     *Snapshot  // the last that was swapped in; nil before
	stale     bool
	watchers  map[*watcher]struct{}
	confirmed atomic.Pointer[time.Time] // nil before the first
}

type watcher struct{ swapped func(*Snapshot) }

// NewHolder returns a Holder that denies.
func NewHolder(config HolderConfig) *Holder {
	h := &Holder{now: config.Now, watchers: make(map[*watcher]struct{})}
	if h.now == nil {
		h.now = time.Now
	}
	h.current.Store(none())
	return h
}

// Load returns the snapshot that counts now, never nil. It is one atomic load.
func (h *Holder) Load() *Snapshot { return h.current.Load() }

// Swap makes s the snapshot that counts and calls the callbacks. s is current as
// of now.
func (h *Holder) Swap(s *Snapshot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.confirm(h.now())
	h.fresh, h.stale = s, false
	h.set(s)
}

// Restore makes s count, which was current at confirmed, unless there was a Swap
// already. It is stale at once where it is too old, or where it was confirmed so
// far in the future that its age is not known: a clock was set back.
func (h *Holder) Restore(s *Snapshot, confirmed time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fresh != nil {
		return
	}
	if now := h.now(); confirmed.Sub(now) >= s.MaxStale {
		confirmed = now.Add(-s.MaxStale)
	} else if confirmed.After(now) {
		confirmed = now
	}
	h.confirm(confirmed)
	h.fresh = s
	if !h.expire() {
		h.set(s)
	}
}

// Confirm says that the server is there and has nothing newer: the age begins
// anew, and a snapshot that was stale counts again.
func (h *Holder) Confirm() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fresh == nil {
		return
	}
	h.confirm(h.now())
	if h.stale {
		h.stale = false
		h.set(h.fresh)
	}
}

// Expire denies everything with StaleSnapshot if the snapshot is older than it
// may be, and reports whether that is so.
func (h *Holder) Expire() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.expire()
}

// expire is Expire with the lock held.
func (h *Holder) expire() bool {
	if h.stale || h.fresh == nil || h.Age() < h.fresh.MaxStale {
		return h.stale
	}
	h.stale = true
	h.set(denying(h.fresh, refusal.StaleSnapshot))
	return true
}

func (h *Holder) confirm(at time.Time) { h.confirmed.Store(&at) }

// Age returns for how long the snapshot was not confirmed, 0 before the first.
func (h *Holder) Age() time.Duration {
	confirmed := h.confirmed.Load()
	if confirmed == nil {
		return 0
	}
	// By both clocks: the monotonic one stands still while a machine sleeps, the
	// wall clock can be set back.
	now := h.now()
	return max(0, now.Sub(*confirmed), now.Round(0).Sub(confirmed.Round(0)))
}

// Remaining returns for how long the snapshot still counts without a Confirm; ok
// is false where there is none that could become stale.
func (h *Holder) Remaining() (remaining time.Duration, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fresh == nil || h.stale {
		return 0, false
	}
	return h.fresh.MaxStale - h.Age(), true
}

// OnSwap calls swapped after each swap, with what counts from then on, until stop
// is called. Calls come one at a time and in order. swapped must not call Swap,
// Restore, Confirm, Expire, OnSwap or stop.
func (h *Holder) OnSwap(swapped func(*Snapshot)) (stop func()) {
	w := &watcher{swapped}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers[w] = struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, w)
	}
}

// set stores s and wakes the watchers. The lock is held.
func (h *Holder) set(s *Snapshot) {
	h.current.Store(s)
	for w := range h.watchers {
		w.swapped(s)
	}
}
