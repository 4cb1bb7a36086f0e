package push

import (
	"sync"
	"time"
)

// settle lets workloads that come back to a server that has just started wait
// for one another, so that none is told of a mesh in which the others are
// missing. It ends settleQuiet after the last one came back, at the latest
// settleMost after the start, and then for good.
type settle struct {
	done chan struct{}

	mu    sync.Mutex
	until time.Time // the latest end
	timer *time.Timer
}

func newSettle() *settle {
	s := &settle{done: make(chan struct{}), until: time.Now().Add(settleMost)}
	s.timer = time.AfterFunc(settleMost, func() { close(s.done) })
	return s
}

// rejoin says that a workload came back.
func (s *settle) rejoin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if wait := time.Until(s.until); wait > 0 && s.timer.Stop() {
		s.timer.Reset(min(wait, settleQuiet))
	}
}
