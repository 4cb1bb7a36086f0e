package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/dnsserver"
)

// firstPiece is of what a client says the most that is sent before the proxy takes it.
const firstPiece = 16 << 10

// client is the workload's end of a connection, which the proxy takes when it is first used:
// when its first bytes are there, or when it waits for its server. So the proxy, which waits
// for what a client says first for so long only, never waits for the test.
type client struct {
	*net.TCPConn
	used atomic.Bool
	once sync.Once
	take func(spoken bool)
}

func (c *client) use(spoken bool) {
	if c.used.Load() {
		return
	}
	c.once.Do(func() {
		c.take(spoken)
		c.used.Store(true)
	})
}

// waits lets the proxy take a client that says nothing yet, and returns it.
func (c *client) waits() *client {
	c.use(false)
	return c
}

func (c *client) Read(b []byte) (int, error) {
	c.use(false)
	return c.TCPConn.Read(b)
}

func (c *client) WriteTo(w io.Writer) (int64, error) {
	c.use(false)
	return c.TCPConn.WriteTo(w)
}

func (c *client) Write(b []byte) (int, error) {
	if c.used.Load() {
		return c.TCPConn.Write(b)
	}
	first := min(len(b), firstPiece)
	n, err := c.TCPConn.Write(b[:first])
	c.use(n > 0)
	if err != nil || n == len(b) {
		return n, err
	}
	more, err := c.TCPConn.Write(b[n:])
	return n + more, err
}

func (c *client) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}

func (c *client) CloseWrite() error {
	defer c.use(false)
	return c.TCPConn.CloseWrite()
}

func (c *client) Close() error {
	defer c.use(false)
	return c.TCPConn.Close()
}

// dial is the workload's connect to a name: its synthetic address, as DNS gave it.
func (m *meshOf) dial(name string, port uint16) *client {
	m.t.Helper()
	told, err := m.names.Tell(names.MustParse(name), dnsserver.Exactly)
	if err != nil {
		m.t.Fatal(err)
	}
	return m.dialAddress(netip.AddrPortFrom(told.V4, port))
}

// dialAddress is the workload's connect to an address.
func (m *meshOf) dialAddress(to netip.AddrPort) *client {
	m.t.Helper()
	l := m.listen()
	ours, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		m.t.Fatal(err)
	}
	m.dialled.Store(ours.(*net.TCPConn))
	down := m.accept(l)
	c := &client{TCPConn: ours.(*net.TCPConn)}
	c.take = func(spoken bool) {
		if spoken {
			until(m.t, "the first bytes are there", func() bool { return queued(down, unix.TIOCINQ) > 0 })
		}
		m.admit(down, to)
	}
	m.t.Cleanup(func() {
		ours.Close()
		if !c.used.Load() {
			down.Close()
		}
	})
	return c
}

// listen listens like the socket that captures.
func (m *meshOf) listen() *net.TCPListener {
	m.t.Helper()
	config := net.ListenConfig{Control: capture.ControlUrgent}
	l, err := config.Listen(m.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	return l.(*net.TCPListener)
}

// take carries the next connection of a listener, which was made to that address.
func (m *meshOf) take(l *net.TCPListener, to netip.AddrPort) {
	m.t.Helper()
	m.admit(m.accept(l), to)
}

// accept is the proxy's end of the one connection of a listener.
func (m *meshOf) accept(l *net.TCPListener) *net.TCPConn {
	m.t.Helper()
	defer l.Close()
	l.SetDeadline(time.Now().Add(patience))
	down, err := l.AcceptTCP()
	if err != nil {
		m.t.Fatal(err)
	}
	m.carried.Store(down)
	return down
}

// admit carries a connection that was made to that address.
func (m *meshOf) admit(down *net.TCPConn, to netip.AddrPort) {
	workload := m.workload
	if l := workload.loop; l != nil {
		fd, err := descriptor(down)
		if err != nil {
			m.t.Fatal(err)
		}
		l.Post(func() { workload.arrived(l, fd, to, func() {}) })
		return
	}
	m.carrying.Go(func() {
		if serve := workload.admit(down, to); serve != nil {
			serve()
		}
	})
}

// descriptor is a connection's, in place of the connection.
func descriptor(c *net.TCPConn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	failed := raw.Control(func(of uintptr) { fd, err = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(failed, err, c.Close())
}

// read waits until the proxy has read what the connection that was dialled last said.
func (m *meshOf) read() {
	m.t.Helper()
	ours, down := m.dialled.Load(), m.carried.Load()
	until(m.t, "all has come to the proxy", func() bool { return queued(ours, unix.TIOCOUTQ) == 0 })
	until(m.t, "the proxy has read it", func() bool { return queued(down, unix.TIOCINQ) == 0 })
}

// queued is how many bytes a socket has that were not read, or not taken by the other side;
// -1 where it is closed.
func queued(c *net.TCPConn, which uint) (n int) {
	n = -1
	raw, err := c.SyscallConn()
	if err != nil {
		return n
	}
	raw.Control(func(fd uintptr) {
		if got, err := unix.IoctlGetInt(int(fd), which); err == nil {
			n = got
		}
	})
	return n
}

// until waits until something holds.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
