package http2

import (
	"strconv"
	"sync"
	"syscall"
	"time"
)

// stream is one stream of a session as HTTP/1.1 reads and writes it: what its peer sends is
// read as the text of a message, and the text of a message that is written is sent as frames.
// A server's serves one stream of the connection after the other, as a connection of HTTP/1.1
// serves requests; a client's serves one.
//
// All of it is guarded by the session's mu, but for what its one reader and its one writer
// have to themselves.
type stream struct {
	s        *session
	id       uint32
	live     bool // it is in the session's streams
	readable sync.Cond
	writable sync.Cond
	err      error   // why it ended before its end
	gone     func()  // called once its peer has reset it; nil: nobody asks
	closed   bool    // by its owner
	whole    *Stream // that it is a part of, at a client's side
	line     *Line   // likewise, at a server's

	message   message // the request's, for a server; of the answer, for a client
	head      []byte  // the text of heads that came
	headAt    int     // what was read of it
	body      []byte  // bytes of body that came
	bodyAt    int
	bodyLeft  int64 // of lengthBody, to come
	window    int   // that the peer may send still
	given     int
	ended     bool // END_STREAM came
	trailers  []byte
	literal   []byte // of the chunked coding, to be read next: a part of literals, or trailers
	literals  [24]byte
	chunkLeft int
	textEnded bool // the end of the message was read
	switched  bool // the client was told that another protocol follows

	sendWindow int
	sending    sending
	sentEnd    bool

	readDead, writeDead deadline
}

// sending is how far the message that is written was sent.
type sending struct {
	headSent bool // the final one
	kind     bodyKind
	left     int64
	chunks   unchunk
	reset    bool // it ends by a reset: SetLinger(0) was called, or something could not be sent
}

func (st *stream) init(s *session) {
	st.s = s
	st.readable.L, st.writable.L = &s.mu, &s.mu
	st.readDead.st, st.writeDead.st = st, st
}

// begin makes it the stream of an id. It is called with mu held.
func (st *stream) begin(id uint32) {
	s := st.s
	st.id, st.live, st.err = id, true, nil
	st.headAt, st.bodyAt, st.bodyLeft, st.given, st.chunkLeft = 0, 0, 0, 0, 0
	st.body, st.trailers, st.literal = st.body[:0], st.trailers[:0], nil
	st.window, st.sendWindow = streamWindow, s.peerWindow
	st.ended, st.textEnded, st.sentEnd, st.switched = false, false, false, false
	chunks := st.sending.chunks
	chunks.reset()
	st.sending = sending{chunks: chunks}
	s.streams[id] = st
}

// rest gives back the memory of a stream that has ended. It is called with mu held.
func (st *stream) rest() {
	if cap(st.body) > mostKept {
		st.body = nil
	}
	if cap(st.head) > mostKept {
		st.head = nil
	}
	if cap(st.message.text) > mostKept {
		st.message.text = nil
	}
	st.body, st.head, st.bodyAt, st.headAt = st.body[:0], st.head[:0], 0, 0
}

// abandon gives back to the connection what was not read. It is called with mu held.
func (st *stream) abandon() {
	if unread := len(st.body) - st.bodyAt; unread > 0 {
		st.s.consumed(unread)
	}
	st.body, st.bodyAt = st.body[:0], 0
}

// abandonIfUnread gives back the window of what nobody will read.
func (st *stream) abandonIfUnread() {
	if st.err != nil {
		st.abandon()
	}
}

// receive takes bytes of body. It is called with mu held.
func (st *stream) receive(b []byte, ended bool) *fault {
	switch {
	case st.s.client && !st.message.final():
		return malformed("a body before the answer's final head")
	case st.message.kind == noBody && len(b) > 0:
		return malformed("a body where there is none")
	case st.message.kind == lengthBody, st.message.kind == chunkedBody && st.message.announced >= 0:
		if st.bodyLeft -= int64(len(b)); st.bodyLeft < 0 || ended && st.bodyLeft > 0 {
			return malformed("a body that is not as long as its Content-Length")
		}
	}
	if st.bodyAt > 0 && len(st.body)+len(b) > cap(st.body) {
		st.body = st.body[:copy(st.body, st.body[st.bodyAt:])]
		st.bodyAt = 0
	}
	st.body = append(st.body, b...)
	if ended {
		st.end()
	}
	st.readable.Broadcast()
	return nil
}

// end notes that the peer has sent all. It is called with mu held.
func (st *stream) end() {
	st.ended = true
	if st.sentEnd {
		st.s.drop(st)
	}
}

// fail ends the stream for a reason, and returns who is to be called about it without mu,
// which is held.
func (st *stream) fail(err error) (gone func()) {
	if st.err == nil {
		st.err = err
	}
	st.readable.Broadcast()
	st.writable.Broadcast()
	st.s.room.Broadcast()
	return st.gone
}

// consumed notes bytes of body that were read, and gives the peer its window back. It is
// called with mu held.
func (st *stream) consumed(n int) {
	st.s.consumed(n)
	if !st.live || st.ended {
		return
	}
	if st.given += n; st.given >= streamWindow/2 {
		st.s.out = appendWindowUpdate(st.s.out, st.id, st.given)
		st.window += st.given
		st.given = 0
	}
}

