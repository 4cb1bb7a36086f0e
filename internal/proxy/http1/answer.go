package http1

import (
	"bytes"
	"errors"
	"io"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

// bodyKind is how an answer's body ends, RFC 9112 §6.3.
type bodyKind uint8

const (
	noBody bodyKind = iota
	lengthBody
	chunkedBody
	closeBody // with the connection
)

// answer reads the answer whose first n bytes are in the buffer and sends it to
// the client. Head and what came of the body with it leave in one write. p is
// the pump that still sends the request's body, if there is one.
func (d *conn) answer(u exchange.Stream, n int, p *pump) result {
	d.first = d.server.now()
	size, n, res := d.finalHead(u, n, p)
	if size == 0 {
		return res
	}
	sc := d.scratch
	h := &sc.res
	if late := d.late(); d.stopAlarm(p != nil) {
		if late == nil {
			late = refusal.New(refusal.UpstreamTimeout, "")
		}
		return result{failure: late}
	}
	if d.retry != nil {
		if wait, again := d.ask(exchange.Attempt{Number: d.attempts, Status: h.status, Unavailable: d.x.GRPC && h.saysUnavailable()}); again {
			return result{again: true, wait: wait, reusable: d.wholeAnswer(size, n)}
		}
	}
	if h.status == 101 {
		return d.switchProtocols(u, size, n, p)
	}
	kind := d.bodyKind()
	// An answer that came before the request was all sent leaves the rest of
	// the request somewhere: this connection serves no other.
	early := p != nil && !p.sent.Load()
	closes := d.closesAfter() || early || kind == closeBody || d.head.http10 && kind == chunkedBody
	reusable := !early && !h.closes && !h.http10 && kind != closeBody
	res = result{status: h.status, closes: closes, reusable: reusable}
	out := d.buildAnswer(kind, closes, d.edits)
	return d.forwardBody(u, out, size, n, kind, res)
}

// finalHead reads heads until the final one, and relays the others. It returns
// the final head's size and how many bytes from its start are in the buffer.
func (d *conn) finalHead(u exchange.Stream, n int, p *pump) (size, have int, res result) {
	sc := d.scratch
	limit := d.server.limits.MaxHeaderBytes
	scanned := 0
	for interim := 0; ; {
		got := sc.up[headRoom : headRoom+n]
		size = 0
		if scanned == 0 || bytes.IndexByte(got[scanned:], '\n') >= 0 || n >= limit {
			var bad cause
			if size, bad = sc.res.parseResponse(got, limit); bad != fine {
				return 0, n, result{failure: d.server.limits.answer(bad)}
			}
		}
		d.binds = d.binds || size > 0 && sc.res.signsIn
		scanned = n
		if size == 0 {
			if headRoom+n == len(sc.up)-tailRoom {
				d.growUp(limit+upSize, false)
			}
			m, err := u.Exchange(nil, sc.up[headRoom+n:len(sc.up)-tailRoom])
			if err != nil {
				return 0, n, result{failure: d.readFailure(err, p)}
			}
			n += m
			continue
		}
		status := sc.res.status
		if status >= 200 || status == 101 {
			return size, n, result{}
		}
		if interim++; interim > maxInterim {
			return 0, n, result{failure: d.server.limits.answer(manyInterim)}
		}
		sc.res.dropNamed(contentLengthName)
		if !d.head.http10 && !d.write(append(sc.res.appendStatus(sc.out[:0]), "\r\n"...)) {
			return 0, n, result{failure: d.clientFailure(), status: status}
		}
		n = copy(sc.up[headRoom:], sc.up[headRoom+size:headRoom+n])
		scanned = 0
		if n == 0 {
			m, err := u.Exchange(nil, sc.up[headRoom:len(sc.up)-tailRoom])
			if err != nil {
				return 0, 0, result{failure: d.readFailure(err, p)}
			}
			n = m
		}
	}
}

// bodyKind says how the body of the answer in scratch.res ends.
func (d *conn) bodyKind() bodyKind {
	h := &d.scratch.res
	switch {
	case d.x.Method == "HEAD" || h.status == 204 || h.status == 304:
		return noBody
	case h.chunked:
		return chunkedBody
	case h.length >= 0:
		return lengthBody
	}
	return closeBody
}

// appendStatus appends the status line and the fields that are kept.
func (h *head) appendStatus(out []byte) []byte {
	out = append(out, "HTTP/1.1 "...)
	out = append(out, h.raw[h.reason.from-3:h.reason.to]...)
	if h.reason.from == h.reason.to {
		out = append(out, ' ') // RFC 9112 §4 asks for the space
	}
	out = append(out, "\r\n"...)
	return h.appendFields(out)
}

// buildAnswer writes the final head as the client gets it.
func (d *conn) buildAnswer(kind bodyKind, closes bool, edits *exchange.AnswerEdits) []byte {
	h := &d.scratch.res
	if h.status == 204 {
		h.dropNamed(contentLengthName) // RFC 9110 §8.6 forbids it there
	}
	if edits != nil {
		for _, name := range edits.Remove {
			h.dropEditable(name)
		}
		for i := range edits.Set {
			h.dropEditable(edits.Set[i].Name)
		}
	}
	out := h.appendStatus(d.scratch.out[:0])
	if edits != nil {
		out = appendLines(appendLines(out, edits.Set), edits.Append)
	}
	switch {
	case closes:
		out = append(out, "connection: close\r\n"...)
	case d.head.http10:
		out = append(out, "connection: keep-alive\r\n"...)
	}
	// HEAD shows what GET would have had.
	if h.chunked && !d.head.http10 && (kind == chunkedBody || d.x.Method == "HEAD") {
		out = append(out, "transfer-encoding: chunked\r\n"...)
	}
	return append(out, "\r\n"...)
}

var contentLengthName = []byte("content-length")

// forwardBody sends the head out, and the body as it comes.
func (d *conn) forwardBody(u exchange.Stream, out []byte, size, n int, kind bodyKind, res result) result {
	sc := d.scratch
	switch kind {
	case chunkedBody:
		return d.forwardChunks(u, out, size, n, res)
	case noBody, lengthBody:
		left := int64(0)
		if kind == lengthBody {
			left = sc.res.length
		}
		have := n - size
		if int64(have) > left {
			// More than was announced: nobody knows whose bytes these are.
			res.reusable = false
			have = int(left)
		}
		return d.forwardLength(u, d.joined(out, size, size+have), left-int64(have), res)
	}
	return d.forwardUntilClose(u, d.joined(out, size, n), res)
}

// joined moves head right before the part of the body in up[from:to], so that
// both leave in one write.
func (d *conn) joined(head []byte, from, to int) []byte {
	start := headRoom + from - len(head)
	if start < 0 { // fields were added to a head that had none
		return append(head, d.scratch.up[headRoom+from:headRoom+to]...)
	}
	copy(d.scratch.up[start:], head)
	return d.scratch.up[start : headRoom+to]
}

// forwardLength writes first and then left bytes more.
func (d *conn) forwardLength(u exchange.Stream, first []byte, left int64, res result) result {
	for {
		if !d.write(first) {
			res.failure, res.reusable, res.closes = d.clientFailure(), false, true
			return res
		}
		if left == 0 {
			return res
		}
		d.widen(left > int64(len(d.scratch.up)))
		up := d.scratch.up
		into := up[:min(left, int64(len(up)))]
		n, err := d.readOn(u, into)
		if err != nil {
			return d.broken(res, err)
		}
		left -= int64(n)
		first = into[:n]
	}
}

// forwardUntilClose writes first and then whatever comes, to the end.
func (d *conn) forwardUntilClose(u exchange.Stream, first []byte, res result) result {
	for {
		if !d.write(first) {
			res.failure, res.closes = d.clientFailure(), true
			return res
		}
		d.widen(len(first) == len(d.scratch.up))
		up := d.scratch.up
		n, err := d.readOn(u, up)
		if errors.Is(err, io.EOF) {
			return res
		}
		if err != nil {
			return d.reset(res, err)
		}
		first = up[:n]
	}
}

// forwardChunks decodes what comes and sends it in chunks of its own, one for
// each read. A client of HTTP/1.0 gets the data as it is, to the close. The head
// waits a moment for the first of them, so that a body that is none from the start
// is a 502, not half an answer.
func (d *conn) forwardChunks(u exchange.Stream, out []byte, size, n int, res result) result {
	sc := d.scratch
	chunks := &sc.answer
	chunks.reset(true)
	from, to := headRoom+size, headRoom+n
	var held *heldHead
	for {
		data, used, bad := chunks.decode(sc.up[from:to])
		var readErr error
		if bad == fine && out != nil && data == 0 && !chunks.done() {
			if held == nil {
				held = d.hold(out)
			}
			if n, readErr = d.readOn(u, sc.up[headRoom:len(sc.up)-tailRoom]); readErr == nil {
				from, to = headRoom, headRoom+n
				continue
			}
		}
		var there bool
		if out, there = held.end(out); !there {
			res.failure, res.reusable, res.closes = d.clientFailure(), false, true
			return res
		}
		held = nil
		var piece []byte
		if bad == fine && readErr == nil {
			piece, bad = d.framed(out, from, data)
		}
		if bad != fine {
			readErr = d.server.limits.answer(bad)
		}
		switch {
		case readErr != nil && out != nil: // nothing was sent yet: the client can be told
			res.status = 0
			return d.broken(res, readErr)
		case readErr != nil:
			return d.cutOff(res, readErr)
		}
		if from+used < to {
			res.reusable = false // bytes after the end of the answer
		}
		out = nil
		if len(piece) > 0 && !d.write(piece) {
			res.failure, res.reusable, res.closes = d.clientFailure(), false, true
			return res
		}
		if chunks.done() {
			return res
		}
		d.widen(to == len(sc.up)-tailRoom)
		n, err := d.readOn(u, sc.up[headRoom:len(sc.up)-tailRoom])
		if err != nil {
			return d.cutOff(res, err)
		}
		from, to = headRoom, headRoom+n
	}
}

// framed puts head and a chunk's size before the data at up[from:], and what
// ends it after: one contiguous write, in place.
func (d *conn) framed(head []byte, from, data int) (_ []byte, bad cause) {
	sc := d.scratch
	end := from + data
	piece := sc.up[from:end]
	if !d.head.http10 {
		tail := sc.up[end:end]
		var sizeLine [maxSizeDigits + 2]byte
		line := sizeLine[:0]
		if data > 0 {
			line = appendSize(line, data)
			tail = append(tail, "\r\n"...)
		}
		if sc.answer.done() {
			if tail, bad = sc.answer.appendEnd(tail); bad != fine {
				return nil, bad
			}
		}
		from -= len(line)
		copy(sc.up[from:], line)
		if end+len(tail) > len(sc.up) { // long trailers: tail is elsewhere
			piece = append(append([]byte(nil), sc.up[from:end]...), tail...)
			return append(head, piece...), fine
		}
		end += len(tail)
		piece = sc.up[from:end]
	}
	if len(head) == 0 {
		return piece, fine
	}
	start := from - len(head)
	if start < 0 {
		return append(head, piece...), fine
	}
	copy(sc.up[start:], head)
	return sc.up[start:end], fine
}

// readOn reads more of a body, as long as something moves.
func (d *conn) readOn(u exchange.Stream, into []byte) (int, error) {
	d.watch.set(moving, d.deadline(d.server.limits.TransferTimeout))
	return u.Exchange(nil, into)
}

// broken ends an answer whose head was sent: the client sees the connection
// end before the body does.
func (d *conn) broken(res result, err error) result {
	res.failure, res.closes, res.reusable = d.streamFailure(err), true, false
	return res
}

// cutOff is broken for an answer in chunks: a client of HTTP/1.0 gets it without
// them.
func (d *conn) cutOff(res result, err error) result {
	if d.head.http10 {
		return d.reset(res, err)
	}
	return d.broken(res, err)
}

// reset is broken for an answer that ends with the connection: a plain end would
// look like the end of the body.
func (d *conn) reset(res result, err error) result {
	d.tcp.SetLinger(0)
	return d.broken(res, err)
}
