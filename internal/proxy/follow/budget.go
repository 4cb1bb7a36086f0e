package follow

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/names"
)

// Bounds of what is sent again to one destination, so that retries do not finish off one
// that fails because it has too much to do.
const (
	budgetShare = 5  // of so many requests one may be sent again: 20 %
	budgetFloor = 10 // in a second, may be sent again at any load
	maxBudgets  = 1024
)

// budget counts the requests to one destination that may be sent again, and those that were, in
// this second and the last. The zero budget is ready.
type budget struct {
	mu             sync.Mutex
	second         int64
	requests, last int // that may be sent again: in this second, and in the one before
	again          int // that were, in this second
}

// at turns to the second of now. It is called with mu held.
func (b *budget) at(now time.Time) {
	second := now.Unix()
	switch {
	case second == b.second:
		return
	case second == b.second+1:
		b.last = b.requests
	default: // a clock that was set back begins anew
		b.last = 0
	}
	b.second, b.requests, b.again = second, 0, 0
}

// asked counts a request.
func (b *budget) asked(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at(now)
	b.requests++
}

// take takes one retry out of the budget; it reports false where there is none left.
func (b *budget) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at(now)
	if b.again >= max(budgetFloor, max(b.requests, b.last)/budgetShare) {
		return false
	}
	b.again++
	return true
}

// budgets is the budget of each destination that has one. They outlive snapshots. Finding one
// that is known takes no lock. The zero value is ready.
type budgets struct {
	mu sync.Mutex // held to change of
	of atomic.Pointer[map[names.Name]*budget]
}

// get returns the budget of a destination, a new one where there is none. Past maxBudgets all
// begin anew.
func (b *budgets) get(of names.Name) *budget {
	if known := b.of.Load(); known != nil {
		if found := (*known)[of]; found != nil {
			return found
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	next := make(map[names.Name]*budget)
	if known := b.of.Load(); known != nil {
		if found := (*known)[of]; found != nil {
			return found
		}
		if len(*known) < maxBudgets {
			next = maps.Clone(*known)
		}
	}
	fresh := new(budget)
	next[of] = fresh
	b.of.Store(&next)
	return fresh
}
