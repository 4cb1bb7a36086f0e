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
	total  int64 // bytes of body so far, as data
	buffer *pumpBuffer

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
		into := p.buffer[pumpRoom : pumpRoom+pumpSize]
		if p.chunks == nil {
			into = into[:min(p.left, pumpSize)]
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
		d.watch.set(moving, d.deadline(d.server.limits.TransferTimeout))
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
	d.watch.set(moving, d.deadline(d.server.limits.TransferTimeout))
	if err := u.Send(out); err != nil {
		res := result{failure: d.readFailure(err, nil)}
		return d.settle(dir, start, u, res)
	}
	p := d.startPump(u, dir, copied)
	if p == nil {
		d.watch.set(waiting, d.deadline(d.server.limits.AnswerTimeout))
	}
	var res result
	if n, err := u.Exchange(nil, d.scratch.up[headRoom:len(d.scratch.up)-tailRoom]); err != nil {
		res = result{failure: d.readFailure(err, p)}
	} else {
		res = d.answer(u, n, p)
	}
	if res.upgraded {
		return d.settle(dir, start, u, res)
	}
	return d.endPump(p, dir, start, u, res)
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
	p.buffer = pumpBuffers.Get().(*pumpBuffer)
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
	pumpBuffers.Put(p.buffer)
	then := d.settle(dir, start, u, res)
	if then == serveNext && len(surplus) > 0 {
		if len(surplus) > len(d.scratch.in) {
			d.scratch.growIn(len(surplus))
		}
		d.r, d.w = 0, copy(d.scratch.in, surplus)
	}
	return then
}
