package upstream

import "sync"

// Sessions is the connections of HTTP/2 of one workload. Each lives by a goroutine of its own,
// beyond the exchanges on it and beyond its pool, so who ends the workload ends and awaits them
// here. The zero Sessions is ready, and a nil one knows of none.
type Sessions struct {
	mu     sync.Mutex
	all    map[*Conn]struct{}
	ended  bool
	living sync.WaitGroup
}

// begin takes one in; it returns false where none may begin any more.
func (s *Sessions) begin(c *Conn) bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	if s.all == nil {
		s.all = make(map[*Conn]struct{})
	}
	s.all[c] = struct{}{}
	s.living.Add(1)
	return true
}

// end is called once one holds nothing any more.
func (s *Sessions) end(c *Conn) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.all[c]; there {
		delete(s.all, c)
		s.living.Done()
	}
}

// Close ends all of them at once, and returns when they have given back what they held.
func (s *Sessions) Close() {
	s.mu.Lock()
	s.ended = true
	for c := range s.all {
		c.aborted.Store(true)
		c.tcp.Close()
	}
	s.mu.Unlock()
	s.living.Wait()
}