// ReadNow reads what is there of the text. EAGAIN says that nothing is, and 0 bytes that
// nothing more comes.
func (st *stream) ReadNow(b []byte) (int, syscall.Errno) {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	n, errno := st.readLocked(b)
	st.s.flushLocked() // the window that was given back: its peer may wait for it
	return n, errno
}

func (st *stream) readLocked(b []byte) (n int, errno syscall.Errno) {
	if st.err != nil {
		return 0, syscall.ECONNRESET
	}
	if st.headAt < len(st.head) {
		n = copy(b, st.head[st.headAt:])
		st.headAt += n
		if st.headAt == len(st.head) && cap(st.head) > mostKept && !st.s.client && st.message.kind != noBody {
			st.head = nil // its body may take as long as it likes
			return n, 0
		}
		if st.headAt < len(st.head) || st.message.kind == noBody {
			st.textEnded = st.headAt == len(st.head) && st.ended
			return n, 0
		}
	}
	for n < len(b) && !st.withheld() {
		m := st.readBody(b[n:])
		if m == 0 {
			break
		}
		n += m
	}
	switch {
	case n > 0:
		return n, 0
	case st.withheld() && st.sending.headSent:
		return 0, 0
	case st.closed || st.message.kind == rawBody && st.ended && st.bodyAt == len(st.body):
		return 0, 0
	}
	return 0, syscall.EAGAIN
}

// withheld reports whether what the client says behind a wish to change protocols is not to
// be read: the change was not made. In HTTP/1.1 it would be the next request, which it is not.
func (st *stream) withheld() bool {
	return !st.s.client && st.message.kind == rawBody && !st.switched
}

// readBody reads a piece of the body's text; 0 where there is none now.
func (st *stream) readBody(b []byte) int {
	if len(st.literal) > 0 {
		n := copy(b, st.literal)
		st.literal = st.literal[n:]
		return n
	}
	there := len(st.body) - st.bodyAt
	if st.message.kind != chunkedBody {
		if there == 0 {
			st.textEnded = st.ended
			return 0
		}
		n := copy(b, st.body[st.bodyAt:])
		st.took(n)
		st.textEnded = st.ended && st.bodyAt == len(st.body)
		return n
	}
	switch {
	case st.textEnded:
		return 0
	case st.chunkLeft > 0:
		n := copy(b[:min(len(b), st.chunkLeft)], st.body[st.bodyAt:])
		st.took(n)
		if st.chunkLeft -= n; st.chunkLeft == 0 {
			st.literal = append(st.literals[:0], "\r\n"...)
		}
		return n
	case there > 0:
		st.chunkLeft = there
		st.literal = append(strconv.AppendUint(st.literals[:0], uint64(there), 16), "\r\n"...)
	case st.ended:
		st.literal = append(st.literals[:0], "0\r\n"...)
		st.trailers = append(st.trailers, "\r\n"...)
		if len(st.trailers) > 2 {
			st.literal = append(st.literal, st.trailers...)
		} else {
			st.literal = append(st.literal, "\r\n"...)
		}
		st.textEnded = true
	default:
		return 0
	}
	return st.readBody(b)
}

// endText notes the end of a message that was read before its peer said that it ends. The
// chunked coding has an end of its own to be read. It is called with mu held.
func (st *stream) endText() {
	if st.message.kind != chunkedBody && st.ended && st.headAt >= len(st.head) && st.bodyAt == len(st.body) {
		st.textEnded = true
	}
}

// took notes that so many bytes of body were read.
func (st *stream) took(n int) {
	st.bodyAt += n
	if st.bodyAt == len(st.body) {
		st.body, st.bodyAt = st.body[:0], 0
		if cap(st.body) > maxFrame {
			st.body = nil // nothing more may come for long
		}
	}
	st.consumed(n)
}

// hasText reports whether ReadNow has something to say.
func (st *stream) hasText() bool {
	switch {
	case st.err != nil, st.closed, st.headAt < len(st.head), len(st.literal) > 0, len(st.body) > st.bodyAt && !st.withheld():
		return true
	case st.withheld() && st.sending.headSent:
		return true
	case st.message.kind == chunkedBody:
		return st.ended && !st.textEnded
	}
	return st.message.kind == rawBody && st.ended && st.bodyAt == len(st.body)
}

// deadline is when the waits of one direction end.
type deadline struct {
	st     *stream
	passed bool
	timer  *time.Timer
	set    uint64 // how often it was set: a timer of before is late
}

// at sets the deadline; the zero time is none. It is called with mu held.
func (d *deadline) at(t time.Time) {
	d.set++
	d.passed = false
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.pass()
		return
	}
	set := d.set
	d.timer = time.AfterFunc(wait, func() {
		d.st.s.mu.Lock()
		defer d.st.s.mu.Unlock()
		if d.set == set {
			d.pass()
		}
	})
}

func (d *deadline) pass() {
	d.passed = true
	d.st.readable.Broadcast()
	d.st.writable.Broadcast()
	d.st.s.room.Broadcast()
}

// SetDeadline, SetReadDeadline and SetWriteDeadline are those of net.Conn.
func (st *stream) SetDeadline(t time.Time) error {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	st.readDead.at(t)
	st.writeDead.at(t)
	return nil
}

// SetReadDeadline is that of net.Conn.
func (st *stream) SetReadDeadline(t time.Time) error {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	st.readDead.at(t)
	return nil
}

// SetWriteDeadline is that of net.Conn.
func (st *stream) SetWriteDeadline(t time.Time) error {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	st.writeDead.at(t)
	return nil
}
