package http2

import (
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2/hpack"

	"sluice.dev/sluice/internal/proxy/rawio"
)

// session is one connection of HTTP/2, of either side. One goroutine reads its frames and
// never waits for anything else; whoever has something to send appends it to out, and one
// goroutine at a time, which lives only while there is something, writes it away: what many
// streams said meanwhile leaves in one write.
type session struct {
	conn   net.Conn
	raw    syscall.RawConn // nil: TLS, which is read by conn
	owner  owner
	client bool // we opened the connection
	plain  bool // without TLS
	limits *Limits
	now    func() time.Duration

	in       *[inSize]byte // of the reader; nil while there is nothing
	r, w     int
	stepFunc func(uintptr) bool
	readErr  error

	decoder  *hpack.Decoder // of the reader
	section  section
	block    block
	useless  budget
	resets   budget
	settings bool // the peer's first SETTINGS came
	scratch  message

	drainFunc func()

	mu         sync.Mutex
	room       sync.Cond // there is room in out, or in the connection's window
	out, spare []byte
	writing    bool          // a goroutine writes
	writeSince time.Duration // its write began; 0: it is in none
	closing    bool          // the connection is closed once out is written
	err        error         // why nothing goes on
	encoder    *encoder
	streams    map[uint32]*stream
	last       uint32 // the last stream that the client began
	saidLast   uint32 // in our last GOAWAY
	sendWindow int
	window     int // that the peer may send still, of all streams
	given      int // read, and not yet given back to it
	peerWindow int // of its new streams
	peerMost   uint32
	extended   bool     // it takes extended CONNECT
	goingAway  bool     // no stream begins any more, but what a client was given before it said so
	toldEnd    bool     // the peer said GOAWAY
	recent     []uint32 // the last streams that we reset
	recentAt   int
	blockSince time.Duration // a field block began, or the connection did; 0: none is awaited
	idleSince  time.Duration
	sentFrames int // of DATA, which the peer may answer with WINDOW_UPDATE
}

// owner is what a session belongs to: what is different at a client's side and at a server's.
type owner interface {
	// headers takes the section that the reader has decoded: a head, or trailers of a stream
	// that was there.
	headers(id uint32, st *stream, ended bool) *fault
	// goneAway is told by the reader what the peer takes part in no longer.
	goneAway(last uint32, code errorCode)
	// ended is called by whoever ends a stream, with mu held, once both directions have.
	ended(st *stream)
	// more is called by the reader, with mu held, where the peer takes more streams than before.
	more()
}

const inSize = 32 << 10

var inBuffers = sync.Pool{New: func() any { return new([inSize]byte) }}

// block is a field block that has not come whole.
type block struct {
	stream uint32 // 0: there is none
	ended  bool   // END_STREAM
	size   int
	frames int
	bad    *fault // what the frame itself was
}

func (s *session) init(conn net.Conn, limits *Limits, now func() time.Duration, owner owner) {
	s.conn, s.limits, s.now, s.owner = conn, limits, now, owner
	s.room.L = &s.mu
	s.streams = make(map[uint32]*stream)
	s.encoder = newEncoder()
	s.decoder = hpack.NewDecoder(tableBytes, s.section.add)
	s.decoder.SetMaxStringLength(limits.MaxHeaderBytes)
	s.drainFunc = s.drain
	s.sendWindow, s.peerWindow, s.peerMost = 64<<10-1, 64<<10-1, 100
	s.window, s.saidLast = connectionWindow, maxWindow
	at := now()
	s.useless = budget{left: uselessBurst, most: uselessBurst, each: uselessRate, lastAt: at}
	s.resets = budget{left: resetBurst, most: resetBurst, each: resetRate, lastAt: at}
	s.blockSince, s.idleSince = at, at
	if tcp, ok := conn.(*net.TCPConn); ok {
		s.plain = true
		if raw, err := tcp.SyscallConn(); err == nil {
			s.raw, s.stepFunc = raw, s.step
		}
	}
}

// hello is what we say first: our settings, and the window of the whole connection.
func (s *session) hello(out []byte, of ...setting) []byte {
	out = appendSettings(out, of...)
	return appendWindowUpdate(out, 0, connectionWindow-(64<<10-1))
}

// fill reads more, and holds no buffer while there is nothing.
func (s *session) fill() error {
	if s.r > 0 && s.in != nil {
		s.w = copy(s.in[:], s.in[s.r:s.w])
		s.r = 0
	}
	if s.raw != nil {
		if err := s.raw.Read(s.stepFunc); err != nil {
			return err
		}
		return s.readErr
	}
	if s.in == nil {
		s.in = inBuffers.Get().(*[inSize]byte)
	}
	if conn, ok := s.conn.(impatient); ok {
		return s.fillNow(conn)
	}
	n, err := s.conn.Read(s.in[s.w:])
	s.w += n
	if n > 0 {
		return nil
	}
	return err
}

