package http1

import (
	"errors"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

// result is how the forwarding of one request ended.
type result struct {
	failure  *refusal.Error // nil: none
	status   int            // of the answer's head that was sent; 0: none was
	closes   bool           // the client connection cannot serve another request
	reusable bool           // the upstream connection can
	upgraded bool

	again bool // nothing was sent to the client: the request is sent again
	wait  time.Duration
}

// forward sends the request upstream in one write, and its answer back in
// another if it is short. Where it fails, and its Retrier says so, it is sent again.
func (d *conn) forward(dir *exchange.Direction, start time.Duration) next {
	if dir.HeadTimeout > 0 {
		d.headBy = d.begun + dir.HeadTimeout
	}
	d.retry = dir.Retry
	for {
		out, bad := d.buildRequest(dir)
		if bad != fine {
			return d.failed(dir, start, result{failure: d.server.limits.request(bad), closes: true})
		}
		if d.attempts == 0 && d.mirrors(dir, out) {
			dir.Mirror.Mirror(out)
		}
		u, res := d.attempt(dir, out)
		if d.again(&res) {
			d.watched(nil)
			if u != nil {
				u.Release(res.reusable && !d.binds)
			}
			if why := d.rest(res.wait); why != nil {
				return d.failed(dir, start, result{failure: why})
			}
			continue
		}
		if u == nil {
			return d.failed(dir, start, res)
		}
		return d.settle(dir, start, u, res)
	}
}

// mirrors reports whether somebody gets a copy of a request. What signs a connection in is
// for that connection alone.
func (d *conn) mirrors(dir *exchange.Direction, out exchange.Message) bool {
	return dir.Mirror != nil && len(out) <= exchange.MaxMirrorBytes && !d.head.signsIn && d.asked == ""
}

// attempt sends a request that is all there once, and carries its answer. The stream is
// nil where none was connected.
func (d *conn) attempt(dir *exchange.Direction, out exchange.Message) (exchange.Stream, result) {
	d.attempts++
	d.startAlarm(dir)
	replayable := isIdempotent(d.x.Method)
	u, err := d.connect(dir)
	if err != nil {
		return nil, result{failure: d.connectFailure(err)}
	}
	up := d.scratch.up[headRoom : len(d.scratch.up)-tailRoom]
	n, err := u.Exchange(out, up)
	if err != nil && (u.Reused() && replayable || errors.Is(err, exchange.ErrNotBegun)) && !d.watch.fired() && !isTimeout(err) {
		// An upstream that closed an idle connection while we wrote: nothing of
		// an answer came, and sending the request again changes nothing.
		d.watched(nil)
		u.Release(false)
		if u, err = d.dial(dir); err != nil {
			return nil, result{failure: d.connectFailure(err)}
		}
		n, err = u.Exchange(out, up)
	}
	if err != nil {
		return u, result{failure: d.readFailure(err, nil)}
	}
	return u, d.answer(u, n, nil)
}

// settle puts the upstream connection where it belongs and ends the exchange.
func (d *conn) settle(dir *exchange.Direction, start time.Duration, u exchange.Stream, res result) next {
	o := exchange.Outcome{Upstream: u.Remote(), Reused: u.Reused()}
	now := d.server.now()
	if !d.watch.set(idle, now+d.server.limits.IdleTimeout) {
		res.closes, res.reusable = true, false
	}
	d.watched(nil)
	if res.reusable && d.binds {
		d.keep(dir.Upstream, u)
	} else {
		u.Release(res.reusable)
	}
	return d.finish(dir, start, now, res, o)
}

// failed ends the exchange of a request that reached no upstream.
func (d *conn) failed(dir *exchange.Direction, start time.Duration, res result) next {
	now := d.server.now()
	if !d.watch.set(idle, now+d.server.limits.IdleTimeout) {
		res.closes = true
	}
	return d.finish(dir, start, now, res, exchange.Outcome{})
}

// finish answers a failure where no answer was sent, and reports to the Director.
func (d *conn) finish(dir *exchange.Direction, start, now time.Duration, res result, o exchange.Outcome) next {
	then := serveNext
	switch {
	case !d.request.complete:
		then = lingerThen
	case res.closes && d.r+d.request.size < d.w:
		then = lingerThen
	case res.closes:
		then = endNow
	}
	o.Status, o.Failure, o.Upgraded, o.Attempts = res.status, res.failure, res.upgraded, d.attempts
	o.Waits = d.waits
	if d.first > start {
		o.FirstByte = d.first - start
	}
	o.Sent = int64(d.request.size) + d.request.pumped
	if res.failure != nil {
		then = d.explain(dir, &o, then)
	}
	o.Received, o.Duration = d.received, now-start
	d.director.Done(&d.x, o)
	d.requestServed()
	return then
}

// explain answers the client in the upstream's place, if nothing was sent yet.
func (d *conn) explain(dir *exchange.Direction, o *exchange.Outcome, then next) next {
	switch {
	case o.Failure.Reason == refusal.ClientGone || o.Failure.Reason == refusal.ClientStalled || d.aborted.Load():
		return endNow
	case o.Status != 0:
		return endNow // half an answer cannot be mended, only cut
	}
	reply := failureReply(o.Failure, dir.Explain)
	reply.Header = withEdits(reply.Header, dir.Answer)
	o.Status = reply.Status
	if !d.sendReply(&reply, dir.ID, then != serveNext || d.closesAfter()) {
		return endNow
	}
	if then == serveNext && !d.closesAfter() {
		d.watch.set(idle, d.server.now()+d.server.limits.IdleTimeout) // the answer may have been taken for a body that moves
		return serveNext
	}
	return lingerThen
}

// local answers with the Director's Reply.
func (d *conn) local(dir *exchange.Direction, start time.Duration) next {
	reply := *dir.Reply
	if reply.Status == 0 {
		reply.Status = reply.Reason.Status()
	}
	reply.Header = withEdits(reply.Header, dir.Answer)
	if fault := unsendable(&reply); fault != "" {
		return d.failed(dir, start, result{failure: internal(fault)})
	}
	closes := reply.Close || !d.request.complete || d.closesAfter()
	res := result{status: reply.Status, closes: closes}
	if !d.sendReply(&reply, dir.ID, closes) {
		res.failure, res.closes = d.clientFailure(), true
	}
	return d.failed(dir, start, res)
}

// refuse answers a request that never came to the Director, and ends the
// connection: nobody knows where the next one begins.
func (d *conn) refuse(e *refusal.Error) next {
	d.received, d.until = 0, 0
	d.awake(reading, d.server.now()+d.server.limits.HeaderTimeout)
	o := exchange.Outcome{Failure: e, Sent: int64(d.w - d.r)}
	then := lingerThen
	if e.Reason == refusal.HTTP2NotSupported {
		d.write(http2Refusal)
	} else {
		d.head = nil
		reply := failureReply(e, false)
		if d.sendReply(&reply, 0, true) {
			o.Status = reply.Status
		} else {
			then = endNow
		}
	}
	o.Received = d.received
	d.director.Refused(o)
	return then
}

// closesAfter says whether the client connection ends with this request anyway.
func (d *conn) closesAfter() bool {
	h := d.head
	return h == nil || h.closes || h.http10 && !h.keepAlive || d.server.draining.Load()
}

// isIdempotent says whether a request may be sent twice, RFC 9110 §9.2.2.
func isIdempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		return true
	}
	return false
}
