package upstream

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/rawio"
)

// Conn is one connection to an upstream: an exchange.Stream, whose comments hold.
type Conn struct {
	pool    *Pool
	tcp     *net.TCPConn
	raw     syscall.RawConn
	fd      uintptr
	tls     *tls.Conn     // nil: plain
	under   *underTLS     // what tls reads from and writes to
	session *http2.Client // where HTTP/2 is spoken on it, as a whole
	remote  netip.AddrPort

	stepFunc func(uintptr) bool // made once: no closure for each exchange
	out, in  []byte             // of the exchange under way
	n        int
	err      error

	exchanges int // that ended whole, and after which it was given back or kept
	reused    bool
	idleSince time.Duration // on the pool's clock
	place     int           // index in pool.all
	unasked   [1]byte       // where quiet looks for what nobody asked for
	kept      bool          // by Keep, under pool.mu
	aborted   atomic.Bool
	ended     atomic.Bool
}

// Remote implements exchange.Stream.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// Reused implements exchange.Stream.
func (c *Conn) Reused() bool { return c.reused }

// Exchange implements exchange.Stream; in must not be empty.
//
// Reading and writing happen inside one wait of the runtime's poller: readiness
// is reset before the write, so no edge is lost and no read is wasted.
func (c *Conn) Exchange(out exchange.Message, in []byte) (int, error) {
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

// Send implements exchange.Stream: from here on crypto/tls reads and writes from
// two goroutines, on a connection that blocks.
func (c *Conn) Send(out exchange.Message) error {
	c.setBlocking(true)
	_, err := c.Write(out)
	return err
}

// Write implements exchange.Stream: it writes all of b.
func (c *Conn) Write(b []byte) (int, error) {
	if c.tls != nil {
		return c.tls.Write(b)
	}
	return c.tcp.Write(b)
}

// setBlocking says whether reads and writes may come from two goroutines at once.
// It makes no difference without TLS.
func (c *Conn) setBlocking(on bool) {
	if c.under != nil {
		c.under.blocking = on
	}
}

// CloseWrite implements exchange.Stream.
func (c *Conn) CloseWrite() error {
	if c.tls != nil {
		return c.tls.CloseWrite()
	}
	return c.tcp.CloseWrite()
}

// Abort implements exchange.Stream.
func (c *Conn) Abort() {
	c.aborted.Store(true)
	c.tcp.SetDeadline(longAgo)
}

// Release implements exchange.Stream.
func (c *Conn) Release(reuse bool) {
	if reuse {
		c.pool.put(c)
	} else {
		c.takeBack()
		c.close()
	}
}

// close ends the connection for good. Only the first call does: its descriptor may be
// another's afterwards.
func (c *Conn) close() {
	if c.ended.Swap(true) {
		return
	}
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
