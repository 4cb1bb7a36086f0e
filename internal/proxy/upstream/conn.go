package upstream

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"sluice.dev/sluice/internal/proxy/rawio"
)

// Conn is one connection to an upstream. It has one owner at a time, who got it
// from Pool.Take or Pool.Dial and hands it back with Pool.Put or Close. Only
// Abort may be called by others.
type Conn struct {
	pool   *Pool
	tcp    *net.TCPConn
	raw    syscall.RawConn
	fd     uintptr
	tls    *tls.Conn // nil: plain
	under  *underTLS // what tls reads from and writes to
	remote netip.AddrPort

	stepFunc func(uintptr) bool // made once: no closure for each exchange
	out, in  []byte             // of the exchange under way
	n        int
	err      error

	reused    bool
	idleSince time.Duration // on the pool's clock
	place     int           // index in pool.all
	aborted   atomic.Bool
}

// Remote is the address that was dialled.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// Reused says that the connection served an exchange before this one, so that
// its failure before the first byte of an answer may be an upstream that closed
// an idle connection.
func (c *Conn) Reused() bool { return c.reused }

// Exchange writes out, waits until the upstream says something and reads it once
// into in, which must not be empty. It returns at least one byte or an error;
// io.EOF is the end of the stream. With out empty it only reads.
//
// Reading and writing happen inside one wait of the runtime's poller: readiness
// is reset before the write, so no edge is lost and no read is wasted.
func (c *Conn) Exchange(out, in []byte) (int, error) {
	if c.under != nil && c.under.blocking {
		if len(out) > 0 {
			if _, err := c.tls.Write(out); err != nil {
				return 0, err
			}
		}
		return c.tls.Read(in)
	}
	c.out, c.in, c.n, c.err = out, in, 0, nil
	err := c.raw.Read(c.stepFunc)
	if err == nil {
		err = c.err
	}
	c.out, c.in, c.err = nil, nil, nil
	if c.n > 0 {
		return c.n, nil
	}
	return 0, err
}

// step is called by the poller: at once, and then at each edge of readability.
// It returns false to wait for the next one.
func (c *Conn) step(fd uintptr) bool {
	if len(c.out) > 0 {
		out := c.out
		c.out = nil
		if c.tls != nil {
			return !c.sendTLS(fd, out)
		}
		return !c.send(fd, out)
	}
	if c.tls != nil {
		return c.receiveTLS(fd)
	}
	n, errno := rawio.Read(fd, c.in)
	switch {
	case errno == syscall.EAGAIN:
		return false
	case errno != 0:
		c.err = errno
	case n == 0:
		c.err = io.EOF
	}
	c.n = n
	return true
}

// send writes all of b; where the socket's buffer is full it parks until there
// is room. The write lock of the descriptor is apart from the read lock that
// our caller holds.
func (c *Conn) send(fd uintptr, b []byte) bool {
	n, errno := rawio.Write(fd, b)
	if errno == 0 && n == len(b) {
		return true
	}
	if errno != 0 && errno != syscall.EAGAIN {
		c.err = errno
		return false
	}
	if _, err := c.tcp.Write(b[n:]); err != nil {
		c.err = err
		return false
	}
	return true
}

// Write writes all of b. It may be called while another goroutine is in
// Exchange with nothing to write; over TLS only after SetBlocking(true).
func (c *Conn) Write(b []byte) (int, error) {
	if c.tls != nil {
		return c.tls.Write(b)
	}
	return c.tcp.Write(b)
}

// SetBlocking says whether reads and writes may come from two goroutines at
// once, as an exchange with a long body needs it. It makes no difference
// without TLS. The caller must be the only user at that moment.
func (c *Conn) SetBlocking(on bool) {
	if c.under != nil {
		c.under.blocking = on
	}
}

// CloseWrite ends the stream towards the upstream; reading goes on.
func (c *Conn) CloseWrite() error {
	if c.tls != nil {
		return c.tls.CloseWrite()
	}
	return c.tcp.CloseWrite()
}

// Abort makes every call on the connection fail, from any goroutine. The owner
// still has to Close it.
func (c *Conn) Abort() {
	c.aborted.Store(true)
	c.tcp.SetDeadline(longAgo)
}

// Close ends the connection. Only the owner calls it, once, in place of Put.
func (c *Conn) Close() {
	c.pool.forget(c)
	c.shut()
}

func (c *Conn) shut() {
	if c.tls != nil && !c.aborted.Load() {
		c.closeNotify()
	}
	c.tcp.Close()
}

// longAgo is a deadline that has passed on every clock.
var longAgo = time.Unix(1, 0)

// IsTimeout says that err came from Abort or a deadline.
func IsTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}
