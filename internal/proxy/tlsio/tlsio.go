// Package tlsio is the server's end of a TLS connection as the engines of HTTP read and write
// it: http2 as any net.Conn, and http1 as a Stream, which is read without waiting where
// nothing is there. ingress makes one after the handshake. It never decides which certificate
// is shown, and never waits for a peer to take its close_notify.
package tlsio

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/rawio"
)

// Conn is a connection of a client whose handshake is done. It is read by one goroutine at a
// time, and written by one at a time.
type Conn struct {
	*tls.Conn
	under *under
	err   error // of a ReadNow, which every later one returns
	quiet bool  // ReadNow found nothing last: crypto/tls holds nothing that is not read
}

// HandshakeTime bounds a handshake.
const HandshakeTime = 10 * time.Second

// Server does the handshake of a server by config, with a client of which said was read
// already. Whatever ends ctx ends it.
func Server(ctx context.Context, tcp *net.TCPConn, said []byte, config *tls.Config) (*Conn, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("take the client's socket: %w", err)
	}
	u := &under{TCPConn: tcp, raw: raw, said: said}
	c := &Conn{Conn: tls.Server(u, config), under: u}
	ctx, cancel := context.WithTimeoutCause(ctx, HandshakeTime, errLate)
	defer cancel()
	if err := c.Conn.HandshakeContext(ctx); err != nil { // which closes the socket where ctx ends
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return c, nil
}

var errLate = fmt.Errorf("no handshake within %v", HandshakeTime)

// ReadNow implements http1.Stream.
func (c *Conn) ReadNow(b []byte) (int, syscall.Errno) {
	if c.err == nil {
		var n int
		c.under.impatient = true
		n, c.err = c.Conn.Read(b)
		c.under.impatient = false
		again := errors.Is(c.err, syscall.EAGAIN)
		if again {
			c.err = nil // behind data too: of the next record only a part is there
		}
		c.quiet = again && n == 0
		switch {
		case n > 0:
			return n, 0
		case again:
			return 0, syscall.EAGAIN
		}
	}
	if errors.Is(c.err, io.EOF) {
		return 0, 0
	}
	return 0, syscall.ECONNRESET
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	c.quiet = false
	return c.Conn.Read(b)
}

// Wait implements http1.Stream. What came together with what was read before, such as a
// request with the end of its handshake, is not in the socket any more: so it waits only
// where ReadNow found nothing.
func (c *Conn) Wait() error {
	if !c.quiet {
		return nil
	}
	return c.under.raw.Read(func(fd uintptr) bool { return !rawio.Quiet(fd) })
}

// WhenGone implements http1.Stream: Gone says it instead.
func (c *Conn) WhenGone(func()) {}

// Gone implements http1.Stream.
func (c *Conn) Gone(ended bool) (gone bool) {
	c.under.raw.Control(func(fd uintptr) { gone = rawio.Gone(fd) || ended && rawio.Ended(fd) })
	return gone
}

// GRPC implements http1.Stream: in HTTP/1.1 there is none.
func (c *Conn) GRPC() bool { return false }

// Version implements http1.Stream.
func (c *Conn) Version() exchange.Version { return exchange.HTTP11 }

// SetLinger implements http1.Stream.
func (c *Conn) SetLinger(sec int) error { return c.under.SetLinger(sec) }

// CloseWrite says that nothing more is sent.
func (c *Conn) CloseWrite() error {
	c.notify()
	return c.under.CloseWrite()
}

// Close closes the connection, at once.
func (c *Conn) Close() error {
	c.notify()
	return c.under.Close()
}

// HalfClose is CloseWrite, for who must not call that of a tls.Conn, which may wait.
func (c *Conn) HalfClose() error { return c.CloseWrite() }

// notify sends the close_notify of TLS, if there is room for that in the socket's buffer:
// nobody waits for it, nor for a write that a peer does not take. From then on nothing is sent.
// A connection that is to be reset ends without one: what it carried last is not whole, and to
// a client a close_notify says that it is.
func (c *Conn) notify() {
	u := c.under
	var resets bool
	u.raw.Control(func(fd uintptr) { resets = rawio.Resets(fd) })
	u.mu.Lock()
	again, writing := u.collects, u.writing > 0
	u.collects = !writing || again
	u.dropped = u.dropped || resets
	u.mu.Unlock()
	if again || writing || resets {
		return
	}
	err := c.Conn.CloseWrite() // whoever has its lock is about to write, which waits no more
	u.mu.Lock()
	last := u.collected
	u.collected, u.dropped = nil, true
	u.mu.Unlock()
	if err == nil && len(last) > 0 {
		u.raw.Control(func(fd uintptr) { rawio.Write(fd, last) })
	}
}

// under is the transport below crypto/tls.
type under struct {
	*net.TCPConn
	raw       syscall.RawConn
	said      []byte // what was read before
	impatient bool   // Read says EAGAIN where nothing is there: crypto/tls keeps its state then

	mu        sync.Mutex
	writing   int  // Writes that may wait
	collects  bool // Write keeps what it gets
	collected []byte
	dropped   bool // it does not even keep it
}

// maxCollected bounds what is kept for the end: a close_notify, behind what was about to be
// written.
const maxCollected = 64 << 10

// Read implements net.Conn.
func (u *under) Read(b []byte) (int, error) {
	if len(u.said) > 0 {
		n := copy(b, u.said)
		if u.said = u.said[n:]; len(u.said) == 0 {
			u.said = nil
		}
		return n, nil
	}
	if !u.impatient || len(b) == 0 {
		return u.TCPConn.Read(b)
	}
	var n int
	var errno syscall.Errno
	if err := u.raw.Read(func(fd uintptr) bool { n, errno = rawio.Read(fd, b); return true }); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, syscall.EAGAIN // the Wait that follows says so
		}
		return 0, err
	}
	switch {
	case errno != 0:
		return 0, errno
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write implements net.Conn.
func (u *under) Write(b []byte) (int, error) {
	u.mu.Lock()
	if u.collects {
		defer u.mu.Unlock()
		if u.dropped || len(u.collected)+len(b) > maxCollected {
			return 0, net.ErrClosed
		}
		u.collected = append(u.collected, b...)
		return len(b), nil
	}
	u.writing++
	u.mu.Unlock()
	n, err := u.TCPConn.Write(b)
	u.mu.Lock()
	u.writing--
	u.mu.Unlock()
	return n, err
}

// SetWriteDeadline implements net.Conn. crypto/tls gives its close_notify 5 s: nothing waits
// for that here.
func (u *under) SetWriteDeadline(t time.Time) error {
	u.mu.Lock()
	collects := u.collects
	u.mu.Unlock()
	if collects {
		return nil
	}
	return u.TCPConn.SetWriteDeadline(t)
}
