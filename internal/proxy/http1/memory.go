package http1

import (
	"sync"
	"sync/atomic"
)

// A stream of HTTP/2 begins with small buffers, for a client may have very many of them under
// way and say little on each. One whose head needs more takes more, as a connection of HTTP/1.1
// has from the start. For the sake of speed alone, so that a long body passes in long pieces, it
// takes more only while all of a Server's together have taken less than they may.

// Sizes of what a stream begins with. A connection of HTTP/1.1 has inSize, outSize and upSize
// from the start.
const (
	streamIn   = 1 << 10
	streamOut  = 2 << 10
	streamUp   = 2 << 10
	streamPump = 1 << 10
)

// memory is what the streams of a Server hold together for the sake of speed.
type memory struct {
	most int64
	used atomic.Int64
}

// take counts n bytes more, unless that would be too many.
func (m *memory) take(n int) bool {
	if m.used.Add(int64(n)) <= m.most {
		return true
	}
	m.used.Add(int64(-n))
	return false
}

func (m *memory) give(n int) { m.used.Add(int64(-n)) }

var (
	streamScratches = sync.Pool{New: func() any {
		s := &scratch{in: make([]byte, streamIn), out: make([]byte, 0, streamOut), up: make([]byte, headRoom+streamUp+tailRoom)}
		s.smallIn, s.smallUp = s.in, s.up
		return s
	}}
	inBuffers         = sync.Pool{New: func() any { return new([inSize]byte) }}
	upBuffers         = sync.Pool{New: func() any { return new([headRoom + upSize + tailRoom]byte) }}
	streamPumpBuffers = sync.Pool{New: func() any { return new(streamPumpBuffer) }}
)

type streamPumpBuffer [pumpRoom + streamPump + tailRoom]byte

// giveBackStream keeps a scratch of a stream for the next one, without what it took beside.
func (s *scratch) giveBackStream() {
	if len(s.in) == inSize {
		inBuffers.Put((*[inSize]byte)(s.in))
	}
	if len(s.up) == headRoom+upSize+tailRoom {
		upBuffers.Put((*[headRoom + upSize + tailRoom]byte)(s.up))
	}
	s.in, s.up = s.smallIn, s.smallUp
	s.chunks.reset(false)
	s.answer.reset(true)
	streamScratches.Put(s)
}

// takeScratch takes the buffers that a connection needs while it is awake.
func (d *conn) takeScratch() {
	if d.stream == nil {
		d.scratch = scratches.Get().(*scratch)
	} else {
		d.scratch = streamScratches.Get().(*scratch)
	}
}

// holdMore counts what a stream takes for the sake of speed, and reports whether it may.
func (d *conn) holdMore(n int) bool {
	if !d.server.memory.take(n) {
		return false
	}
	d.held += n
	return true
}

// growIn makes room for a request's head of n bytes; of a stream that is short of it, for
// inSize first. Where it is for the sake of speed, it reports whether there is any.
func (d *conn) growIn(n int, speed bool) bool {
	s := d.scratch
	if len(s.in) < inSize {
		n = inSize
	}
	if n <= len(s.in) {
		return true
	}
	if speed && !d.holdMore(n-len(s.in)) {
		return false
	}
	larger := []byte(nil)
	if n == inSize {
		larger = inBuffers.Get().(*[inSize]byte)[:]
	} else {
		larger = make([]byte, n)
	}
	copy(larger, s.in)
	s.in = larger
	return true
}

// growUp makes room for an answer of n bytes, likewise for upSize first.
func (d *conn) growUp(n int, speed bool) bool {
	s := d.scratch
	if len(s.up) < headRoom+upSize+tailRoom {
		n = upSize
	}
	size := headRoom + n + tailRoom
	if size <= len(s.up) {
		return true
	}
	if speed && !d.holdMore(size-len(s.up)) {
		return false
	}
	larger := []byte(nil)
	if n == upSize {
		larger = upBuffers.Get().(*[headRoom + upSize + tailRoom]byte)[:]
	} else {
		larger = make([]byte, size)
	}
	copy(larger, s.up[:len(s.up)-tailRoom])
	s.up = larger
	return true
}

// widen lets the body of an answer come in larger pieces, where the last one filled what there
// is and more may be had.
func (d *conn) widen(filled bool) {
	if filled && d.stream != nil {
		d.growUp(upSize, true)
	}
}
