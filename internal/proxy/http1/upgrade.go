package http1

import (
	"errors"
	"io"
	"sync"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

// relayBuffer is what each direction of an upgraded connection holds.
type relayBuffer [8 << 10]byte

var relayBuffers = sync.Pool{New: func() any { return new(relayBuffer) }}

// switchProtocols relays a 101 and then bytes, both ways, until both have
// ended. The answer's head is up[headRoom:headRoom+size], n bytes are there.
func (d *conn) switchProtocols(u exchange.Stream, size, n int, p *pump) result {
	h := &d.scratch.res
	granted, switches := h.upgradesTo()
	bad := fine
	switch {
	case d.asked == "" || !switches || !equalFoldBytes([]byte(d.asked), []byte(granted)):
		bad = unaskedSwitch
	case h.chunked || h.length > 0: // RFC 9110 §8.6: there is no body that could be delimited
		bad = bodyOfSwitch
	case p != nil:
		bad = switchInBody
	}
	if bad != fine {
		return result{failure: d.server.limits.answer(bad)}
	}
	h.dropNamed(contentLengthName)
	out := h.appendStatus(d.scratch.out[:0])
	out = append(out, "connection: upgrade\r\nupgrade: "...)
	out = append(out, granted...)
	out = append(out, "\r\n\r\n"...)
	res := result{status: 101, upgraded: true, closes: true}
	first := d.joined(out, size, n)
	if !d.write(first) {
		res.failure = d.clientFailure()
		return res
	}
	early := d.scratch.in[d.r+d.request.size : d.w]
	d.request.pumped = int64(len(early))
	d.until = 0
	if len(early) > 0 {
		if _, err := u.Write(early); err != nil {
			return d.broken(res, err)
		}
	}
	d.keepHead()
	return d.relay(u, res)
}

// keepHead keeps what the Director may still ask about and gives the scratch
// back: an upgraded connection may live for hours.
func (d *conn) keepHead() {
	kept := new(head)
	*kept = d.scratch.req
	kept.raw = append([]byte(nil), kept.raw...)
	request := d.request
	d.release()
	request.pumped += int64(request.size)
	request.size = 0 // nothing of it is in the buffer any more
	d.request = request
	d.head = kept
	d.describe(kept)
}

// relay copies bytes both ways. The end of one direction is passed on as the
// end of that direction; an error ends both.
func (d *conn) relay(u exchange.Stream, res result) result {
	up := make(chan relayed)
	go func() { up <- d.copyUp(u) }()
	down := d.copyDown(u)
	if down.err != nil {
		d.tcp.SetDeadline(longAgo)
		u.Abort()
	}
	fromClient := <-up
	d.request.pumped += fromClient.bytes
	switch {
	case d.aborted.Load():
		res.failure = refusal.New(refusal.Withdrawn, "")
	case d.watch.fired():
		res.failure = &refusal.Error{Reason: refusal.UpstreamTimeout, Err: errQuiet}
	case down.err != nil && !errors.Is(down.err, errStopped):
		res.failure = &refusal.Error{Reason: refusal.UpstreamReset, Err: down.err}
	case fromClient.err != nil:
		res.failure = &refusal.Error{Reason: refusal.ClientGone, Err: fromClient.err}
	}
	return res
}

var (
	errQuiet   = errors.New("no byte moved on the upgraded connection for too long")
	errStopped = errors.New("the other direction ended in an error")
)

// relayed is how one direction ended; err is nil where its end was passed on.
type relayed struct {
	bytes int64
	err   error
}

// copyUp relays the client's bytes.
func (d *conn) copyUp(u exchange.Stream) (r relayed) {
	buffer := relayBuffers.Get().(*relayBuffer)
	defer relayBuffers.Put(buffer)
	for {
		d.watch.set(moving, d.deadline(d.server.limits.UpgradeTimeout))
		n, err := d.tcp.Read(buffer[:])
		if n > 0 {
			r.bytes += int64(n)
			if _, err := u.Write(buffer[:n]); err != nil {
				r.err = err
				u.Abort()
				return r
			}
		}
		if errors.Is(err, io.EOF) {
			u.CloseWrite()
			return r
		}
		if err != nil {
			r.err = err
			u.Abort()
			return r
		}
	}
}

// copyDown relays the upstream's bytes.
func (d *conn) copyDown(u exchange.Stream) (r relayed) {
	buffer := relayBuffers.Get().(*relayBuffer)
	defer relayBuffers.Put(buffer)
	for {
		d.watch.set(moving, d.deadline(d.server.limits.UpgradeTimeout))
		n, err := u.Exchange(nil, buffer[:])
		if errors.Is(err, io.EOF) {
			d.tcp.CloseWrite()
			return r
		}
		if err != nil {
			r.err = err
			if isTimeout(err) {
				r.err = errStopped
			}
			return r
		}
		if !d.write(buffer[:n]) {
			r.err = errStopped
			return r
		}
	}
}
