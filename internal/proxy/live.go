package proxy

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/snapshot"
)

// grant is what lets a live connection live: the chain that was allowed. A new
// snapshot is asked about it again.
type grant struct {
	chain     policy.Chain
	withdrawn atomic.Bool
}

// keep copies a chain that is to outlive its request: method and path are views
// into the connection's buffer.
func keep(chain *policy.Chain) policy.Chain {
	kept := *chain
	kept.Method, kept.Path = strings.Clone(kept.Method), strings.Clone(kept.Path)
	return kept
}

// live is the connections of one workload that have not ended, at most
// MaxConnections.
type live struct {
	mu     sync.Mutex
	all    map[*connection]struct{}
	closed bool
}

func (l *live) init() { l.all = make(map[*connection]struct{}) }

func (l *live) add(c *connection) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.all) >= MaxConnections {
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

func (l *live) closeAll() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	for _, c := range l.list() {
		c.down.Close()
	}
}

// hold notes what let c through, so that a later snapshot may withdraw it. A
// snapshot that was swapped in meanwhile is asked at once.
func (c *connection) hold(chain policy.Chain, s *snapshot.Snapshot) {
	c.grant.Store(&grant{chain: chain})
	if now := c.workload.config.Holder.Load(); now != s {
		c.recheck(now)
	}
}

// recheck closes c where s forbids what it does.
func (c *connection) recheck(s *snapshot.Snapshot) {
	g := c.grant.Load()
	if g == nil {
		return
	}
	if v := s.Policy.Decide(&g.chain); v.Action != policy.Allow {
		g.withdrawn.Store(true)
		reset(c.down)
	}
}

// recheck asks a new snapshot about every live connection and every pool of the
// workload, and closes what it forbids.
func (w *Workload) recheck(s *snapshot.Snapshot) {
	for _, c := range w.live.list() {
		c.recheck(s)
	}
	w.pools.recheck(w, s)
}

// withdrawn reports whether a snapshot took back what had allowed c.
func (c *connection) withdrawn() bool {
	g := c.grant.Load()
	return g != nil && g.withdrawn.Load()
}

// reset closes a connection so that its peer sees a reset, not an end.
func reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}
