package http1

import (
	"context"
	"errors"
	"net"
	"sync"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

// waits is what a connection waits for that another goroutine can end.
type waits struct {
	mu     sync.Mutex
	stream exchange.Stream
	cancel context.CancelFunc
}

// end ends the waiting.
func (w *waits) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endLocked()
}

// endLocked is end with mu held.
func (w *waits) endLocked() {
	if w.stream != nil {
		w.stream.Abort()
	}
	if w.cancel != nil {
		w.cancel()
	}
}

// connect takes a connection that is open, this client's own where there is one, or
// dials one, and lets the sweeper see it.
func (d *conn) connect(dir *exchange.Direction) (exchange.Stream, error) {
	d.binds = d.head.signsIn || addsSignIn(dir.Set) || addsSignIn(dir.Append)
	if u := d.takeBound(dir.Upstream); u != nil {
		d.binds = true
		d.watched(u)
		return u, nil
	}
	if u := dir.Upstream.Take(); u != nil {
		d.watched(u)
		return u, nil
	}
	return d.dial(dir)
}

// dial opens a new connection. Whatever ends the exchange ends the dialling.
func (d *conn) dial(dir *exchange.Direction) (exchange.Stream, error) {
	ctx, done := d.interruptible()
	defer done()
	u, err := dir.Upstream.Dial(exchange.WithWaits(ctx, &d.waits))
	if err != nil {
		return nil, err
	}
	d.watched(u)
	return u, nil
}

// watched lets the sweeper see the upstream connection; nil: there is none any
// more.
func (d *conn) watched(u exchange.Stream) {
	d.wait.mu.Lock()
	d.wait.stream = u
	d.wait.mu.Unlock()
	if u != nil && d.interrupted() {
		u.Abort()
	}
}

// ended says whether the connection was ended from without. Its context may end
// before abort is called.
func (d *conn) ended() bool {
	if d.ctx.Err() != nil {
		d.aborted.Store(true)
	}
	return d.aborted.Load()
}

// connectFailure says why there is no upstream connection.
func (d *conn) connectFailure(err error) *refusal.Error {
	late := d.late()
	switch {
	case d.gone.Load():
		return &refusal.Error{Reason: refusal.ClientGone, Err: err}
	case d.ended():
		return &refusal.Error{Reason: refusal.Withdrawn, Err: err}
	case late != nil:
		return late
	case refusal.Of(err).Reason == refusal.Withdrawn, !d.watch.fired():
		return refusal.Of(err)
	}
	return &refusal.Error{Reason: refusal.UpstreamTimeout, Err: err}
}

// readFailure says why there is no head of an answer.
func (d *conn) readFailure(err error, p *pump) *refusal.Error {
	if p != nil {
		if e := p.failure.Load(); e != nil {
			return e
		}
	}
	return d.streamFailure(err)
}

// streamFailure says why an upstream connection failed.
func (d *conn) streamFailure(err error) *refusal.Error {
	var own *refusal.Error
	if errors.As(err, &own) {
		return own
	}
	e := &refusal.Error{Reason: refusal.UpstreamReset, Err: err}
	late := d.late()
	switch {
	case d.gone.Load():
		e.Reason = refusal.ClientGone
	case d.aborted.Load():
		e.Reason = refusal.Withdrawn
	case late != nil:
		return late
	case d.watch.fired() && isTimeout(err):
		e.Reason = refusal.UpstreamTimeout
	case isTimeout(err):
		e.Reason = refusal.Withdrawn // the upstream was closed under us
	}
	return e
}

// clientFailure says why the client could not be written to.
func (d *conn) clientFailure() *refusal.Error {
	switch {
	case d.aborted.Load():
		return refusal.New(refusal.Withdrawn, "")
	case d.watch.fired():
		return refusal.New(refusal.ClientStalled, "")
	}
	return refusal.New(refusal.ClientGone, "")
}

// isTimeout says that err came from Abort or a deadline.
func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}
