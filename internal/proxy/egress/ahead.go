package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/refusal"
)

const (
	// MaxAhead bounds the upstream connections of one workload that are dialled, or wait,
	// before its own has come. Those beyond it are dialled when that has come.
	MaxAhead = 256
	// AheadTimeout is how long such a connection waits for the workload's own.
	AheadTimeout = 5 * time.Second
)

// Ends is one connection of a workload, by its own address and by the one that it dials.
type Ends struct{ From, To netip.AddrPort }

// ahead is the connections of one workload that are dialled before they were accepted.
type ahead struct {
	count atomic.Int32 // of waiting: most connections are not dialled ahead

	mu      sync.Mutex
	waiting map[Ends]*arrival
}

// arrival is a connection that is to come.
type arrival struct {
	ends Ends
	down chan *net.TCPConn // holds it when it has come
	void chan struct{}     // closed where another one begins from the same ends
}

// expect notes that a connection is to come; nil where too many are.
func (a *ahead) expect(ends Ends) *arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.waiting[ends]
	if before == nil && len(a.waiting) >= MaxAhead {
		return nil
	}
	if before != nil { // its client gave up, and the same port is in use again
		close(before.void)
	}
	if a.waiting == nil {
		a.waiting = make(map[Ends]*arrival)
	}
	one := &arrival{ends: ends, down: make(chan *net.TCPConn, 1), void: make(chan struct{})}
	a.waiting[ends] = one
	a.count.Store(int32(len(a.waiting)))
	return one
}

// forget ends the wait. What came until then is in the arrival.
func (a *ahead) forget(one *arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting[one.ends] == one {
		delete(a.waiting, one.ends)
		a.count.Store(int32(len(a.waiting)))
	}
}

// Expecting reports whether a connection is to come for which was dialled.
func (w *Way) Expecting() bool { return w.ahead.count.Load() > 0 }

// Arrived hands over a connection that was accepted. It reports false where nothing was
// dialled for it: it is the caller's then.
func (w *Way) Arrived(down *net.TCPConn, to netip.AddrPort) bool {
	a := &w.ahead
	if a.count.Load() == 0 {
		return false
	}
	remote, ok := down.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return false
	}
	from := remote.AddrPort()
	ends := Ends{From: netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port()), To: to}
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.waiting[ends]
	if one == nil {
		return false
	}
	delete(a.waiting, ends)
	a.count.Store(int32(len(a.waiting)))
	one.down <- down
	return true
}

// Ahead decides about a connection that is to come, and dials for it, where the server is
// to speak first: then nothing that the client says leads elsewhere. Say is called once,
// with 0 where the client may connect, or with the error of its connect. Ahead returns
// when the connection has ended. It reports false, and has said nothing, where the
// connection is to be decided about when it has come.
func (w *Way) Ahead(ctx context.Context, g *gate.Gate, ends Ends, chain policy.Chain, say func(syscall.Errno)) bool {
	one := w.ahead.expect(ends)
	if one == nil {
		return false
	}
	conn, ctx, ok := g.AdmitAhead(ctx)
	if !ok {
		w.ahead.forget(one)
		return false
	}
	defer conn.Leave()
	c := &connection{way: w, conn: conn, chain: chain, start: w.kit.Now()}
	c.await(ctx, one, say)
	return true
}

// await dials, says what came of it, and carries the connection when it has come.
func (c *connection) await(ctx context.Context, one *arrival, say func(syscall.Errno)) {
	e := new(early)
	err := c.reach(ctx, e)
	defer e.flow.Close()
	if err != nil {
		if e.decision.Verdict.Passes() {
			err = e.flow.Fail(err)
		} else {
			c.way.kit.Denials.Wait(ctx)
		}
		c.way.ahead.forget(one)
		say(errnoOf(err))
		one.turnAway()
		return
	}
	defer c.way.kit.Upstream.Open.Give(1)
	defer e.under.over()
	say(0)
	down := c.way.ahead.arrive(ctx, one)
	if down == nil {
		e.up.Close()
		if ctx.Err() == nil {
			e.flow.Broke(errLeft, 0)
		}
		return
	}
	defer down.Close()
	c.conn.Arrive(down)
	buffer := c.way.kit.Buffers.NewBuffer(c.way.kit.Hellos)
	defer buffer.Release()
	c.greet(ctx, e, buffer, sniff.Limits{OnlyTLS: true})
}

var errLeft = errors.New("the client gave up before it was connected")

// arrive waits for the client's connection; nil where it does not come.
func (a *ahead) arrive(ctx context.Context, one *arrival) *net.TCPConn {
	timer := time.NewTimer(AheadTimeout)
	defer timer.Stop()
	select {
	case down := <-one.down:
		return down
	case <-one.void:
	case <-timer.C:
	case <-ctx.Done():
	}
	a.forget(one)
	select {
	case down := <-one.down: // at the last moment
		return down
	default:
		return nil
	}
}

// turnAway resets a connection that came although its client has been answered: the
// answer took too long.
func (one *arrival) turnAway() {
	select {
	case down := <-one.down:
		gate.Reset(down)
	default:
	}
}

// errnoOf is what a connect says of why a destination was not reached.
func errnoOf(err error) syscall.Errno {
	why := refusal.Of(err)
	for _, errno := range []syscall.Errno{syscall.ENETUNREACH, syscall.EHOSTUNREACH} {
		if errors.Is(err, errno) {
			return errno
		}
	}
	switch {
	case why.Reason == refusal.ConnectTimeout:
		return syscall.ETIMEDOUT
	case why.Reason == refusal.ConnectRefused, why.Reason.Denied():
		return syscall.ECONNREFUSED
	}
	return syscall.EHOSTUNREACH
}
