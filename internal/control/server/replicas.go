package server

import (
	"context"
	"hash/fnv"
	"strconv"
	"sync"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/control/cluster"
	"sluice.dev/sluice/internal/control/kubeapi"
)

// replicas is the servers of the same rules, of which this is one.
type replicas interface {
	Run(ctx context.Context)
	Tell(own cluster.Standing)
	// Programmed reports whether all proxies of every other server run these rules, and how
	// many of how many do.
	Programmed(rules string) (all bool, running, connected int)
	// Leads reports whether this server writes statuses; changed is closed when that, or
	// what Programmed returns, may have changed.
	Leads() (leads bool, changed <-chan struct{})
}

// keptDigests is how many compilations a report may be behind.
const keptDigests = 8

// sharedStore is a store of which several servers read: one of them writes statuses, and
// what it writes is about the proxies of all.
type sharedStore struct {
	Store
	replicas replicas

	mu      sync.Mutex
	digests []digest // of what Objects returned, the newest last
	last    *api.Object
	report  *kubeapi.Report // the newest; nil before the first
	rules   string          // that it is about
}

// digest names the rules of one revision alike on every server: the revisions themselves
// differ with what each happened to see.
type digest struct {
	revision int64
	rules    string
}

// Run implements Store.
func (s *sharedStore) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { s.replicas.Run(ctx) })
	running.Go(func() { s.lead(ctx) })
	s.Store.Run(ctx)
}

// Objects implements Store.
func (s *sharedStore) Objects() (objects []api.Object, revision int64, changed <-chan struct{}, ready bool) {
	objects, revision, changed, ready = s.Store.Objects()
	if !ready {
		return objects, revision, changed, ready
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.digests); n == 0 || s.digests[n-1].revision != revision || len(objects) > 0 && s.last != &objects[0] {
		s.digests = append(s.digests, digest{revision, digestOf(objects)})
		s.digests = s.digests[max(0, len(s.digests)-keptDigests):]
		if s.last = nil; len(objects) > 0 {
			s.last = &objects[0]
		}
	}
	return objects, revision, changed, ready
}

// digestOf is equal for the same specs of the same objects, in any order.
func digestOf(objects []api.Object) string {
	var sum uint64
	for i := range objects {
		meta := &objects[i].Metadata
		hash := fnv.New64a()
		_, _ = hash.Write([]byte(meta.UID))
		_, _ = hash.Write(strconv.AppendInt([]byte{' '}, meta.Generation, 10))
		sum += hash.Sum64()
	}
	return strconv.Itoa(len(objects)) + "-" + strconv.FormatUint(sum, 16)
}

// Report implements Store.
func (s *sharedStore) Report(report kubeapi.Report) {
	s.mu.Lock()
	s.report, s.rules = &report, ""
	for _, one := range s.digests {
		if one.revision == report.Revision {
			s.rules = one.rules
		}
	}
	s.replicas.Tell(cluster.Standing{Rules: s.rules, Programmed: report.Programmed(), Running: report.Running, Connected: report.Connected})
	s.mu.Unlock()
	s.hand()
}

// hand hands the newest report on, with what the proxies of the other servers run, where
// this server writes statuses.
func (s *sharedStore) hand() {
	leads, _ := s.replicas.Leads()
	s.mu.Lock()
	defer s.mu.Unlock() // to the end: an older report must not come later
	if s.report == nil || s.rules == "" || !leads {
		return
	}
	report := *s.report
	all, running, connected := s.replicas.Programmed(s.rules)
	report.Behind, report.Running, report.Connected = !all, report.Running+running, report.Connected+connected
	s.Store.Report(report)
}

// lead hands the report on whenever this server begins to lead, or others say what they run.
func (s *sharedStore) lead(ctx context.Context) {
	for {
		_, changed := s.replicas.Leads()
		s.hand()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
