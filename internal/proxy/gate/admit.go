package gate

import (
	"context"
	"errors"
	"net"
	"time"

	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/refusal"
)

// relieveEvery is how often who waits to be let in looks for an idle connection to be
// closed in its favour.
const relieveEvery = 20 * time.Millisecond

// Admit takes a connection among the live ones, with one hold on it: until its Leave. All that is done for it
// must end with the context that is returned, which has the values of ctx and ends when
// the connection does: of itself, by a snapshot or by Close. Where the workload has as many as it may,
// Admit waits for as long as its share says; whoever comes after one who waited in vain
// is turned away at once, until there is one who did not. What is turned away is reset;
// the error says why: Overflow, or Stopping after Close.
func (g *Gate) Admit(ctx context.Context, down *net.TCPConn) (*Conn, context.Context, *refusal.Error) {
	if why := g.turn(ctx); why != nil {
		Reset(down)
		return nil, nil, why
	}
	c, ctx := g.enter(ctx, down)
	if c == nil {
		Reset(down)
		return nil, nil, stopping
	}
	return c, ctx, nil
}

// AdmitAhead takes a connection among the live ones that is still to arrive, as Admit
// does. It does not wait: false says that the one who comes has to.
func (g *Gate) AdmitAhead(ctx context.Context) (*Conn, context.Context, bool) {
	if !g.config.Share.Try(1) {
		return nil, nil, false
	}
	g.full.Store(false)
	c, ctx := g.enter(ctx, nil)
	return c, ctx, c != nil
}

// enter makes a connection, which has its unit of the share, one of the live ones; nil
// after Close.
func (g *Gate) enter(ctx context.Context, down *net.TCPConn) (*Conn, context.Context) {
	c := &Conn{gate: g, life: life{Context: ctx}}
	c.down.Store(down)
	c.holds.Store(1)
	g.mu.Lock()
	closed := g.closed
	if !closed {
		g.live[c] = struct{}{}
	}
	g.mu.Unlock()
	if closed {
		g.config.Share.Give(1)
		return nil, nil
	}
	return c, &c.life
}

// turn takes a unit of the gate's share, or waits for it.
func (g *Gate) turn(ctx context.Context) *refusal.Error {
	of := g.config.Share
	if of.Try(1) {
		g.full.Store(false)
		return nil
	}
	w, err := of.Queue(nil)
	if err == nil {
		select {
		case <-w.Ready(): // what was idle made way
		default:
			if g.config.Crowded != nil {
				g.config.Crowded()
			}
			err = g.wait(ctx, w)
		}
	}
	switch {
	case err == nil:
		g.full.Store(false)
		return nil
	case !errors.Is(err, share.ErrWait) && !errors.Is(err, share.ErrQueue):
		return stopping
	}
	g.full.Store(true)
	return &refusal.Error{Reason: refusal.Overflow, Text: "this workload has as many connections as it may", Err: err}
}

// wait waits for w, and has what is idle closed for it meanwhile.
func (g *Gate) wait(ctx context.Context, w *share.Waiter) error {
	if g.full.Load() {
		limited, cancel := context.WithTimeoutCause(ctx, relieveEvery, share.ErrWait)
		defer cancel()
		return w.Wait(limited)
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		tick := time.NewTicker(relieveEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				g.config.Share.Relieve()
			}
		}
	}()
	return w.Wait(ctx)
}
