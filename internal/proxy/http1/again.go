package http1

import (
	"time"

	"sluice.dev/sluice/internal/pause"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

// startAlarm begins the time of one attempt.
func (d *conn) startAlarm(dir *exchange.Direction) {
	at, timeout := d.headBy, dir.HeadTimeout
	if dir.Retry != nil {
		if each := dir.Retry.AttemptTimeout(); each > 0 {
			if by := d.server.now() + each; at == 0 || by < at {
				at, timeout = by, each
			}
		}
	}
	if at == 0 {
		d.alarm.at.Store(unset)
		return
	}
	d.patienceOf = timeout
	d.setAlarm(at)
}

// again reports whether a request whose attempt ended so is sent again. Of an answer that
// came, answer has asked already.
func (d *conn) again(res *result) bool {
	switch {
	case res.again:
		return true
	case d.retry == nil || res.failure == nil || res.status != 0:
		return false
	}
	res.wait, res.again = d.ask(exchange.Attempt{Number: d.attempts, Failure: res.failure})
	if res.again {
		res.reusable = false
	}
	return res.again
}

// ask asks the Retrier, where there is still time for another attempt and somebody to
// answer. What signs a connection in is for that connection alone, and is not sent again.
func (d *conn) ask(a exchange.Attempt) (wait time.Duration, again bool) {
	if d.binds || d.watch.fired() || d.gone.Load() || d.ended() || d.headBy > 0 && d.server.now() >= d.headBy {
		return 0, false
	}
	if d.headBy > 0 {
		a.Left = d.headBy - d.server.now()
	}
	wait, again = d.retry.Again(a)
	return wait, again && (a.Left == 0 || wait < a.Left)
}

// rest waits between two attempts; it says why there is none.
func (d *conn) rest(wait time.Duration) *refusal.Error {
	d.alarm.at.Store(unset) // that attempt is over
	ctx, done := d.interruptible()
	defer done()
	if pause.For(ctx, wait) != nil {
		return d.connectFailure(&refusal.Error{Reason: refusal.UpstreamTimeout, Err: ctx.Err()})
	}
	return nil
}

// wholeAnswer reports whether an answer whose head is size of n bytes in the buffer ends
// there, so that its connection may serve another exchange.
func (d *conn) wholeAnswer(size, n int) bool {
	h := &d.scratch.res
	if h.closes || h.http10 {
		return false
	}
	switch d.bodyKind() {
	case noBody:
		return n == size
	case lengthBody:
		return int64(n-size) == h.length
	}
	return false
}
