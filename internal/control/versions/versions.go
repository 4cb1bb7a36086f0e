// Package versions keeps what workloads ran in the last 24 hours, so that a decision can
// be made again by the rules that were in force: the push server tells it what it sends,
// and `sluice why ID` asks it. It must never hold up a stream, nor grow without a bound.
package versions

import (
	"cmp"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"sluice.dev/sluice/internal/pause"
	"sluice.dev/sluice/internal/wire"
)

// Bounds of what is kept. Beyond one, what was in force longest ago is forgotten.
const (
	// KeepFor is how long a version is kept after it was last in force.
	KeepFor = 24 * time.Hour
	// MaxVersions bounds the versions.
	MaxVersions = 10_000
	// MaxBytes bounds them in memory: their parts, compressed, which versions share, and 16
	// bytes for each part of each.
	MaxBytes = 48 << 20
	// MaxWorkloads bounds the workloads of which is known what they were.
	MaxWorkloads = 10_000
	// maxWaiting bounds the versions that wait until they are compressed, in bytes of their parts,
	// each once. There are at most MaxVersions of them, and of MaxWorkloads workloads.
	maxWaiting = 64 << 20
)

// lookEvery is the time after which is noted what is in force.
const lookEvery = time.Minute

// ErrNotKept says that a version is not kept.
var ErrNotKept = fmt.Errorf("it is not kept: versions are for %d hours after they were in force, at most %d of them and %d MB", int(KeepFor.Hours()), MaxVersions, MaxBytes>>20)

// Config is what a Store works with.
type Config struct {
	// Path is the file that outlives the process; "": what is kept ends with the process.
	Path string
	Now  func() time.Time
	// InForce returns the versions that workloads run now, and their instances.
	InForce func() (versions, instances []string)
	Log     *slog.Logger
}

// limits is the bounds, for tests.
type limits struct {
	versions, bytes, workloads, waiting int
	file                                int64 // of the file, beyond which what is worth nothing goes
}

// Store is what is kept. It is safe for concurrent use.
type Store struct {
	config  Config
	limits  limits
	wake    chan struct{} // has space for one: something waits
	decoder wire.Decoder
	opening sync.Mutex // held by who makes a snapshot: of many who ask one at a time

	queue   sync.Mutex // of what waits alone, so that nobody who gives waits
	waiting *given     // until it is taken
	taken   *given     // until it is in versions
	dropped bool       // something did not find a place in waiting, and that was logged

	mu       sync.Mutex // may be taken with writing or opening held, and with it queue
	versions map[string]*version
	parts    map[wire.Hash]*part
	ran      map[string]*ran // by instance
	bytes    int

	writing sync.Mutex // of the file; taken before mu
	file    *os.File   // nil: nothing is written
	written int64      // bytes of the file
	live    int64      // of these, what a rewrite would leave
	stale   bool       // the file lacks something: it is to be rewritten
	left    bool       // a later release wrote it: it is not ours to change
	last    *version   // that was written last: the next says how it differs
	usedAt  time.Time  // when it was last written what was in force
	packer  *flate.Writer
	begun   bool // what a former process kept was read
}

// given is what workloads were sent, each version and each workload once: a thousand that are
// sent the same in a row wait as one version.
type given struct {
	versions  map[string]sent
	order     []string // of the versions, the first first
	parts     map[wire.Hash]struct{}
	bytes     int
	workloads map[string]wire.Workload // by instance
}

func newGiven() *given {
	return &given{versions: make(map[string]sent), parts: make(map[wire.Hash]struct{}), workloads: make(map[string]wire.Workload)}
}

// sent is a version that workloads are sent.
type sent struct {
	index wire.Index
	parts []*wire.Part
}

// add notes what a workload is sent; false where something of it finds no place.
func (g *given) add(index *wire.Index, parts []*wire.Part, workload *wire.Workload, most *limits) bool {
	_, there := g.workloads[workload.Instance]
	fits := there || len(g.workloads) < most.workloads
	if fits {
		g.workloads[workload.Instance] = *workload
	}
	if _, there := g.versions[index.Version]; there {
		return fits
	}
	if len(g.versions) >= most.versions || g.bytes >= most.waiting {
		return false
	}
	g.versions[index.Version] = sent{*index, parts}
	g.order = append(g.order, index.Version)
	for _, p := range parts {
		if _, there := g.parts[p.Hash]; !there {
			g.parts[p.Hash] = struct{}{}
			g.bytes += len(p.Bytes)
		}
	}
	return fits
}

// version is one that is kept.
type version struct {
	name     string
	revision int64
	created  time.Time
	inForce  time.Time // when it last was
	parts    []*part   // sorted by name
}

// part is one part of versions.
type part struct {
	name   string
	hash   wire.Hash
	packed []byte
	of     int // versions
}

// ran is what a workload was.
type ran struct {
	workload wire.Workload
	seen     time.Time
}

// partCost is what a part of one version costs beside its bytes.
const partCost = 16

