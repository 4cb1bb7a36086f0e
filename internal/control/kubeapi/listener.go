package kubeapi

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/peer"
)

const (
	// maxConnections bounds the open connections on api.sock, watches included.
	// At the bound a new one is answered 503 and closed.
	maxConnections = 256
)

// knownConn is a connection whose other end is known.
type knownConn struct {
	net.Conn
	who     principal
	pid     int // of a peer on api.sock; 0 where it is not known
	release func()
	once    sync.Once
}

func (c *knownConn) Close() error {
	if c.release != nil {
		c.once.Do(c.release)
	}
	return c.Conn.Close()
}

// socketListener accepts the connections on api.sock whose peer may command us.
type socketListener struct {
	*net.UnixListener
	peers peer.Authenticator
	slots chan struct{} // one for each open connection
	log   *slog.Logger
}

// ListenSocket opens api.sock for a server whose rules are elsewhere.
func ListenSocket(path string, peers peer.Authenticator, log *slog.Logger) (net.Listener, error) {
	return listenSocket(path, peers, log)
}

// listenSocket opens api.sock.
func listenSocket(path string, peers peer.Authenticator, log *slog.Logger) (*socketListener, error) {
	listener, err := ListenPrivate(path)
	if err != nil {
		return nil, err
	}
	return &socketListener{UnixListener: listener, peers: peers, slots: make(chan struct{}, maxConnections), log: log}, nil
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

// Accept returns the next connection whose peer may command us.
func (l *socketListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		peer, err := l.peers.Authenticate(conn)
		if err != nil {
			l.log.Warn("a peer on api.sock was refused", "error", err)
			_ = conn.Close()
			continue
		}
		select {
		case l.slots <- struct{}{}:
			return &knownConn{Conn: conn, who: sameUser, pid: peer.PID, release: func() { <-l.slots }}, nil
		default:
			l.log.Warn("a connection on api.sock was refused: too many are open", "limit", maxConnections)
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

// pairListener accepts connections that its own Dial makes: pairs of connected
// sockets without a name, which nobody else can reach. (gRPC's bufconn would not
// do for HTTP: a deadline that was taken back may still strike.)
type pairListener struct {
	who    principal
	dialed chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPairListener(who principal) *pairListener {
	return &pairListener{who: who, dialed: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial makes a pair, hands one end to Accept and returns the other.
func (l *pairListener) Dial(ctx context.Context) (net.Conn, error) {
	ends, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("connect to ourselves: %w", err)
	}
	select {
	case l.dialed <- ends[0]:
		return ends[1], nil
	case <-l.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = ends[0].Close()
	_ = ends[1].Close()
	return nil, err
}

func (l *pairListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.dialed:
		return &knownConn{Conn: conn, who: l.who}, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pairListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pairListener) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

func socketPair() (ends [2]net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return ends, err
	}
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "pair")
		ends[i], err = net.FileConn(file) // of a duplicate
		_ = file.Close()
		if err != nil {
			if i == 0 {
				_ = unix.Close(fds[1])
			} else {
				_ = ends[0].Close()
			}
			return ends, err
		}
	}
	return ends, nil
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
