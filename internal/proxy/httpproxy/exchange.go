package httpproxy

import (
	"context"
	"errors"
	"time"

	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
)

// exchange asks about the request at r and forwards or answers it, inside the
// callback where its body is in the buffer.
func (d *conn) exchange() next {
	s := d.server
	start := s.now()
	d.received, d.until = 0, 0
	if !d.watch.set(waiting, start+s.limits.AnswerTimeout) {
		return endNow
	}
	direction := s.director.Direct(&d.x)
	switch {
	case direction.Reply != nil:
		return d.local(&direction, start)
	case !d.followable(&direction):
		return d.failed(&direction, start, result{failure: Internal})
	case direction.SetHost == "" && !d.scratch.req.hostSeen:
		return d.failed(&direction, start, result{failure: NoHost})
	}
	if direction.Timeout > 0 {
		d.until = start + direction.Timeout
		d.watch.set(waiting, d.until)
	}
	if !d.request.complete || direction.AllowUpgrade && d.upgrading() {
		d.long = &longRun{direction: direction, start: start}
		if !d.inside {
			return d.serveLong()
		}
		return leaveLong
	}
	return d.forward(&direction, start)
}

func (d *conn) upgrading() bool {
	_, ok := d.scratch.req.upgradesTo()
	return ok
}

// followable says whether a direction is one.
func (d *conn) followable(dir *Direction) bool {
	lines := dir.AppendHeader
	return dir.Upstream != nil && len(lines) <= maxAppendBytes && all([]byte(dir.SetHost), hostByte) &&
		(len(lines) == 0 || len(lines) > 3 && string(lines[len(lines)-2:]) == "\r\n")
}

// result is how the forwarding of one request ended.
type result struct {
	failure  Failure
	err      error
	status   int  // of the answer's head that was sent; 0: none was
	closes   bool // the client connection cannot serve another request
	reusable bool // the upstream connection can
	upgraded bool
}

// forward sends the request upstream in one write, and its answer back in
// another if it is short.
func (d *conn) forward(dir *Direction, start time.Duration) next {
	out, ok := d.buildRequest(dir)
	if !ok {
		return d.failed(dir, start, result{failure: RequestMalformed, closes: true})
	}
	replayable := isIdempotent(d.x.Method())
	u, err := d.connect(dir, !replayable)
	if err != nil {
		return d.failed(dir, start, result{failure: d.connectFailure(err), err: err})
	}
	up := d.scratch.up[headRoom : len(d.scratch.up)-tailRoom]
	n, err := u.Exchange(out, up)
	if err != nil && u.Reused() && replayable && !d.watch.fired() && !dir.Upstream.Closed() {
		// An upstream that closed an idle connection while we wrote: nothing of
		// an answer came, and sending the request again changes nothing.
		d.drop(u)
		if u, err = d.dial(dir); err != nil {
			return d.failed(dir, start, result{failure: d.connectFailure(err), err: err})
		}
		n, err = u.Exchange(out, up)
	}
	var res result
	if err != nil {
		res = result{failure: d.readFailure(err, nil), err: err}
	} else {
		res = d.answer(u, n, nil)
	}
	return d.settle(dir, start, u, res)
}

// settle puts the upstream connection where it belongs and closes the account.
func (d *conn) settle(dir *Direction, start time.Duration, u *upstream.Conn, res result) next {
	o := Outcome{Upstream: u.Remote(), Reused: u.Reused()}
	now := d.server.now()
	if !d.watch.set(idle, now+d.server.limits.IdleTimeout) {
		res.closes, res.reusable = true, false
	}
	d.up.Store(nil)
	if res.reusable {
		dir.Upstream.Put(u)
	} else {
		u.Close()
	}
	return d.finish(dir, start, now, res, o)
}

// failed closes the account of a request that reached no upstream.
func (d *conn) failed(dir *Direction, start time.Duration, res result) next {
	now := d.server.now()
	if !d.watch.set(idle, now+d.server.limits.IdleTimeout) {
		res.closes = true
	}
	return d.finish(dir, start, now, res, Outcome{})
}

// finish answers a failure where no answer was sent, and tells the Director.
func (d *conn) finish(dir *Direction, start, now time.Duration, res result, o Outcome) next {
	then := serveNext
	switch {
	case !d.request.complete:
		then = lingerThen
	case res.closes && d.r+d.request.size < d.w:
		then = lingerThen
	case res.closes:
		then = endNow
	}
	o.Status, o.Failure, o.Err, o.Upgraded = res.status, res.failure, res.err, res.upgraded
	o.Reason = res.failure.String()
	o.Sent = int64(d.request.size) + d.request.pumped
	if res.failure != None {
		var why *refusal.Error
		if errors.As(res.err, &why) {
			o.Reason = string(why.Reason)
		}
		then = d.explain(dir, &o, then)
	}
	o.Received, o.Duration = d.received, now-start
	d.server.director.Done(&d.x, o)
	d.requestServed()
	return then
}

// explain answers the client in the upstream's place, if nothing was sent yet.
func (d *conn) explain(dir *Direction, o *Outcome, then next) next {
	switch {
	case o.Failure == ClientGone || o.Failure == ClientStalled || d.aborted.Load():
		return endNow
	case o.Status != 0:
		return endNow // half an answer cannot be mended, only cut
	}
	reply := failureReply(o.Failure)
	reply.Reason = o.Reason
	var why *refusal.Error
	if errors.As(o.Err, &why) {
		reply.Status = why.Reason.Status()
		if why.Denied() { // the dial found the destination forbidden
			reply.Text = "Sluice denied this request."
		}
	}
	if dir.Explain && o.Err != nil {
		reply.Text += " " + o.Err.Error() + "."
	}
	o.Status = reply.Status
	if !d.sendReply(&reply, dir.ID, then != serveNext || d.closesAfter()) {
		return endNow
	}
	if then == serveNext && !d.closesAfter() {
		return serveNext
	}
	return lingerThen
}