// New returns a Store that keeps nothing until it runs.
func New(config Config) *Store {
	return &Store{
		config: config, limits: limits{MaxVersions, MaxBytes, MaxWorkloads, maxWaiting, maxFile / 2}, wake: make(chan struct{}, 1), waiting: newGiven(),
		versions: make(map[string]*version), parts: make(map[wire.Hash]*part), ran: make(map[string]*ran),
	}
}

// Keep takes what a workload is sent. It returns at once.
func (s *Store) Keep(index *wire.Index, parts []*wire.Part, workload wire.Workload) {
	workload = of(&workload)
	s.queue.Lock()
	defer s.queue.Unlock()
	if !s.waiting.add(index, parts, &workload, &s.limits) && !s.dropped {
		s.config.Log.Warn("versions follow each other too fast for all to be kept", "waiting", len(s.waiting.versions), "workloads", len(s.waiting.workloads))
		s.dropped = true
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run reads what a former process kept, and keeps what it is given until ctx ends. What
// is damaged of the file is forgotten. It is called once.
func (s *Store) Run(ctx context.Context) {
	s.begin()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-s.wake:
			started := time.Now()
			s.take()
			// As after a compilation: a storm of versions takes a fifth of a processor.
			if pause.For(ctx, min(4*time.Since(started), 2*time.Second)) != nil {
				return
			}
		case <-look.C:
			s.look()
		case <-ctx.Done():
			return
		}
	}
}

// take keeps what waits.
func (s *Store) take() {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.queue.Lock()
	taken := s.waiting
	s.waiting, s.taken = newGiven(), taken // who asks finds them all the time
	s.dropped = false
	s.queue.Unlock()
	now := s.config.Now()
	for _, name := range taken.order {
		one := taken.versions[name]
		if err := s.add(&one, now); err != nil {
			s.config.Log.Warn("a version is not kept", "version", name, "error", err)
		}
	}
	s.note(taken.workloads, now)
	s.prune(now, false)
	s.queue.Lock()
	defer s.queue.Unlock()
	s.taken = nil
}

// look notes what is in force, forgets what no longer was for long, and tries again to
// write what could not be written.
func (s *Store) look() {
	versions, instances := s.config.InForce()
	now := s.config.Now()
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	var used []string
	for _, name := range versions {
		if v := s.versions[name]; v != nil && v.inForce.Before(now) {
			v.inForce = now
			used = append(used, name)
		}
	}
	for _, instance := range instances {
		if r := s.ran[instance]; r != nil {
			r.seen = now
		}
	}
	s.mu.Unlock()
	s.noteUse(used, now)
	s.prune(now, true)
}

// add keeps one. writing is held.
func (s *Store) add(one *sent, now time.Time) error {
	packed := make(map[wire.Hash][]byte)
	s.mu.Lock()
	known := s.versions[one.index.Version]
	if known == nil {
		for _, p := range one.parts {
			if s.parts[p.Hash] == nil {
				packed[p.Hash] = nil
			}
		}
	} else {
		known.inForce = later(known.inForce, now)
	}
	s.mu.Unlock()
	if known == nil {
		for _, p := range one.parts { // without mu: nobody who asks waits for it
			if bytes, missing := packed[p.Hash]; missing && bytes == nil {
				bytes, err := s.pack(p.Bytes)
				if err != nil {
					return err
				}
				packed[p.Hash] = bytes
			}
		}
	}
	s.mu.Lock()
	var v *version
	var fresh []*part
	if known == nil {
		v = &version{name: one.index.Version, revision: one.index.Revision, created: one.index.Created, inForce: now}
		for _, p := range one.parts {
			held := s.parts[p.Hash]
			if held == nil {
				held = &part{name: p.Name, hash: p.Hash, packed: packed[p.Hash]}
				fresh = append(fresh, held)
			} else if held.name != p.Name { // equal content under another name
				held = &part{name: p.Name, hash: p.Hash, packed: held.packed}
			}
			s.hold(v, held)
		}
		s.versions[v.name] = v
	}
	s.mu.Unlock()
	s.append(v, fresh)
	return nil
}

// note keeps what workloads are. writing is held.
func (s *Store) note(workloads map[string]wire.Workload, now time.Time) {
	var news []*ran
	s.mu.Lock()
	for _, instance := range slices.Sorted(maps.Keys(workloads)) {
		one, before := &ran{workloads[instance], now}, s.ran[instance]
		if s.ran[instance] = one; before == nil || before.workload.ClassKey() != one.workload.ClassKey() {
			news = append(news, one)
		}
	}
	s.mu.Unlock()
	s.appendRan(news)
}

// hold makes a part one of a version. mu is held.
func (s *Store) hold(v *version, p *part) {
	v.parts = append(v.parts, p)
	s.bytes += partCost
	shared := s.parts[p.hash]
	if shared == nil {
		s.parts[p.hash] = p
		shared = p
		s.bytes += len(p.packed)
	}
	shared.of++
}

