package http2

import (
	"bytes"
	"net"
	"strings"

	"sluice.dev/sluice/internal/proxy/exchange"
)

// Write sends text: whole heads, and bodies in whatever pieces. It waits while the peer's
// windows are closed, or while others have left no room.
func (st *stream) Write(b []byte) (int, error) {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.flushLocked()
	n := len(b)
	for len(b) > 0 {
		var err error
		switch {
		case !st.sending.headSent:
			end := bytes.Index(b, []byte("\r\n\r\n"))
			if end < 0 {
				return 0, errHead
			}
			err = st.sendHead(b[:end+4])
			b = b[end+4:]
		case st.sending.kind == chunkedBody:
			err = st.sendChunks(b)
			b = nil
		case st.sending.kind == lengthBody:
			piece := b[:min(int64(len(b)), st.sending.left)]
			st.sending.left -= int64(len(piece))
			err = st.sendData(piece, st.sending.left == 0)
			b = b[len(piece):]
			if len(b) > 0 && err == nil {
				err = errHead
			}
		case st.sending.kind == rawBody:
			err = st.sendData(b, false)
			b = nil
		default:
			err = errHead
		}
		if err != nil {
			st.sending.reset = true // no end that looks like that of a whole message
			return 0, err
		}
	}
	return n, nil
}

// sendable says why nothing can be sent.
func (st *stream) sendable() error {
	switch {
	case st.writeDead.passed:
		return errAborted
	case st.err != nil:
		return st.err
	case st.s.err != nil:
		return st.s.err
	case st.closed || st.sentEnd || !st.live && st.s.client && st.id != 0 || !st.live && !st.s.client:
		return net.ErrClosed
	}
	return nil
}

// sendHead sends a head. It says how the body behind it is framed.
func (st *stream) sendHead(head []byte) error {
	s := st.s
	for {
		if err := st.sendable(); err != nil {
			return err
		}
		if len(s.out) < outSoft {
			break
		}
		s.flushLocked()
		s.room.Wait()
	}
	if s.client && st.id == 0 && (s.closing || s.toldEnd) {
		return exchange.ErrNotBegun
	}
	_, fields, _ := bytes.Cut(head, crlf)
	kind, left := framingOf(fields)
	final, switched := true, false
	var err error
	if s.client {
		if protocol := upgradeOf(head); protocol != "" {
			if !s.extended {
				return errNoConnect
			}
			kind = rawBody
			st.message.protocol, st.message.key = strings.Clone(protocol), strings.Clone(fieldOf(fields, "sec-websocket-key"))
		}
		err = s.encoder.request(head, !s.plain)
	} else {
		status := statusOf(head)
		switch {
		case status == "101":
			if st.message.key != "" && fieldOf(fields, "sec-websocket-accept") != acceptOf(st.message.key) {
				return errHandshake
			}
			status, kind, switched = "200", rawBody, true
		case status < "200":
			final = false
		case st.message.kind == rawBody && status < "300": // to the client it would say that the tunnel is open
			return errNoSwitch
		case st.message.method == "HEAD", status == "204", status == "304":
			kind = noBody
		case kind == noBody && !saysLength(fields):
			kind = rawBody // to the end of the connection
		}
		err = s.encoder.answer(head, status, kind == rawBody && st.message.protocol != "")
	}
	if err != nil {
		return err
	}
	if s.client && st.id == 0 {
		if s.last++; s.last > 1 {
			s.last++
		}
		st.begin(s.last)
	}
	st.sending.headSent, st.sending.kind, st.sending.left = final, kind, left
	if switched {
		st.switched = true
		st.readable.Broadcast() // what it said early may be read now
	}
	end := final && (kind == noBody || kind == lengthBody && left == 0)
	st.appendBlock(end)
	if end {
		st.finished()
	}
	return nil
}

// appendBlock appends what the encoder has made, as HEADERS and CONTINUATION.
func (st *stream) appendBlock(end bool) {
	s := st.s
	block := s.encoder.block
	kind, flags := frameHeaders, uint8(0)
	if end {
		flags = flagEndStream
	}
	for {
		piece := block[:min(len(block), maxFrame)]
		if block = block[len(piece):]; len(block) == 0 {
			flags |= flagEndHeaders
		}
		s.out = append(appendFrame(s.out, len(piece), kind, flags, st.id), piece...)
		if len(block) == 0 {
			return
		}
		kind, flags = frameContinuation, 0
	}
}

// finished notes that all was sent.
func (st *stream) finished() {
	st.sentEnd = true
	if st.ended {
		st.s.drop(st)
	}
}

// sendData sends bytes of body, and its end.
func (st *stream) sendData(b []byte, end bool) error {
	s := st.s
	for len(b) > 0 || end {
		if err := st.sendable(); err != nil {
			return err
		}
		n := max(0, min(len(b), maxFrame, st.sendWindow, s.sendWindow)) // SETTINGS may lower a window below zero
		switch {
		case len(b) > 0 && st.sendWindow <= 0:
			s.flushLocked()
			st.writable.Wait()
			continue
		case len(b) > 0 && s.sendWindow <= 0, len(s.out) >= outSoft:
			s.flushLocked()
			s.room.Wait()
			continue
		}
		last := end && n == len(b)
		flags := uint8(0)
		if last {
			flags = flagEndStream
		}
		s.out = append(appendFrame(s.out, n, frameData, flags, st.id), b[:n]...)
		s.sentFrames++
		st.sendWindow -= n
		s.sendWindow -= n
		b = b[n:]
		if last {
			st.finished()
			return nil
		}
	}
	return nil
}

// sendChunks sends what the chunked coding in b holds. The last piece of data and the end of
// the stream leave in one frame, where they come together.
func (st *stream) sendChunks(b []byte) error {
	chunks := &st.sending.chunks
	var pending []byte
	for len(b) > 0 {
		data, rest, ok := chunks.next(b)
		if !ok {
			return errHead
		}
		b = rest
		if len(data) > 0 {
			if err := st.sendData(pending, false); err != nil {
				return err
			}
			pending = data
		}
	}
	if !chunks.done() {
		return st.sendData(pending, false)
	}
	if len(chunks.trailer) == 0 {
		return st.sendData(pending, true)
	}
	if err := st.sendData(pending, false); err != nil {
		return err
	}
	if err := st.sendable(); err != nil {
		return err
	}
	st.s.encoder.trailers(chunks.trailer)
	st.appendBlock(true)
	st.finished()
	return nil
}

// framingOf says how the body behind fields is framed.
func framingOf(fields []byte) (kind bodyKind, left int64) {
	for name, value := range eachField(fields) {
		switch {
		case len(name) == len("content-length") && strings.EqualFold(name, "content-length"):
			if left = parseLength(value); left > 0 {
				return lengthBody, left
			}
		case len(name) == len("transfer-encoding") && strings.EqualFold(name, "transfer-encoding"):
			return chunkedBody, 0
		}
	}
	return noBody, 0
}

// saysLength reports whether fields say that there is no body.
func saysLength(fields []byte) bool { return fieldOf(fields, "content-length") != "" }

// statusOf is the status in the first line of an answer.
func statusOf(head []byte) string {
	const at = len("HTTP/1.1 ")
	if len(head) < at+3 {
		return ""
	}
	return text(head[at : at+3])
}
