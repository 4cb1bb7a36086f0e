package kubeapi

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/test/bufconn"

	"sluice.dev/sluice/internal/paths"
)

const (
	// maxConnections bounds the open connections on api.sock, watches included.
	// At the bound a new one is answered 503 and closed.
	maxConnections = 256
)

// principal is who is at the other end of a connection.
type principal uint8

const (
	nobody   principal = iota
	itself             // this very process, through memory
	sameUser           // a peer on api.sock that passed the check: the administrator
)

// knownConn is a connection whose other end is known.
type knownConn struct {
	net.Conn
	who     principal
	release func()
	once    sync.Once
}

func (c *knownConn) Close() error {
	if c.release != nil {
		c.once.Do(c.release)
	}
	return c.Conn.Close()
}

// socketListener accepts the connections on api.sock whose peer passes a check.
type socketListener struct {
	*net.UnixListener
	check func(*net.UnixConn) error
	slots chan struct{} // one for each open connection
	log   *slog.Logger
}

// listenSocket opens api.sock.
func listenSocket(path string, check func(*net.UnixConn) error, log *slog.Logger) (*socketListener, error) {
	listener, err := ListenPrivate(path)
	if err != nil {
		return nil, err
	}
	return &socketListener{UnixListener: listener, check: check, slots: make(chan struct{}, maxConnections), log: log}, nil
}

// ListenPrivate listens on a unix socket with mode 0600. Whoever calls it holds
// the lock of the folder, so a socket that is there was left behind and is
// replaced. Closing the listener removes the socket.
func ListenPrivate(path string) (*net.UnixListener, error) {
	if err := paths.RemoveStale(path); err != nil {
		return nil, fmt.Errorf("replace the socket of a server before: %w", err)
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		// Before bind: the file is made with the socket's own mode, so there is no
		// moment in which others could connect.
		var chmod error
		if err := raw.Control(func(fd uintptr) { chmod = unix.Fchmod(int(fd), 0o600) }); err != nil {
			return err
		}
		return chmod
	}}
	listener, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return listener.(*net.UnixListener), nil
}

// Accept returns the next connection whose peer passed the check.
func (l *socketListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if err := l.check(conn); err != nil {
			l.log.Warn("refused a peer on api.sock", "error", err)
			_ = conn.Close()
			continue
		}
		select {
		case l.slots <- struct{}{}:
			return &knownConn{Conn: conn, who: sameUser, release: func() { <-l.slots }}, nil
		default:
			l.log.Warn("refused a connection on api.sock: too many are open", "limit", maxConnections)
			refuseBusy(conn)
		}
	}
}

// refuseBusy answers before anything was read; the deadline keeps a peer that
// does not read from holding the accept loop.
func refuseBusy(conn net.Conn) {
	_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = conn.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Type: text/plain\r\nContent-Length: 26\r\n\r\ntoo many open connections\n"))
	_ = conn.Close()
}

// memoryListener accepts the control plane's own connections.
type memoryListener struct{ *bufconn.Listener }

func (l memoryListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &knownConn{Conn: conn, who: itself}, nil
}

// idleListener never accepts anything. The API server's life cycle wants a
// listener of its own; serving is ours.
type idleListener struct {
	closed chan struct{}
	once   sync.Once
}

func newIdleListener() *idleListener { return &idleListener{closed: make(chan struct{})} }

func (l *idleListener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l *idleListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is never bound; its form is what the API server parses.
func (l *idleListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