// local answers with the Director's Reply.
func (d *conn) local(dir *Direction, start time.Duration) next {
	closes := dir.Reply.Close || !d.request.complete || d.closesAfter()
	res := result{status: dir.Reply.Status, closes: closes}
	if !d.sendReply(dir.Reply, dir.ID, closes) {
		res.failure, res.closes = ClientGone, true
	}
	return d.failed(dir, start, res)
}

// refuse answers a request that never came to the Director, and ends the
// connection: nobody knows where the next one begins.
func (d *conn) refuse(f Failure) next {
	d.received, d.until = 0, 0
	d.server.director.Refused(d.x.Info, f)
	if f == HTTP2NotBuilt {
		d.write(http2Refusal)
		return lingerThen
	}
	d.x.head = nil
	reply := failureReply(f)
	if !d.sendReply(&reply, 0, true) {
		return endNow
	}
	return lingerThen
}

// closesAfter says whether the client connection ends with this request anyway.
func (d *conn) closesAfter() bool {
	h := d.x.head
	return h == nil || h.closes || h.http10 && !h.keepAlive || d.server.draining.Load()
}

// connect takes a connection from the pool or dials one, and lets the sweeper
// see it.
func (d *conn) connect(dir *Direction, careful bool) (*upstream.Conn, error) {
	if u := dir.Upstream.Take(careful); u != nil {
		return d.watched(u), nil
	}
	return d.dial(dir)
}

// dial opens a new connection. Whatever ends the exchange ends the dialling.
func (d *conn) dial(dir *Direction) (*upstream.Conn, error) {
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	d.dialing.Store(&cancel)
	defer d.dialing.Store(nil)
	if d.watch.fired() {
		cancel() // the sweeper came before it could see cancel
	}
	u, err := dir.Upstream.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return d.watched(u), nil
}

func (d *conn) watched(u *upstream.Conn) *upstream.Conn {
	d.up.Store(u)
	if d.watch.fired() {
		u.Abort() // the sweeper came before it could see u
	}
	return u
}

// drop closes an upstream connection that failed.
func (d *conn) drop(u *upstream.Conn) {
	d.up.Store(nil)
	u.Close()
}

// connectFailure says why there is no upstream connection.
func (d *conn) connectFailure(err error) Failure {
	if d.ctx.Err() != nil {
		d.aborted.Store(true) // abort itself may come later than the dialler's error
	}
	switch {
	case d.gone.Load():
		return ClientGone
	case errors.Is(err, upstream.ErrOverflow):
		return Overflow
	case errors.Is(err, upstream.ErrWithdrawn), d.aborted.Load():
		return Withdrawn
	case d.watch.fired():
		return UpstreamTimeout
	}
	switch refusal.Of(err).Reason {
	case refusal.UpstreamTLS, refusal.CertificateFail:
		return UpstreamTLS
	}
	return UpstreamConnect
}

// isIdempotent says whether a request may be sent twice, RFC 9110 §9.2.2.
func isIdempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		return true
	}
	return false
}

// buildRequest writes the request as the upstream gets it: always HTTP/1.1,
// origin-form, without what is for one hop, and with the body that is in the
// buffer.
func (d *conn) buildRequest(dir *Direction) (_ []byte, ok bool) {
	h, q := &d.scratch.req, &d.request
	out := append(d.scratch.out[:0], d.x.Method()...)
	out = append(out, ' ')
	out = append(out, d.x.Target()...)
	out = append(out, " HTTP/1.1\r\n"...)
	if dir.SetHost != "" {
		h.dropNamed(hostName)
		out = append(out, "host: "...)
		out = append(out, dir.SetHost...)
		out = append(out, "\r\n"...)
	}
	for _, name := range dir.DropHeader {
		h.dropOther(name)
	}
	out = h.appendFields(out)
	out = append(out, dir.AppendHeader...)
	if dir.AllowUpgrade {
		if protocol, ok := h.upgradesTo(); ok {
			out = append(out, "connection: upgrade\r\nupgrade: "...)
			out = append(out, protocol...)
			out = append(out, "\r\n"...)
		}
	}
	if h.expects && !h.http10 && !q.complete {
		out = append(out, "expect: 100-continue\r\n"...)
	}
	body := d.scratch.in[d.r+q.head : d.r+q.head+q.body]
	if !h.chunked {
		out = append(out, "\r\n"...)
		return append(out, body...), true
	}
	out = append(out, "transfer-encoding: chunked\r\n\r\n"...)
	return appendChunk(out, body, &d.scratch.chunks)
}

var hostName = []byte("host")

// appendChunk appends decoded data as one chunk, and the end of the body where
// the decoder has seen it.
func appendChunk(out, data []byte, chunks *chunkDecoder) (_ []byte, ok bool) {
	if len(data) > 0 {
		out = appendSize(out, len(data))
		out = append(out, data...)
		out = append(out, "\r\n"...)
	}
	if chunks.done() {
		return chunks.appendEnd(out)
	}
	return out, true
}
