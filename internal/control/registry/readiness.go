package registry

import (
	"time"

	"sluice.dev/sluice/internal/wire"
)

// Report takes which ports of the workload are not ready, normalized. Whoever waits for
// a change is woken at once, or, where the workload changes faster than its pace, at
// the next moment that this allows.
func (m *Member) Report(unready []wire.Unready) {
	r := m.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.members[m.workload.Instance] != m || wire.SameUnready(m.workload.Unready, unready) {
		return
	}
	m.workload.Unready = unready
	if m.late != nil {
		return // which says it then
	}
	wait := m.pace.Reserve().Delay()
	if wait == 0 {
		r.announce()
		return
	}
	m.late = time.AfterFunc(wait, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		m.late = nil
		if r.members[m.workload.Instance] == m {
			r.announce()
		}
	})
}