// impatient is a connection that can be read without waiting.
type impatient interface {
	ReadNow(b []byte) (int, syscall.Errno)
	Wait() error
}

// fillNow is fill of such a connection.
func (s *session) fillNow(conn impatient) error {
	for {
		if s.in == nil {
			s.in = inBuffers.Get().(*[inSize]byte)
			s.r, s.w = 0, 0
		}
		n, errno := conn.ReadNow(s.in[s.w:])
		switch {
		case errno == syscall.EAGAIN:
			if s.w == 0 {
				s.releaseIn()
			}
			if err := conn.Wait(); err != nil {
				return err
			}
			continue
		case errno != 0:
			return errno
		case n == 0:
			return net.ErrClosed
		}
		s.w += n
		return nil
	}
}

// step is called when the connection may be readable.
func (s *session) step(fd uintptr) bool {
	if s.in == nil {
		s.in = inBuffers.Get().(*[inSize]byte)
		s.r, s.w = 0, 0
	}
	n, errno := rawio.Read(fd, s.in[s.w:])
	switch {
	case errno == syscall.EAGAIN:
		if s.w == 0 {
			s.releaseIn()
		}
		return false
	case errno != 0:
		s.readErr = errno
	case n == 0:
		s.readErr = net.ErrClosed
	}
	s.w += n
	return true
}

func (s *session) releaseIn() {
	if s.in != nil {
		inBuffers.Put(s.in)
		s.in, s.r, s.w = nil, 0, 0
	}
}

// run reads frames until the connection ends, and says why it did.
func (s *session) run() error {
	for {
		for s.w-s.r >= frameHeaderSize {
			f := parseFrame(s.in[s.r:])
			if f.length > maxFrame {
				return broken(codeFrameSize, "a frame of more than 16 KiB")
			}
			if s.w-s.r < frameHeaderSize+f.length {
				break
			}
			payload := s.in[s.r+frameHeaderSize : s.r+frameHeaderSize+f.length]
			if bad := s.take(f, payload); bad != nil {
				return bad
			}
			s.r += frameHeaderSize + f.length
		}
		if s.r == s.w {
			s.r, s.w = 0, 0
		}
		s.flush()
		if err := s.fill(); err != nil {
			return err
		}
	}
}

// take takes one frame. A fault of one stream ends that one.
func (s *session) take(f frame, payload []byte) *fault {
	if s.block.stream != 0 && (f.kind != frameContinuation || f.stream != s.block.stream) {
		return broken(codeProtocol, "another frame before the end of a field block")
	}
	if !s.settings && (f.kind != frameSettings || f.has(flagAck)) {
		return broken(codeProtocol, "another frame before SETTINGS")
	}
	bad := s.dispatch(f, payload)
	if bad == nil || bad.stream == 0 {
		return bad
	}
	return s.resetFor(bad)
}

func (s *session) dispatch(f frame, payload []byte) *fault {
	switch f.kind {
	case frameData:
		return s.data(f, payload)
	case frameHeaders:
		return s.headers(f, payload)
	case frameContinuation:
		return s.continuation(f, payload)
	case frameReset:
		return s.peerResets(f, payload)
	case frameWindowUpdate:
		return s.windowUpdate(f, payload)
	case frameSettings:
		return s.takeSettings(f, payload)
	case framePing:
		return s.ping(f, payload)
	case framePriority:
		return s.priority(f, payload)
	case frameGoAway:
		return s.goAway(f, payload)
	case framePushPromise:
		return broken(codeProtocol, "PUSH_PROMISE, which nobody asked for")
	}
	return s.spend()
}

// spend counts a frame that carries nothing.
func (s *session) spend() *fault {
	if !s.useless.take(s.now()) {
		return broken(codeCalm, "too many frames that carry nothing")
	}
	return nil
}

// spendReset counts a stream that was begun and ended by a reset.
func (s *session) spendReset() *fault {
	if !s.resets.take(s.now()) {
		return broken(codeCalm, "too many streams that are begun and reset")
	}
	return nil
}

// resetFor ends a stream for a fault of its peer.
func (s *session) resetFor(bad *fault) *fault {
	s.mu.Lock()
	st := s.streams[bad.stream]
	s.reset(bad.stream, bad.code)
	var gone func()
	if st != nil {
		gone = st.fail(bad)
		s.drop(st)
	}
	over := s.overflows()
	s.mu.Unlock()
	if gone != nil {
		gone()
	}
	if over != nil {
		return over
	}
	return s.spendReset()
}

// reset appends RST_STREAM, and remembers it. It is called with mu held.
func (s *session) reset(id uint32, code errorCode) {
	s.out = appendReset(s.out, id, code)
	if len(s.recent) < rememberedResets {
		s.recent = append(s.recent, id)
		return
	}
	s.recent[s.recentAt] = id
	s.recentAt = (s.recentAt + 1) % rememberedResets
}

