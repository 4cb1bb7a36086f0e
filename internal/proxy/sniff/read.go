package sniff

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/rawio"
	"sluice.dev/sluice/internal/proxy/share"
)

// Limits bounds the time that Read waits. Zero fields take the defaults.
type Limits struct {
	// Silence is how long the first byte is waited for. Then the connection is
	// Opaque and Silent. Default 5 s.
	Silence time.Duration
	// Rest is how long, from the first byte, it may take until the connection is
	// known for what it is. Then a ClientHello is refused (ErrHelloSlow) and the
	// rest is taken for what it looked like. Default 5 s.
	Rest time.Duration
	// OnlyTLS says that nothing but a ClientHello is looked for: what begins
	// otherwise is Opaque at its first byte, so that no protocol waits to be told
	// from HTTP.
	OnlyTLS bool
}

// DefaultSilence and DefaultRest are the defaults of Limits.
const (
	DefaultSilence = 5 * time.Second
	DefaultRest    = 5 * time.Second
)

// Read reads from c until it is known what the connection is, until a bound is
// reached, or until the client ends or falls silent. It returns the bytes read:
// they are buf's, valid until buf is released, and whoever carries the
// connection on must begin with them.
//
// The error is one of the socket alone, or says that there was no memory in time
// (share.ErrWait, share.ErrQueue): a hello that must be refused is reported by
// Result.Err. Closing c from elsewhere ends Read with net.ErrClosed; ctx ends a wait for
// memory. No read deadline of c survives.
func Read(ctx context.Context, c *net.TCPConn, buf *Buffer, limits Limits) (Result, []byte, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Result{}, nil, fmt.Errorf("read first bytes: %w", err)
	}
	r := reader{conn: c, buf: buf, limits: limits, need: 1}
	r.result.Kind = policy.Opaque
	if buf.used > 0 && r.known() { // somebody else has read it: Buffer.Fill
		return r.result, buf.Bytes(), nil
	}
	for {
		if err = raw.Read(r.step); !r.full {
			break
		}
		r.full = false
		err := buf.wait(ctx, cmp.Or(limits.Rest, DefaultRest))
		if r.deadline { // the client was not silent meanwhile: nobody listened
			c.SetReadDeadline(time.Time{})
			r.deadline, r.started = false, false
		}
		if err != nil {
			return Result{}, nil, fmt.Errorf("read first bytes: %w", err)
		}
	}
	if r.deadline {
		c.SetReadDeadline(time.Time{})
	}
	if err == nil {
		err = r.err
	}
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		r.late()
	default:
		return Result{}, nil, fmt.Errorf("read first bytes: %w", err)
	}
	return r.result, buf.Bytes(), nil
}

// reader is one Read at work.
type reader struct {
	conn     *net.TCPConn
	buf      *Buffer
	limits   Limits
	need     Need
	result   Result
	err      error
	deadline bool // one was set
	started  bool // the deadline that stands is that of Limits.Rest
	full     bool // there was no memory to read into
}

// step is called when c may be readable. It returns false to wait for the next
// time, and holds no buffer while the client has said nothing.
func (r *reader) step(fd uintptr) bool {
	for {
		room := r.buf.room()
		if room == nil {
			r.full = true
			return true
		}
		n, errno := rawio.Read(fd, room)
		switch {
		case errno == syscall.EAGAIN:
			return !r.wait()
		case errno != 0:
			r.err = os.NewSyscallError("read", errno)
			return true
		case n == 0:
			r.end()
			return true
		}
		r.buf.used += n
		if r.known() {
			return true
		}
	}
}

// known looks at what was read so far, and reports whether it says what the connection is.
func (r *reader) known() bool {
	if r.buf.used < int(r.need) {
		return false
	}
	if first := r.buf.Bytes()[0]; r.limits.OnlyTLS && first != recordHandshake && first != recordAlert && first&0x80 == 0 {
		return true // Opaque, as it was taken for from the start
	}
	r.result, r.need = Parse(r.buf.Bytes())
	return r.need == 0
}

// wait sets the deadline that fits and reports whether to wait at all. Only
// clients whose first bytes are not there yet cost a deadline.
func (r *reader) wait() bool {
	wait := r.limits.Silence
	if wait == 0 {
		wait = DefaultSilence
	}
	if r.buf.used == 0 {
		r.buf.Release()
		if r.deadline {
			return true
		}
	} else {
		if r.started {
			return true
		}
		r.started = true
		if wait = r.limits.Rest; wait == 0 {
			wait = DefaultRest
		}
	}
	r.deadline = true
	r.err = r.conn.SetReadDeadline(time.Now().Add(wait))
	return r.err == nil
}

