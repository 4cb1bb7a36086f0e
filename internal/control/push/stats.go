package push

// Stats is what a server says of itself. Counts are since its start.
type Stats struct {
	Proxies   int    // connected
	Workloads int    // whose streams are open
	Pushed    uint64 // snapshots that were sent
	Refused   uint64 // snapshots that proxies refused
}

// Stats returns what the server says of itself.
func (s *Server) Stats() Stats {
	stats := Stats{Proxies: s.proxies.count(), Pushed: s.pushed.Load(), Refused: s.refused.Load()}
	s.mu.Lock()
	defer s.mu.Unlock()
	stats.Workloads = len(s.streams)
	return stats
}

func (p *proxies) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.connected)
}
