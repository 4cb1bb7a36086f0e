package dnsserver

import (
	"sync"

	"sluice.dev/sluice/internal/names"
)

// MaxTargets is how many targets of SRV records are remembered of one workload; past it
// all are forgotten.
const MaxTargets = 1024

// targets is the hosts that answers for SRV named, each with what was asked for last, so
// that a denial can say where the workload has the name from. The zero value is ready.
type targets struct {
	mu    sync.RWMutex
	asked map[names.Name]string
}

func (t *targets) note(asked string, list []Service) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range list {
		if t.asked == nil || len(t.asked) >= MaxTargets {
			t.asked = make(map[names.Name]string)
		}
		t.asked[list[i].Host] = asked
	}
}

// TargetOf returns the name whose SRV records named n as a target in an answer to the
// workload; "" where none did.
func (s *Server) TargetOf(n names.Name) string {
	s.targets.mu.RLock()
	defer s.targets.mu.RUnlock()
	return s.targets.asked[n]
}
