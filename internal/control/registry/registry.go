// Package registry knows which workloads live, and which lived. The push server
// joins a workload when its proxy's stream opens and removes it when the stream
// ends; the loop that compiles reads the list. What lives is in memory alone: a
// server that starts anew learns it from the streams, never from a file.
package registry

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"sluice.dev/sluice/internal/wire"
)

// MaxWorkloads is the default bound on live workloads, and on the names that are
// kept for others.
const MaxWorkloads = 10_000

// maxInstance is the largest number of an instance that a workload may ask to
// keep.
const maxInstance = 1_000_000

// ErrFull says that the bound on workloads is reached.
var ErrFull = errors.New("registry: the limit of workloads is reached")

// Config configures a Registry.
type Config struct {
	MaxWorkloads int // 0 is MaxWorkloads
	// Memory is what the server before remembered: its workloads find their names
	// free for a while, and its services are known.
	Memory Memory
	Now    func() time.Time // nil: time.Now
}

// Registry is the workloads that live. Safe for concurrent use.
type Registry struct {
	limit int
	now   func() time.Time

	mu      sync.Mutex
	members map[string]*Member // by instance
	kept    keptNames
	taken   map[string]int // by base name: every number up to it is held or kept; absent for 0
	past    pastServices
	number  uint64        // of changes
	changed chan struct{} // closed at the next change
}

// New returns a registry in which nobody lives.
func New(config Config) *Registry {
	r := &Registry{
		limit:   cmp.Or(config.MaxWorkloads, MaxWorkloads),
		now:     config.Now,
		members: make(map[string]*Member),
		taken:   make(map[string]int),
		changed: make(chan struct{}),
	}
	if r.now == nil {
		r.now = time.Now
	}
	r.recall(config.Memory)
	return r
}

// Member is one live workload.
type Member struct {
	workload wire.Workload // under the registry's lock
	session  string
	owner    Process
	since    time.Time
	registry *Registry
	replaced chan struct{}

	pace *rate.Limiter // of changes of its readiness
	late *time.Timer   // announces one that came too soon; nil: none did. Under the lock
}

// Workload returns the workload with the instance that it was given.
func (m *Member) Workload() wire.Workload {
	m.registry.mu.Lock()
	defer m.registry.mu.Unlock()
	return m.workload
}

// Since returns when it joined.
func (m *Member) Since() time.Time { return m.since }

// Replaced is closed when the same workload joined again, over another stream.
func (m *Member) Replaced() <-chan struct{} { return m.replaced }

// Join adds a normalized workload that owner serves. Its instance is the one that
// it asks for (after the server or the connection was lost) where that is free,
// kept for it, or held by the same session; else the lowest number of its base
// name that nobody holds and that is kept for nobody. session is a secret of the
// one workload: who knows it takes over its membership.
func (r *Registry) Join(w wire.Workload, session string, owner Process) (*Member, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.members[w.Instance]; old != nil && session != "" && old.session == session {
		close(old.replaced)
		delete(r.members, w.Instance)
		r.release(w.Instance)
	}
	if len(r.members) >= r.limit {
		return nil, fmt.Errorf("%w (%d)", ErrFull, r.limit)
	}
	r.forgetNames()
	if !r.mayHave(w, session) {
		w.Instance = r.lowestFree(w.Base())
	}
	r.kept.drop(w.Instance)
	r.announce()
	member := &Member{
		workload: w, session: session, owner: owner, since: r.now(),
		registry: r, replaced: make(chan struct{}), pace: wire.NewReadinessPace(),
	}
	r.members[w.Instance] = member
	return member, nil
}

// Enter adds a workload that somebody attested, under the instance that it has already. It
// is one workload whoever shows that it is: an earlier stream of it ends.
func (r *Registry) Enter(w wire.Workload) (*Member, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.members[w.Instance]; old != nil {
		close(old.replaced)
		delete(r.members, w.Instance)
	}
	if len(r.members) >= r.limit {
		return nil, fmt.Errorf("%w (%d)", ErrFull, r.limit)
	}
	r.announce()
	member := &Member{workload: w, since: r.now(), registry: r, replaced: make(chan struct{}), pace: wire.NewReadinessPace()}
	r.members[w.Instance] = member
	return member, nil
}

// Update takes what whoever attests the workload knows of it now. Which proxy serves it,
// and how, stays as the proxy said.
func (m *Member) Update(known wire.Workload) {
	r := m.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	known.Instance, known.Proxy, known.Level, known.Unready = m.workload.Instance, m.workload.Proxy, m.workload.Level, m.workload.Unready
	m.workload = known
}

// mayHave reports whether the workload may be called what it asks for. The lock
// is held.
func (r *Registry) mayHave(w wire.Workload, session string) bool {
	if r.members[w.Instance] != nil || !isInstanceOf(w.Instance, w.Base()) {
		return false
	}
	kept, ok := r.kept.names[w.Instance]
	return !ok || kept.Session == hashOf(session)
}

// Leave removes the workload, which ended: its number is free again. A member
// that was replaced leaves nothing.
func (m *Member) Leave() { m.remove(false) }

// Lose removes the workload, whose stream was lost: it may live and come back, and
// finds its name free until it is certain or likely that it does not.
func (m *Member) Lose() { m.remove(true) }

func (m *Member) remove(lost bool) {
	r := m.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	instance := m.workload.Instance
	if r.members[instance] != m {
		return
	}
	delete(r.members, instance)
	if m.late != nil {
		m.late.Stop()
	}
	r.past.add(m.workload, r.now())
	if lost && m.session != "" && len(r.kept.names) < r.limit {
		r.kept.add(m.name(), r.now().Add(keepName), false)
	} else {
		r.release(instance)
	}
	r.announce()
}

// announce wakes everybody who waits for a change. The lock is held.
func (r *Registry) announce() {
	r.number++
	close(r.changed)
	r.changed = make(chan struct{})
}

// release lets the instance's number be given again. The lock is held.
func (r *Registry) release(instance string) {
	base, number, numbered := cutInstance(instance)
	switch {
	case !numbered: // of a workload that was attested
	case number > r.taken[base]:
	case number == 1:
		delete(r.taken, base)
	default:
		r.taken[base] = number - 1
	}
}

// lowestFree returns the instance of the lowest number that nobody holds and that
// is kept for nobody. The lock is held.
func (r *Registry) lowestFree(base string) string {
	for n := r.taken[base] + 1; ; n++ {
		instance := base + "/" + strconv.Itoa(n)
		_, kept := r.kept.names[instance]
		if r.members[instance] == nil && !kept {
			r.taken[base] = n
			return instance
		}
	}
}

// cutInstance splits an instance into its base name and its number.
func cutInstance(instance string) (base string, number int, ok bool) {
	base, text, ok := strings.Cut(instance, "/")
	if !ok || base == "" {
		return "", 0, false
	}
	number, err := strconv.Atoi(text)
	return base, number, err == nil && number >= 1 && number <= maxInstance && strconv.Itoa(number) == text
}

// isInstanceOf reports whether instance is base with a number.
func isInstanceOf(instance, base string) bool {
	of, _, ok := cutInstance(instance)
	return ok && of == base
}
