// Package gate lets the connections and requests of one workload go on, and keeps
// to it: a chain becomes a verdict, a verdict that passes becomes a grant, and each
// new snapshot is asked about every grant that lives. The ways (egress, mesh,
// ingress) call it for each connection. It never dials, and never reads or writes
// what a connection carries.
package gate

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/refusal"
)

// Config is a Gate's. Holder and Capacity are required.
type Config struct {
	Holder   *snapshot.Holder
	Capacity *Capacity // shared by the workloads of a process
	// Full, where not nil, is called when a connection is reset because too many are
	// live.
	Full func()
}

// Gate is the gate of one workload: its live connections and what lets them live.
type Gate struct {
	config Config

	mu     sync.Mutex
	live   map[*Conn]struct{}
	closed bool
	later  atomic.Bool // a recheck after Grace is due
}

// New returns a Gate without connections.
func New(c Config) *Gate {
	return &Gate{config: c, live: make(map[*Conn]struct{})}
}

// Snapshot returns the snapshot that counts now.
func (g *Gate) Snapshot() *snapshot.Snapshot { return g.config.Holder.Load() }

// Admit takes a connection among the live ones, until its Leave. All that is done
// for it must end with the context that is returned. At a bound, and after Close, it
// resets the connection and reports false.
func (g *Gate) Admit(ctx context.Context, down *net.TCPConn) (*Conn, context.Context, bool) {
	ctx, cancel := context.WithCancel(ctx)
	c := &Conn{gate: g, down: down, cancel: cancel}
	full := !g.config.Capacity.take()
	if !full {
		var closed bool
		if full, closed = g.add(c); !full && !closed {
			return c, ctx, true
		}
		g.config.Capacity.give()
	}
	cancel()
	if full && g.config.Full != nil {
		g.config.Full()
	}
	Reset(down)
	return nil, nil, false
}

// add puts c among the live ones, unless there are too many or the gate is closed.
func (g *Gate) add(c *Conn) (full, closed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	full, closed = len(g.live) >= g.config.Capacity.bounds.Workload, g.closed
	if !full && !closed {
		g.live[c] = struct{}{}
	}
	return full && !closed, closed
}

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
		c.cancel()
		c.down.SetDeadline(time.Unix(1, 0)) // one that is being refused waits for its client alone
	}
}

// stopping is why connections end with their gate.
var stopping = refusal.New(refusal.Stopping, "")

// Reset closes a connection so that its peer sees a reset, not an end.
func Reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}
