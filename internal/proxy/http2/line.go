package http2

import (
	"io"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
)

// Line is a virtual connection of HTTP/1.1: it serves one stream of a connection of
// HTTP/2 after the other, as requests.
type Line struct {
	stream
	of       *served
	assigned bool // under mu
	counted  bool // in busy
	halfDone bool // CloseWrite was called
}

// newLine begins a line, if the way lets it.
func (c *served) newLine() *Line {
	branch, ok := c.director.Branch()
	if !ok {
		return nil
	}
	l := &Line{of: c}
	l.init(&c.session)
	l.line = l
	c.mu.Lock()
	l.count()
	c.mu.Unlock()
	c.lines.Add(1)
	go func() {
		defer c.lines.Done()
		defer branch.Leave()
		c.server.config.Serve(branch.Context, l, branch.Director)
	}()
	return l
}

// count and uncount keep how many lines there are beside the idle ones. They are called with mu held.
func (l *Line) count() { l.counted = true; l.of.busy++ }

func (l *Line) uncount() {
	if l.counted {
		l.counted = false
		l.of.busy--
	}
}

// assign gives a line its next stream. It is called with mu held.
func (l *Line) assign(id uint32, m *message, ended bool) {
	l.begin(id)
	spare := l.head[:0] // changes places with the text
	l.message = *m
	l.head, l.message.text, m.text = m.text, nil, spare
	l.bodyLeft = l.message.announced
	l.assigned = true
	l.ended = ended
	l.readable.Broadcast()
	if l.closed {
		l.turnDown()
	}
}

// turnDown refuses a stream that came to a line which has ended of itself.
func (l *Line) turnDown() {
	l.s.reset(l.id, codeRefused)
	l.s.drop(&l.stream)
	l.s.flushLocked()
}

// done reports whether the request that it was given was read and answered.
func (l *Line) done() bool { return l.assigned && l.textEnded && l.sentEnd && !l.live }

// Wait waits until ReadNow has something to say, or the deadline has passed.
func (l *Line) Wait() error {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushLocked()
	for {
		l.endText()
		if l.done() && l.err == nil && !l.closed && !l.halfDone {
			l.makeWay()
		}
		switch {
		case l.readDead.passed:
			return errAborted
		case l.assigned && l.hasText(), l.closed, l.err != nil:
			return nil
		}
		l.readable.Wait()
	}
}

// makeWay puts a line whose request is over among those that wait. It is called with mu held.
func (l *Line) makeWay() {
	l.assigned = false
	l.rest()
	l.uncount()
	if l.s.closing || l.s.err != nil || len(l.of.idle) >= maxIdleLines {
		l.closed = true
		return
	}
	l.of.idle = append(l.of.idle, l)
}

// Read implements net.Conn for what is read outside of the engine's loop.
func (l *Line) Read(b []byte) (int, error) {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if l.readDead.passed {
			return 0, errAborted
		}
		n, errno := l.readLocked(b)
		switch {
		case n > 0:
			s.flushLocked()
			return n, nil
		case errno == 0 || l.halfDone && l.sentEnd:
			return 0, io.EOF
		case l.err != nil:
			return 0, l.err
		}
		s.flushLocked()
		l.readable.Wait()
	}
}

// WhenGone says whom to call when the client has given up the stream that is under way.
func (l *Line) WhenGone(f func()) {
	l.s.mu.Lock()
	l.gone = f
	err := l.err
	l.s.mu.Unlock()
	if err != nil {
		f()
	}
}

// Gone reports nothing: who gives up a stream is told by WhenGone.
func (l *Line) Gone(bool) bool { return false }

// Version is the one that the client speaks.
func (l *Line) Version() exchange.Version { return exchange.HTTP2 }

// CloseWrite ends the direction to the client.
func (l *Line) CloseWrite() error {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.halfDone = true
	l.endRaw()
	l.s.flushLocked()
	return nil
}

// endRaw ends a body whose end is that of the connection.
func (l *Line) endRaw() {
	if l.live && l.sending.headSent && l.sending.kind == rawBody && !l.sentEnd && !l.sending.reset {
		l.s.out = appendFrame(l.s.out, 0, frameData, flagEndStream, l.id)
		l.finished()
	}
}

// SetLinger says, with 0, that what was sent is to be taken for broken.
func (l *Line) SetLinger(sec int) error {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.sending.reset = sec == 0
	return nil
}

// Close ends the line. A stream that is under way ends by a reset: NO_ERROR where its answer
// was sent, REFUSED_STREAM where nobody has begun with it.
func (l *Line) Close() error {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.closed && !l.assigned {
		return nil
	}
	l.endRaw()
	l.closed = true
	l.uncount()
	l.assigned = false
	l.of.idle = remove(l.of.idle, l)
	if l.live {
		code := codeInternal
		switch {
		case l.sentEnd:
			code = codeNone
		case l.headAt == 0:
			code = codeRefused
		}
		s.reset(l.id, code)
		s.drop(&l.stream)
	}
	l.abandon()
	l.readDead.at(time.Time{})
	l.writeDead.at(time.Time{})
	s.flushLocked()
	return nil
}

func remove(lines []*Line, l *Line) []*Line {
	for i := range lines {
		if lines[i] == l {
			last := len(lines) - 1
			lines[i] = lines[last]
			lines[last] = nil
			return lines[:last]
		}
	}
	return lines
}

// GRPC reports whether the request under way is one of gRPC, whose client reads no other
// answer than its own.
func (l *Line) GRPC() bool { return l.message.grpc }
