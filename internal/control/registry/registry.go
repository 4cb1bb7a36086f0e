// Package registry knows which workloads live. The push server joins a workload
// when its proxy's stream opens and lets it leave when the stream ends; the loop
// that compiles reads the list. It is in memory only: a workload is never stored,
// and a server that starts anew learns of all from the streams.
package registry

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice.dev/sluice/internal/wire"
)

// MaxWorkloads is the default bound on live workloads.
const MaxWorkloads = 10_000

// maxInstance is the largest number of an instance that a workload may ask to
// keep.
const maxInstance = 1_000_000

// ErrFull says that the bound on workloads is reached.
var ErrFull = errors.New("registry: the mesh holds as many workloads as it may")

// Config configures a Registry.
type Config struct {
	MaxWorkloads int // 0 is MaxWorkloads
}

// Registry is the workloads that live. Safe for concurrent use.
type Registry struct {
	limit int

	mu      sync.Mutex
	members map[string]*Member // by instance
	taken   map[string]int     // by base name: every number up to it is held; absent for 0
	changed chan struct{}      // closed at the next change
}

// New returns an empty registry.
func New(config Config) *Registry {
	return &Registry{
		limit:   cmp.Or(config.MaxWorkloads, MaxWorkloads),
		members: make(map[string]*Member),
		taken:   make(map[string]int),
		changed: make(chan struct{}),
	}
}

// Member is one live workload.
type Member struct {
	workload wire.Workload
	session  string
	since    time.Time
	registry *Registry
	replaced chan struct{}
}

// Workload returns the workload with the instance that it was given.
func (m *Member) Workload() wire.Workload { return m.workload }

// Since returns when it joined.
func (m *Member) Since() time.Time { return m.since }

// Replaced is closed when the same workload joined again, over another stream.
func (m *Member) Replaced() <-chan struct{} { return m.replaced }

// Join adds a normalized workload. The instance is the one that it asks for
// (after the server or the connection was lost) where that is free or held by
// the same session, else the lowest free number of its base name. session is a
// secret of the one workload: who knows it takes over its membership.
func (r *Registry) Join(w wire.Workload, session string) (*Member, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := w.Instance
	old, held := r.members[wanted]
	if held && old.session == session && session != "" {
		close(old.replaced)
		delete(r.members, wanted)
		r.release(old.workload)
		held = false
	}
	if len(r.members) >= r.limit {
		return nil, fmt.Errorf("%w (%d)", ErrFull, r.limit)
	}
	if wanted == "" || held || !isInstanceOf(wanted, w.Base()) {
		wanted = r.lowestFree(w.Base())
	}
	w.Instance = wanted
	member := &Member{workload: w, session: session, since: time.Now(), registry: r, replaced: make(chan struct{})}
	r.members[wanted] = member
	r.announce()
	return member, nil
}

// Leave removes the workload. A member that was replaced leaves nothing.
func (m *Member) Leave() {
	r := m.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.members[m.workload.Instance] == m {
		delete(r.members, m.workload.Instance)
		r.release(m.workload)
		r.announce()
	}
}

// release lets the workload's number be given again. The lock is held.
func (r *Registry) release(w wire.Workload) {
	base := w.Base()
	n, err := strconv.Atoi(strings.TrimPrefix(w.Instance, base+"/"))
	switch {
	case err != nil || n > r.taken[base]:
	case n == 1:
		delete(r.taken, base)
	default:
		r.taken[base] = n - 1
	}
}

// announce wakes everybody who waits for a change. The lock is held.
func (r *Registry) announce() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// lowestFree returns the instance of the lowest number that nobody holds. The
// lock is held.
func (r *Registry) lowestFree(base string) string {
	for n := r.taken[base] + 1; ; n++ {
		instance := base + "/" + strconv.Itoa(n)
		if _, taken := r.members[instance]; !taken {
			r.taken[base] = n
			return instance
		}
	}
}

// isInstanceOf reports whether instance is base with a number.
func isInstanceOf(instance, base string) bool {
	number, ok := strings.CutPrefix(instance, base+"/")
	n, err := strconv.Atoi(number)
	return ok && err == nil && n >= 1 && n <= maxInstance && strconv.Itoa(n) == number
}

// Workloads returns those that live, sorted by instance, and a channel that is
// closed when that is no longer so.
func (r *Registry) Workloads() ([]wire.Workload, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	workloads := make([]wire.Workload, 0, len(r.members))
	for _, member := range r.members {
		workloads = append(workloads, member.workload)
	}
	slices.SortFunc(workloads, func(a, b wire.Workload) int { return cmp.Compare(a.Instance, b.Instance) })
	return workloads, r.changed
}