// forget drops a version, and the parts that no other has. mu is held.
func (s *Store) forget(v *version) {
	delete(s.versions, v.name)
	for _, p := range v.parts {
		s.bytes -= partCost
		shared := s.parts[p.hash]
		if shared.of--; shared.of == 0 {
			delete(s.parts, p.hash)
			s.bytes -= len(shared.packed)
		}
	}
}

// prune forgets what is beyond the bounds. again says to try again to write what could not
// be written. writing is held.
func (s *Store) prune(now time.Time, again bool) {
	s.mu.Lock()
	gone := false
	oldest := now.Add(-KeepFor)
	order := slices.SortedFunc(maps.Values(s.versions), func(a, b *version) int { return a.inForce.Compare(b.inForce) })
	for _, v := range order {
		if !v.inForce.Before(oldest) && len(s.versions) <= s.limits.versions && s.bytes <= s.limits.bytes {
			break
		}
		s.forget(v)
		gone = true
	}
	maps.DeleteFunc(s.ran, func(_ string, r *ran) bool { return r.seen.Before(oldest) })
	if over := len(s.ran) - s.limits.workloads; over > 0 {
		// An eighth at once: each of the next finds a place without a search.
		instances := slices.SortedFunc(maps.Keys(s.ran), func(a, b string) int { return cmp.Or(s.ran[a].seen.Compare(s.ran[b].seen), cmp.Compare(a, b)) })
		for _, instance := range instances[:over+s.limits.workloads/8] {
			delete(s.ran, instance)
		}
	}
	s.mu.Unlock()
	s.tidy(gone, again)
}

// Snapshot returns what a version said; the error is or wraps ErrNotKept, or says that it is
// damaged.
func (s *Store) Snapshot(name string) (*wire.Snapshot, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	if one, ok := awaited(s, func(g *given) map[string]sent { return g.versions }, name); ok {
		index, parts := one.index, one.parts
		return s.assemble(&index, func(yield func(string, wire.Hash, []byte) error) error {
			for _, p := range parts {
				if err := yield(p.Name, p.Hash, p.Bytes); err != nil {
					return err
				}
			}
			return nil
		})
	}
	s.mu.Lock()
	v := s.versions[name]
	s.mu.Unlock()
	if v == nil {
		return nil, ErrNotKept
	}
	return s.assemble(v.index(), func(yield func(string, wire.Hash, []byte) error) error {
		for _, p := range v.parts {
			bytes, err := unpack(p.packed)
			if err != nil {
				return fmt.Errorf("part %s: %w", p.name, err)
			}
			if err := yield(p.name, p.hash, bytes); err != nil {
				return err
			}
		}
		return nil
	})
}

// assemble reads parts as a proxy does.
func (s *Store) assemble(index *wire.Index, each func(func(name string, hash wire.Hash, b []byte) error) error) (*wire.Snapshot, error) {
	values := make(map[string]any)
	size := 0
	if err := each(func(name string, hash wire.Hash, b []byte) error {
		if size += len(b); size > wire.MaxSnapshotBytes {
			return errors.New("its parts are larger than a snapshot may be")
		}
		value, err := s.decoder.Decode(name, hash, b)
		values[name] = value
		return err
	}); err != nil {
		return nil, fmt.Errorf("version %s is damaged: %w", index.Version, err)
	}
	if got := wire.VersionOf(index.Parts); got != index.Version {
		return nil, fmt.Errorf("version %s is damaged: its parts are of %s", index.Version, got)
	}
	return index.Assemble(func(name string, _ wire.Hash) any { return values[name] })
}

// index names the parts.
func (v *version) index() *wire.Index {
	hashes := make(map[string]wire.Hash, len(v.parts))
	for _, p := range v.parts {
		hashes[p.name] = p.hash
	}
	return &wire.Index{Version: v.name, Revision: v.revision, Created: v.created, Parts: hashes}
}

// Workload returns what a workload was when it last ran, of those of the last 24 hours.
func (s *Store) Workload(instance string) (wire.Workload, bool) {
	if workload, ok := awaited(s, func(g *given) map[string]wire.Workload { return g.workloads }, instance); ok {
		return workload, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.ran[instance]; r != nil {
		return r.workload, true
	}
	return wire.Workload{}, false
}

// awaited returns what waits under a name.
func awaited[T any](s *Store, in func(*given) map[string]T, name string) (one T, ok bool) {
	s.queue.Lock()
	defer s.queue.Unlock()
	for _, g := range []*given{s.waiting, s.taken} {
		if g == nil {
			continue
		}
		if one, ok = in(g)[name]; ok {
			return one, true
		}
	}
	return one, false
}

// of is what rules look at of a workload.
func of(w *wire.Workload) wire.Workload {
	return wire.Workload{Instance: w.Instance, Service: w.Service, Version: w.Version, Namespace: w.Namespace, Account: w.Account, Labels: w.Labels}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