// end says what a connection is whose client has sent its last byte.
func (r *reader) end() {
	r.result.Ended = true
	r.result.Silent, r.result.Cut = r.buf.used == 0, r.buf.used > 0
	if r.result.Kind == policy.ClientHello { // no server can take half a hello, and the rest will never come
		r.result.Kind, r.result.Err, r.result.Cut = policy.Opaque, ErrHelloEnded, false
	}
}

// late says what a connection is whose client did not go on in time.
func (r *reader) late() {
	r.result.Silent, r.result.Cut = r.buf.used == 0, r.buf.used > 0
	if r.result.Kind == policy.ClientHello {
		r.result.Err, r.result.SNIBad = ErrHelloSlow, true
	}
}

// Sizes of a Buffer, in bytes: nearly every connection is known within the small
// one.
const (
	smallBuffer = 16 << 10
	largeBuffer = MaxHello
	// MaxMemory bounds what the first bytes of all workloads take together, which share
	// it; where there is none left a connection waits for it as long as for the rest of a
	// hello.
	MaxMemory = 64 << 20
	// Units is MaxMemory in small buffers; a large one takes four.
	Units      = MaxMemory / smallBuffer
	largeUnits = largeBuffer / smallBuffer
)

// Buffers hands out the memory of Buffer. One proxy process has one; the zero
// value is ready.
type Buffers struct {
	small, large sync.Pool
}

// NewBuffer returns an empty Buffer, which takes memory only when bytes come, out of
// what a workload may have of Units. Where the member is nil
// nothing is counted.
func (p *Buffers) NewBuffer(of *share.Member) *Buffer { return &Buffer{pool: p, share: of} }

// Buffer holds the first bytes of one connection, at most MaxHello of them.
type Buffer struct {
	pool  *Buffers
	small *[smallBuffer]byte
	large *[largeBuffer]byte
	used  int
	share *share.Member
	units int // of it that are taken
}

// take takes units until there are n of them, and reports whether it could.
func (b *Buffer) take(n int) bool {
	if b.share == nil || b.units >= n {
		return true
	}
	if !b.share.Try(n - b.units) {
		return false
	}
	b.units = n
	return true
}

// wait waits for as many units as the next buffer takes.
func (b *Buffer) wait(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, share.ErrWait)
	defer cancel()
	need := 1
	if b.small != nil {
		need = largeUnits
	}
	for b.units < need {
		if err := b.share.Take(ctx); err != nil {
			return err
		}
		b.units++
	}
	return nil
}

// Bytes returns what was read so far, valid until Release.
func (b *Buffer) Bytes() []byte {
	switch {
	case b.large != nil:
		return b.large[:b.used]
	case b.small != nil:
		return b.small[:b.used]
	}
	return nil
}

// FillMost is how many bytes Fill takes.
const FillMost = smallBuffer

// Reserve takes the memory for what somebody else will read and Fill, and reports whether
// there is any.
func (b *Buffer) Reserve() bool { return b.take(1) }

// Fill puts into an empty Buffer, for which memory was Reserved, what somebody else has
// read of its connection: at most FillMost bytes. Read goes on behind them.
func (b *Buffer) Fill(said []byte) {
	if len(said) > 0 {
		b.used = copy(b.room(), said)
	}
}

// Take returns a copy of what was read so far and releases the Buffer: for who goes on
// for longer than its memory should be held.
func (b *Buffer) Take() []byte {
	said := bytes.Clone(b.Bytes())
	b.Release()
	return said
}

// Release gives the memory back. The Buffer is empty then, and usable again.
func (b *Buffer) Release() {
	if b.small != nil {
		b.pool.small.Put(b.small)
	}
	if b.large != nil {
		b.pool.large.Put(b.large)
	}
	b.small, b.large, b.used = nil, nil, 0
	if b.units > 0 {
		b.share.Give(b.units)
		b.units = 0
	}
}

// room returns where to read to, or nil where there is no memory for it. It is never
// empty: Parse has decided before MaxHello bytes are there.
func (b *Buffer) room() []byte {
	switch {
	case b.large != nil:
		return b.large[b.used:]
	case b.small == nil:
		if !b.take(1) {
			return nil
		}
		var ok bool
		if b.small, ok = b.pool.small.Get().(*[smallBuffer]byte); !ok {
			b.small = new([smallBuffer]byte)
		}
	case b.used == smallBuffer:
		if !b.take(largeUnits) {
			return nil
		}
		var ok bool
		if b.large, ok = b.pool.large.Get().(*[largeBuffer]byte); !ok {
			b.large = new([largeBuffer]byte)
		}
		copy(b.large[:], b.small[:])
		b.pool.small.Put(b.small)
		b.small = nil
		return b.large[b.used:]
	}
	return b.small[b.used:]
}
