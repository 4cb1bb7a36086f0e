package http1

import (
	"context"
	"errors"
	"io"
	"net/netip"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

// maxAwayBytes bounds an answer that nobody gets: what is longer ends its connection.
const maxAwayBytes = 4 << 20

// SendAway sends a request of which all is there, and reads its answer for nobody: the
// connection serves others then. It returns the answer's status, 0 where none came, and
// which address was reached. ctx ends it.
func SendAway(ctx context.Context, to exchange.Upstream, out exchange.Message) (status int, at netip.AddrPort, err error) {
	a := away{method: out.Method(), buffer: make([]byte, upSize)}
	if a.u = to.Take(); a.u != nil {
		if err = a.over(ctx, out); err == nil || a.begun || ctx.Err() != nil || !isIdempotent(a.method) {
			return a.head.status, a.u.Remote(), err
		}
		// The peer closed an idle connection while we wrote.
	}
	if a.u, err = to.Dial(ctx); err != nil {
		return 0, at, err
	}
	err = a.over(ctx, out)
	return a.head.status, a.u.Remote(), err
}

// away is one such request.
type away struct {
	u        exchange.Stream
	method   string
	buffer   []byte
	head     head
	begun    bool // something of an answer came
	reusable bool
}

// over sends the request over one connection, and gives that back.
func (a *away) over(ctx context.Context, out exchange.Message) error {
	stop := context.AfterFunc(ctx, a.u.Abort)
	err := a.run(out)
	a.u.Release(stop() && err == nil && a.reusable && !a.head.signsIn)
	if err == nil {
		return nil
	}
	var own *refusal.Error
	switch {
	case ctx.Err() != nil:
		return &refusal.Error{Reason: refusal.UpstreamTimeout, Err: err}
	case errors.As(err, &own):
		return own
	}
	return &refusal.Error{Reason: refusal.UpstreamReset, Err: err}
}

// run sends the request and reads its answer to the end.
func (a *away) run(out exchange.Message) error {
	n, err := a.u.Exchange(out, a.buffer)
	if err != nil {
		return err
	}
	a.begun = true
	for interim := 0; ; interim++ {
		size := 0
		for {
			var bad cause
			if size, bad = a.head.parseResponse(a.buffer[:n], len(a.buffer)); bad != fine {
				return a.unread(bad)
			}
			if size > 0 {
				break
			}
			if n == len(a.buffer) {
				return a.unread(longHead)
			}
			m, err := a.u.Exchange(nil, a.buffer[n:])
			if err != nil {
				return err
			}
			n += m
		}
		if a.head.status >= 200 {
			return a.body(a.buffer[size:n])
		}
		if a.head.status == 101 {
			return a.unread(unaskedSwitch)
		}
		if interim == maxInterim {
			return a.unread(manyInterim)
		}
		if n = copy(a.buffer, a.buffer[size:n]); n == 0 {
			if n, err = a.u.Exchange(nil, a.buffer); err != nil {
				return err
			}
		}
	}
}

// unread says why an answer cannot be read.
func (a *away) unread(bad cause) error {
	limits := Limits{MaxHeaderBytes: len(a.buffer)}
	return limits.answer(bad)
}

// body reads the answer's body, whose beginning is there.
func (a *away) body(there []byte) error {
	closes := a.head.closes || a.head.http10
	switch {
	case a.method == "HEAD" || a.head.status == 204 || a.head.status == 304:
		a.reusable = !closes && len(there) == 0
		return nil
	case a.head.chunked:
		return a.chunks(there, closes)
	case a.head.length >= 0:
		left := a.head.length - int64(len(there))
		if left > maxAwayBytes {
			return nil
		}
		for left > 0 {
			n, err := a.u.Exchange(nil, a.buffer[:min(left, int64(len(a.buffer)))])
			if err != nil {
				return err
			}
			left -= int64(n)
		}
		a.reusable = !closes && left == 0
		return nil
	}
	for read := len(there); read < maxAwayBytes; { // to the end of the connection
		n, err := a.u.Exchange(nil, a.buffer)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		read += n
	}
	return nil
}

// chunks reads a chunked body.
func (a *away) chunks(there []byte, closes bool) error {
	var decoder chunkDecoder
	decoder.reset(true)
	for read := 0; ; {
		_, used, bad := decoder.decode(there)
		if bad != fine {
			return a.unread(bad)
		}
		if decoder.done() {
			a.reusable = !closes && used == len(there)
			return nil
		}
		if read += len(there); read > maxAwayBytes {
			return nil
		}
		n, err := a.u.Exchange(nil, a.buffer)
		if err != nil {
			return err
		}
		there = a.buffer[:n]
	}
}
