package cluster

import "sync"

// Standing is what the proxies of one server run.
type Standing struct {
	Rules      string `json:"rules"`      // which were compiled; equal on every server for the same
	Programmed bool   `json:"programmed"` // every proxy that is connected to the server runs them
	Running    int    `json:"running"`    // how many do
	Connected  int    `json:"connected"`  // how many are
}

// Runs reports whether all proxies of the server run these rules, and how many do. Those of
// one that compiled other rules do not yet.
func (s *Standing) Runs(rules string) (all bool, running int) {
	if s.Rules != rules {
		return false, 0
	}
	return s.Programmed, s.Running
}

// Standings is what one of several servers knows of itself and of the others, however they
// tell one another. Who learns something says so by Change.
type Standings struct {
	mu      sync.Mutex
	own     Standing
	others  map[string]Standing // by a name that their way of telling gives them
	leads   bool
	changed chan struct{}
	fresh   chan struct{} // holds a token while own is new
}

// NewStandings returns those of a server that is alone and does not lead.
func NewStandings() *Standings {
	return &Standings{others: make(map[string]Standing), changed: make(chan struct{}), fresh: make(chan struct{}, 1)}
}

// Tell says what the proxies of this server run.
func (s *Standings) Tell(own Standing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own == own {
		return
	}
	s.own = own
	select {
	case s.fresh <- struct{}{}:
	default:
	}
}

// Own returns what Tell said last; Fresh receives when that is new.
func (s *Standings) Own() Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.own
}

// Fresh is for one reader.
func (s *Standings) Fresh() <-chan struct{} { return s.fresh }

// Programmed reports whether all proxies of every other server run these rules, and how many
// of how many do. Those of one that compiled other rules do not yet.
func (s *Standings) Programmed(rules string) (all bool, running, connected int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all = true
	for _, one := range s.others {
		runs, run := one.Runs(rules)
		all, running, connected = all && runs, running+run, connected+one.Connected
	}
	return all, running, connected
}

// Leads reports whether this server writes statuses, and returns a channel that is closed
// when that, or what Programmed returns, may have changed.
func (s *Standings) Leads() (leads bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leads, s.changed
}

// Change lets change edit what the others run, and wakes who waits where it says that
// anything is different. It must not call s.
func (s *Standings) Change(change func(others map[string]Standing) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if change(s.others) {
		s.wake()
	}
}

// Lead notes whether this server writes statuses, as it is once the lock is held, and
// reports whether that is new: the end of a term may be noted before its beginning.
func (s *Standings) Lead(still func() bool) (leads, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	leads = still()
	if changed = leads != s.leads; changed {
		s.leads = leads
		s.wake()
	}
	return leads, changed
}

func (s *Standings) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}
