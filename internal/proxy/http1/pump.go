package http1

import (
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

const (
	pumpRoom = 32       // before a piece of body: the line with its size
	pumpSize = 32 << 10 // of a piece of body
)

type pumpBuffer [pumpRoom + pumpSize + tailRoom]byte

var pumpBuffers = sync.Pool{New: func() any { return new(pumpBuffer) }}

// pump sends what is still to come of a request's body, while the answer may
// already be on its way back. It holds one buffer: a client cannot send faster
// than the upstream reads.
type pump struct {
	conn   *conn
	u      exchange.Stream
	chunks *chunkDecoder // nil: left says how much
	left   int64
	total  int64  // bytes of body so far, as data
	buffer []byte // pumpRoom, a piece of body, tailRoom
	held   int    // of the server's memory

	headTimeout time.Duration // from the body's end to the answer's head; 0: the engine's

	mirror exchange.Mirror // gets copied, once it is whole; nil: nobody does
	copied []byte          // what was sent

	read    int64  // bytes from the client
	surplus []byte // read past the end of the body, in buffer
	sent    atomic.Bool
	failure atomic.Pointer[refusal.Error] // of the client; an upstream that stops reading shows in its answer
	done    chan struct{}
}

// run is the pump's goroutine; join waits for it.
func (p *pump) run() {
	defer close(p.done)
	d := p.conn
	for {
		into := p.buffer[pumpRoom : len(p.buffer)-tailRoom]
		if p.chunks == nil {
			into = into[:min(p.left, int64(len(into)))]
		}
		n, err := d.tcp.Read(into)
		if err != nil {
			p.clientFailed(err)
			return
		}
		p.read += int64(n)
		piece, last, bad := p.frame(n)
		if bad != fine {
			p.fail(d.server.limits.request(bad))
			return
		}
		if last {
			p.sent.Store(true)
		}
		p.copy(piece, last)
		if len(piece) > 0 {
			d.watch.set(moving, d.deadline(d.server.limits.TransferTimeout))
			if _, err := p.u.Write(piece); err != nil {
				return // an upstream that has answered already may do that
			}
		}
		if last {
			d.watch.set(waiting, d.deadline(max(d.server.limits.AnswerTimeout, p.headTimeout+sweepAtMost)))
			if p.headTimeout > 0 {
				d.setAlarmOnce(d.server.now() + p.headTimeout)
			}
			return
		}
		if n == len(p.buffer)-pumpRoom-tailRoom {
			p.widen()
		}
		d.watch.set(moving, d.deadline(d.server.limits.TransferTimeout))
	}
}

// takeBuffer takes what the body goes through: of a stream a small one, which is counted with
// the stream.
func (p *pump) takeBuffer() {
	if p.conn.stream == nil {
		p.buffer = pumpBuffers.Get().(*pumpBuffer)[:]
	} else {
		p.buffer = streamPumpBuffers.Get().(*streamPumpBuffer)[:]
	}
}

// giveBackBuffer gives it back.
func (p *pump) giveBackBuffer() {
	switch len(p.buffer) {
	case len(pumpBuffer{}):
		pumpBuffers.Put((*pumpBuffer)(p.buffer))
	case len(streamPumpBuffer{}):
		streamPumpBuffers.Put((*streamPumpBuffer)(p.buffer))
	}
	p.conn.server.memory.give(p.held)
	p.buffer, p.held = nil, 0
}

// widen lets what follows come in larger pieces, where more may be had. What was read was sent.
func (p *pump) widen() {
	m := &p.conn.server.memory
	if len(p.buffer) < len(pumpBuffer{}) && m.take(pumpSize) {
		p.giveBackBuffer()
		p.buffer, p.held = pumpBuffers.Get().(*pumpBuffer)[:], pumpSize
	}
}

// copy keeps a copy of what is sent, within its bound, and hands it on with its end.
func (p *pump) copy(piece []byte, last bool) {
	switch {
	case p.mirror == nil:
	case len(p.copied)+len(piece) > exchange.MaxMirrorBytes:
		p.mirror, p.copied = nil, nil
	default:
		p.copied = append(p.copied, piece...)
		if last {
			p.mirror.Mirror(p.copied)
		}
	}
}

// frame makes the n bytes just read ready to be sent.
func (p *pump) frame(n int) (piece []byte, last bool, bad cause) {
	if p.chunks == nil {
		p.left -= int64(n)
		return p.buffer[pumpRoom : pumpRoom+n], p.left == 0, fine
	}
	data, used, bad := p.chunks.decode(p.buffer[pumpRoom : pumpRoom+n])
	if bad != fine {
		return nil, false, bad
	}
	p.total += int64(data)
	if limit := p.conn.server.limits.MaxBodyBytes; limit > 0 && p.total > limit {
		return nil, false, longBody
	}
	if used < n {
		p.surplus = append(p.surplus, p.buffer[pumpRoom+used:pumpRoom+n]...)
		p.read -= int64(n - used)
	}
	from, end := pumpRoom, pumpRoom+data
	var tail []byte
	if data > 0 {
		var sizeLine [maxSizeDigits + 2]byte
		line := appendSize(sizeLine[:0], data)
		from -= len(line)
		copy(p.buffer[from:], line)
		end += copy(p.buffer[end:], "\r\n")
	}
	if p.chunks.done() {
		if tail, bad = p.chunks.appendEnd(nil); bad != fine {
			return nil, false, bad
		}
		if end+len(tail) > len(p.buffer) {
			return append(append([]byte(nil), p.buffer[from:end]...), tail...), true, fine
		}
		end += copy(p.buffer[end:], tail)
	}
	return p.buffer[from:end], p.chunks.done(), fine
}

// clientFailed ends the exchange because the client did.
func (p *pump) clientFailed(err error) {
	switch {
	case p.conn.watch.fired() && !p.conn.aborted.Load() && !p.conn.gone.Load():
		p.fail(refusal.New(refusal.RequestTimeout, ""))
	case errors.Is(err, io.EOF), !isTimeout(err):
		p.fail(&refusal.Error{Reason: refusal.ClientGone, Err: err})
	}
}

func (p *pump) fail(e *refusal.Error) {
	p.failure.Store(e)
	p.u.Abort()
}

// join waits until the body was sent. A pump that still reads after the answer
// is stopped.
func (p *pump) join() {
	if !p.sent.Load() {
		p.conn.tcp.SetReadDeadline(longAgo)
		p.u.Abort()
	}
	<-p.done
}

// forwardLong serves a request whose body does not fit into the buffer, or that
// may become a relay. It runs outside the callback: two goroutines block.
func (d *conn) forwardLong(dir *exchange.Direction, start time.Duration) next {
	out, bad := d.buildRequest(dir)
	if bad != fine {
		return d.failed(dir, start, result{failure: d.server.limits.request(bad), closes: true})
	}
	d.attempts++
	d.alarm.at.Store(unset)
	u, err := d.connect(dir)
	if err != nil {
		return d.failed(dir, start, result{failure: d.connectFailure(err)})
	}
	var copied []byte // what out is a view of is used again once it is sent
	if !d.request.complete && d.mirrors(dir, out) {
		copied = slices.Clone(out)
	}
	p, n, err := d.sendLong(u, dir, out, copied)
	if d.notBegun(err, p) {
		d.watched(nil)
		u.Release(false)
		if u, err = d.dial(dir); err != nil {
			return d.failed(dir, start, result{failure: d.connectFailure(err)})
		}
		p, n, err = d.sendLong(u, dir, out, copied)
	}
	var res result
	if err != nil {
		res = result{failure: d.readFailure(err, p)}
	} else {
		res = d.answer(u, n, p)
	}
	if res.upgraded {
		return d.settle(dir, start, u, res)
	}
	return d.endPump(p, dir, start, u, res)
}

// sendLong sends what is there of a request, begins to send the rest, and reads what its server
// says first.
func (d *conn) sendLong(u exchange.Stream, dir *exchange.Direction, out exchange.Message, copied []byte) (p *pump, n int, err error) {
	d.watch.set(moving, d.deadline(d.server.limits.TransferTimeout))
	if err := u.Send(out); err != nil {
		return nil, 0, err
	}
	if p = d.startPump(u, dir, copied); p == nil {
		d.watch.set(waiting, d.deadline(d.server.limits.AnswerTimeout))
	}
	n, err = u.Exchange(nil, d.scratch.up[headRoom:len(d.scratch.up)-tailRoom])
	return p, n, err
}

// notBegun reports whether a request can be sent once more, because its server has not begun
// with it and nothing was read meanwhile that would be missing. Its pump has ended then.
func (d *conn) notBegun(err error, p *pump) bool {
	if !errors.Is(err, exchange.ErrNotBegun) || d.watch.fired() {
		return false
	}
	if p == nil {
		return true
	}
	d.tcp.SetReadDeadline(longAgo)
	p.u.Abort()
	<-p.done
	if p.read > 0 || p.failure.Load() != nil {
		return false
	}
	p.giveBackBuffer()
	d.tcp.SetReadDeadline(time.Time{})
	return !d.interrupted() // which set the deadline that was just taken back
}

// startPump starts sending the rest of the request's body, if there is one. copied is a
// copy of what was sent of the request; nil: nobody wants one.
func (d *conn) startPump(u exchange.Stream, dir *exchange.Direction, copied []byte) *pump {
	if d.request.complete {
		return nil
	}
	h := d.head
	p := &pump{conn: d, u: u, done: make(chan struct{}), total: int64(d.request.body), headTimeout: dir.HeadTimeout}
	d.patienceOf = dir.HeadTimeout
	if h.chunked {
		p.chunks = &d.scratch.chunks
	} else {
		p.left = h.length - int64(d.request.body)
	}
	if copied != nil {
		p.mirror, p.copied = dir.Mirror, copied
	}
	p.takeBuffer()
	go p.run()
	return p
}

// endPump waits for the pump, accounts for what it read, and puts what it read
// too much where the next request is looked for.
func (d *conn) endPump(p *pump, dir *exchange.Direction, start time.Duration, u exchange.Stream, res result) next {
	if p == nil {
		return d.settle(dir, start, u, res)
	}
	p.join()
	if e := p.failure.Load(); res.status == 0 && e != nil {
		res.failure = e
	}
	if p.sent.Load() {
		d.request.complete = true
	} else {
		res.reusable, res.closes = false, true
	}
	d.request.pumped = p.read
	surplus := p.surplus
	p.giveBackBuffer()
	then := d.settle(dir, start, u, res)
	if then == serveNext && len(surplus) > 0 {
		if len(surplus) > len(d.scratch.in) {
			d.growIn(len(surplus), false) // of no stream: behind its request there is none
		}
		d.r, d.w = 0, copy(d.scratch.in, surplus)
	}
	return then
}