// wasReset reports whether we reset a stream lately: its peer may not know yet.
func (s *session) wasReset(id uint32) bool {
	for _, r := range s.recent {
		if r == id {
			return true
		}
	}
	return false
}

// drop takes a stream out, and gives back to the connection what it has not read. It is
// called with mu held.
func (s *session) drop(st *stream) {
	if !st.live {
		return
	}
	st.live = false
	delete(s.streams, st.id)
	if len(s.streams) == 0 {
		s.idleSince = s.now()
	}
	s.owner.ended(st)
}

// overflows reports whether a peer asks for answers that it does not read. It is called with
// mu held.
func (s *session) overflows() *fault {
	if len(s.out) > outHard {
		return broken(codeCalm, "it asks for answers and reads none")
	}
	return nil
}

// consumed gives back what was read of the connection's window. It is called with mu held.
func (s *session) consumed(n int) {
	s.given += n
	if s.given >= connectionWindow/2 {
		s.out = appendWindowUpdate(s.out, 0, s.given)
		s.window += s.given
		s.given = 0
	}
}

// flush has what was appended written.
func (s *session) flush() {
	s.mu.Lock()
	s.flushLocked()
	s.mu.Unlock()
}

func (s *session) flushLocked() {
	if s.writing || len(s.out) == 0 && !s.closing {
		return
	}
	s.writing = true
	go s.drainFunc()
}

// drain writes until there is nothing to write.
func (s *session) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.out) > 0 {
		b := s.out
		s.out, s.spare = s.spare, nil
		s.writeSince = max(s.now(), 1)
		s.mu.Unlock()
		_, err := s.conn.Write(b)
		s.mu.Lock()
		s.writeSince = 0
		if cap(b) <= 2*outSoft {
			s.spare = b[:0]
		}
		s.room.Broadcast()
		if err != nil {
			s.out, s.closing = nil, true
			break
		}
	}
	if len(s.streams) == 0 && cap(s.out)+cap(s.spare) > 8<<10 {
		s.out, s.spare = nil, nil
	}
	s.writing = false
	s.room.Broadcast()
	if s.closing {
		s.halfClose()
	}
}

// halfClose ends our side, and gives the peer a moment to end its own: closing a socket that
// holds unread bytes would reset it, and take the GOAWAY with it.
func (s *session) halfClose() {
	err := net.ErrClosed
	switch conn := s.conn.(type) {
	case *net.TCPConn:
		err = conn.CloseWrite()
	case interface{ HalfClose() error }: // CloseWrite of a tls.Conn may wait
		err = conn.HalfClose()
	}
	if err != nil {
		s.conn.Close()
		return
	}
	s.conn.SetReadDeadline(time.Now().Add(lingerTime))
}

// fail ends the connection, after GOAWAY where its peer is to know why, and all its streams.
func (s *session) fail(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
		if bad, ok := err.(*fault); ok {
			s.sayGoAway(s.last, bad.code, bad.text)
		}
		s.closing, s.goingAway = true, true
	}
	var gone []func()
	for _, st := range s.streams {
		if f := st.fail(err); f != nil {
			gone = append(gone, f)
		}
		s.drop(st)
	}
	s.room.Broadcast()
	if _, ok := err.(*fault); !ok {
		s.out = nil
		s.conn.Close()
	}
	s.flushLocked()
	s.mu.Unlock()
	for _, f := range gone {
		f()
	}
	s.releaseIn()
}

// check ends a connection that is late with something; idle ones where idle says so. It
// reports whether it goes on.
func (s *session) check(now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.writeSince > 0 && now-s.writeSince > s.limits.WriteTimeout:
		s.conn.Close() // the reader finds it
	case s.blockSince > 0 && now-s.blockSince > s.limits.HeaderTimeout:
		s.endLocked(codeSettingsTimeout, "a preface, SETTINGS or field block that does not end")
	case len(s.streams) == 0 && now-s.idleSince > s.limits.IdleTimeout:
		s.endLocked(codeNone, "")
	}
}

// sayGoAway appends GOAWAY. The last stream of one before is never raised (RFC 9113, section
// 6.8). It is called with mu held.
func (s *session) sayGoAway(last uint32, code errorCode, why string) {
	s.saidLast = min(s.saidLast, last)
	s.out = appendGoAway(s.out, s.saidLast, code, why)
}

// endLocked ends a connection that serves nothing, from another goroutine than its reader's.
func (s *session) endLocked(code errorCode, why string) {
	if s.closing {
		return
	}
	s.sayGoAway(s.last, code, why)
	s.closing, s.goingAway = true, true
	s.flushLocked()
}
