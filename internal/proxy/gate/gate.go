// Package gate lets the connections and requests of one workload go on, and keeps
// to it: a chain becomes a verdict, a verdict that passes becomes a grant, and each
// new snapshot is asked about every grant that lives. The ways (egress, mesh,
// ingress) call it for each connection. It never dials, and never reads or writes
// what a connection carries.
package gate

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/refusal"
)

// Config is a Gate's. Holder and Share are required.
type Config struct {
	Holder *snapshot.Holder
	Share  *share.Member // of the live connections of all workloads
	// Crowded, where not nil, is called when a connection has to wait because too many
	// are live.
	Crowded func()
}

// Gate is the gate of one workload: its live connections and what lets them live.
type Gate struct {
	config Config

	mu     sync.Mutex
	live   map[*Conn]struct{}
	closed bool
	later  atomic.Bool // a recheck after Grace is due
	full   atomic.Bool // the last one who waited to be let in did so in vain
}

// New returns a Gate without connections.
func New(c Config) *Gate {
	return &Gate{config: c, live: make(map[*Conn]struct{})}
}

// Snapshot returns the snapshot that counts now.
func (g *Gate) Snapshot() *snapshot.Snapshot { return g.config.Holder.Load() }

func (g *Gate) list() []*Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*Conn, 0, len(g.live))
	for c := range g.live {
		all = append(all, c)
	}
	return all
}

// Recheck asks a new snapshot about every live connection and ends those that it
// forbids. What is gone and may come back in a moment is looked at again after Grace.
func (g *Gate) Recheck(s *snapshot.Snapshot) {
	later := false
	for _, c := range g.list() {
		later = c.recheck(s, true) || later
	}
	if later && g.later.CompareAndSwap(false, true) {
		time.AfterFunc(Grace, g.recheckAll)
	}
}

// recheckAll ends the connections whose destination did not come back.
func (g *Gate) recheckAll() {
	g.later.Store(false)
	s := g.Snapshot()
	for _, c := range g.list() {
		c.recheck(s, false)
	}
}

// Close lets no more in and ends those that are there. It does not wait for them.
func (g *Gate) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	for _, c := range g.list() {
		c.ended.CompareAndSwap(nil, stopping)
		c.life.end()
		if down := c.Down(); down != nil {
			down.SetDeadline(time.Unix(1, 0)) // one that is being refused waits for its client alone
		}
	}
}

// stopping is why connections end with their gate.
var stopping = refusal.New(refusal.Stopping, "")

// Reset closes a connection so that its peer sees a reset, not an end.
func Reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}
