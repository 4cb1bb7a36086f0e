package proxy

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/refusal"
)

// serviceGrace is how long a service may be gone from the snapshots before the
// connections to it end: a server that starts anew hears of one workload after
// the other.
const serviceGrace = 500 * time.Millisecond

// grant is what lets a live connection live. A new snapshot is asked about it
// again.
type grant struct {
	chain   policy.Chain // that was allowed; on the way out
	address netip.Addr   // that was dialled; zero before, and for requests: their pool knows
	service names.Name   // that was dialled; inside the mesh
}

// keep copies a chain that is to outlive its request: method and path are views
// into the connection's buffer.
func keep(chain *policy.Chain) policy.Chain {
	kept := *chain
	kept.Method, kept.Path = strings.Clone(kept.Method), strings.Clone(kept.Path)
	return kept
}

// live is the connections of one workload that have not ended.
type live struct {
	mu     sync.Mutex
	all    map[*connection]struct{}
	closed bool
	gone   atomic.Bool // a service is: the connections are looked at again soon
}

func (l *live) init() { l.all = make(map[*connection]struct{}) }

// add reports false where there are bound already, or the workload has ended.
func (l *live) add(c *connection, bound int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.all) >= bound {
		return false
	}
	l.all[c] = struct{}{}
	return true
}

func (l *live) remove(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, c)
}

func (l *live) list() []*connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*connection, 0, len(l.all))
	for c := range l.all {
		all = append(all, c)
	}
	return all
}

// closeAll lets no more in and ends those that are there.
func (l *live) closeAll() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	for _, c := range l.list() {
		c.cancel()
		c.down.SetDeadline(time.Unix(1, 0)) // one that is being refused waits for its client alone
	}
}

// hold notes what lets c live, so that a later snapshot may withdraw it. A
// snapshot that was swapped in meanwhile is asked at once.
func (c *connection) hold(g grant, decided *snapshot.Snapshot) {
	c.grant.Store(&g)
	if now := c.workload.config.Holder.Load(); now != decided {
		c.recheck(now, false)
	}
}

// recheck ends c where s forbids what it does. It never waits for it: a swap must
// not hang on a client or a server that does not read. patient leaves alone what
// is only gone from the directory, and reports it.
func (c *connection) recheck(s *snapshot.Snapshot, patient bool) (gone bool) {
	g := c.grant.Load()
	if g == nil {
		return false
	}
	reason := c.forbids(s, g)
	if reason == "" {
		return false
	}
	if patient && reason == noSuchService {
		return true
	}
	// Not Close: that waits for whoever is inside a callback of the socket, which
	// may be a request whose answer has not come, or our own caller.
	c.down.SetLinger(0) // the client sees a reset, not an end
	c.withdrawn.Store(&reason)
	c.cancel()
	return false
}

// noSuchService is why a connection ends whose service went.
const noSuchService refusal.Reason = "no-healthy-upstream"

// forbids returns why s does not let what g granted go on, or "".
func (c *connection) forbids(s *snapshot.Snapshot, g *grant) refusal.Reason {
	if reason := s.Policy.DeniesAll(); reason != "" {
		return reason
	}
	if !g.service.IsZero() {
		if s.Service(g.service) == nil {
			return noSuchService
		}
		return ""
	}
	verdict := s.Policy.Decide(&g.chain)
	if !verdict.Passes() {
		return verdict.Reason
	}
	if !g.address.IsValid() {
		return ""
	}
	return verdict.Consent.Judge(g.address)
}

// recheck asks a new snapshot about every live connection and every pool of the
// workload, and ends what it forbids.
func (w *Workload) recheck(s *snapshot.Snapshot) {
	gone := false
	for _, c := range w.live.list() {
		gone = c.recheck(s, true) || gone
	}
	w.pools.recheck(w, s)
	if gone && w.live.gone.CompareAndSwap(false, true) {
		time.AfterFunc(serviceGrace, w.recheckServices)
	}
}

// recheckServices ends the connections whose service did not come back.
func (w *Workload) recheckServices() {
	w.live.gone.Store(false)
	s := w.config.Holder.Load()
	for _, c := range w.live.list() {
		c.recheck(s, false)
	}
}

// reset closes a connection so that its peer sees a reset, not an end.
func reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}
