package push

import (
	"cmp"
	"slices"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/wire"
)

// Workloads lists every workload whose stream is open, sorted by namespace and
// instance.
func (s *Server) Workloads() []inspect.WorkloadStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]inspect.WorkloadStatus, 0, len(s.streams))
	for w := range s.streams {
		p := &w.progress
		one := inspect.WorkloadStatus{
			Workload: w.member.Workload(), Connected: true, Since: w.member.Since(),
			SentVersion: p.sentVersion, AckedVersion: p.ackedVersion, AckedAt: p.ackedAt, Census: p.ackedCensus, Nack: p.nack,
		}
		if p.acked != nil {
			one.Created = p.acked.Created
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b inspect.WorkloadStatus) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Instance, b.Instance))
	})
	return all
}

// Snapshot returns what the workload's proxy acknowledged, nil while it has
// acknowledged none on its stream. It is shared and never changes.
func (s *Server) Snapshot(namespace, instance string) *wire.Snapshot {
	s.mu.Lock()
	var found *workloadStream
	for w := range s.streams {
		if workload := w.member.Workload(); workload.Namespace == namespace && workload.Instance == instance {
			found = w
		}
	}
	if found == nil || found.progress.acked == nil {
		s.mu.Unlock()
		return nil
	}
	acked := found.progress.acked
	s.mu.Unlock()
	snapshot, err := acked.Snapshot()
	if err != nil {
		s.log.Error("a snapshot that was sent cannot be read", "version", acked.Version, "error", err)
		return nil
	}
	return snapshot
}

// AckedByAll returns the revision of the store of which every joined workload runs what was
// compiled, or of a later one; 0 where one runs nothing yet, or none is joined.
func (s *Server) AckedByAll() (revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := true
	for w := range s.streams {
		if w.progress.acked == nil {
			return 0
		}
		if first || w.progress.ackedRevision < revision {
			revision, first = w.progress.ackedRevision, false
		}
	}
	return revision
}

// Acked returns how many of the workloads that are joined run what was compiled of this
// revision of the store or of a later one, how many there are, and a channel that is
// closed when that may have changed.
func (s *Server) Acked(revision int64) (running, connected int, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.streams {
		if w.progress.acked != nil && w.progress.ackedRevision >= revision {
			running++
		}
	}
	return running, len(s.streams), s.heard
}
