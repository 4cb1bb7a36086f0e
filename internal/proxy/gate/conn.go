package gate

import (
	"context"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/refusal"
)

// Grace is how long the destination of a grant may be gone from the snapshots before
// its connections end, where it may come back: a server that starts anew hears of one
// workload after the other.
const Grace = 500 * time.Millisecond

// Grant is what lets a live connection live. Each way has its own kinds.
type Grant interface {
	// Recheck says what a new snapshot has against what was granted. It must not
	// block.
	Recheck(s *snapshot.Snapshot) Objection
}

// Objection is what a snapshot has against a grant. The zero Objection is none.
type Objection struct {
	Reason refusal.Reason
	// MayReturn says that what was granted is gone and may come back within Grace.
	MayReturn bool
}

// Both is a grant of what needs two.
func Both(a, b Grant) Grant { return both{a, b} }

type both struct{ a, b Grant }

// Recheck implements Grant.
func (g both) Recheck(s *snapshot.Snapshot) Objection {
	first := g.a.Recheck(s)
	if first.Reason != "" && !first.MayReturn {
		return first
	}
	if second := g.b.Recheck(s); second.Reason != "" {
		return second
	}
	return first
}

// Conn is one live connection of a workload.
type Conn struct {
	gate  *Gate
	down  atomic.Pointer[net.TCPConn]   // nil before Arrive of one that was let in ahead of it
	life  life                          // ends all that is done for it
	grant atomic.Pointer[Grant]         // what lets it live; nil before a verdict
	ended atomic.Pointer[refusal.Error] // why the gate ended it; nil where it did not
	holds atomic.Int32                  // on its life; it leaves with the last
	after []func()                      // done when it leaves
}

// Down is the connection to the client; nil where it is still to arrive.
func (c *Conn) Down() *net.TCPConn { return c.down.Load() }

// Arrive gives a connection that was let in by AdmitAhead the client's. One that the gate
// has ended meanwhile is reset.
func (c *Conn) Arrive(down *net.TCPConn) {
	c.down.Store(down)
	if c.Ended() != nil {
		down.SetLinger(0)
		down.SetDeadline(time.Unix(1, 0))
	}
}

// Branch lets one of the requests that a connection carries side by side live by a grant of
// its own, as a connection does; it counts as one. It has one hold on it. ok is false where
// the workload has as many as it may, or the connection has ended.
func (c *Conn) Branch() (branch *Conn, ctx context.Context, ok bool) {
	if c.Ended() != nil || c.life.Err() != nil || !c.gate.config.Share.Try(1) {
		return nil, nil, false
	}
	branch, ctx = c.gate.enter(c.life.Context, nil)
	return branch, ctx, branch != nil
}

// Snapshot returns the snapshot that counts now.
func (c *Conn) Snapshot() *snapshot.Snapshot { return c.gate.Snapshot() }

// AtEnd has f done when the connection has left, before what was given before. It is called
// by whoever has the one hold on it.
func (c *Conn) AtEnd(f func()) { c.after = append(c.after, f) }

// Stay takes a hold on the connection, beside the one that Admit gave.
func (c *Conn) Stay() { c.holds.Add(1) }

// Leave gives a hold back. The last one ends what Admit began.
func (c *Conn) Leave() {
	if c.holds.Add(-1) > 0 {
		return
	}
	c.life.end()
	g := c.gate
	g.mu.Lock()
	delete(g.live, c)
	g.mu.Unlock()
	g.config.Share.Give(1)
	for _, f := range slices.Backward(c.after) {
		f()
	}
}

// Hold notes what lets the connection live, in place of what it held before, so that
// a later snapshot may withdraw it. A snapshot that was swapped in since the one that
// granted it is asked at once.
func (c *Conn) Hold(g Grant, granted *snapshot.Snapshot) {
	c.grant.Store(&g)
	if now := c.Snapshot(); now != granted {
		c.recheck(now, false)
	}
}

// Ended returns why the gate ended the connection: what allowed it was withdrawn, or
// the proxy is shutting down. It is nil where the gate did not.
func (c *Conn) Ended() *refusal.Error { return c.ended.Load() }

// Withdrawn is Ended where what allowed the connection was withdrawn, else nil.
func (c *Conn) Withdrawn() *refusal.Error {
	if e := c.Ended(); e != stopping {
		return e
	}
	return nil
}

// recheck ends the connection where s forbids what it does. It never waits for it: a
// swap must not hang on a client or a server that does not read. patient leaves alone
// what may come back, and reports it.
func (c *Conn) recheck(s *snapshot.Snapshot, patient bool) (later bool) {
	g := c.grant.Load()
	if g == nil {
		return false
	}
	against := Objection{Reason: s.Policy.DeniesAll()}
	if against.Reason == "" {
		against = (*g).Recheck(s)
	}
	switch {
	case against.Reason == "":
		return false
	case patient && against.MayReturn:
		return true
	}
	c.withdraw(against.Reason)
	return false
}

// withdraw ends the connection. It does not Close it: that waits for whoever is
// inside a callback of the socket, which may be a request whose answer has not come,
// or our own caller.
func (c *Conn) withdraw(reason refusal.Reason) {
	if down := c.Down(); down != nil {
		down.SetLinger(0) // the client sees a reset, not an end
	}
	c.ended.CompareAndSwap(nil, refusal.New(reason, "what allowed this connection was withdrawn"))
	c.life.end()
}
