package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"sluice.dev/sluice/internal/control/registry"
)

// peerCredentials lets only those connect whom check lets. Nothing is read of
// the others.
type peerCredentials struct {
	check func(*net.UnixConn) error
	log   *slog.Logger
}

var errNotUnix = errors.New("not a unix socket: the peer cannot be known")

// ServerHandshake implements credentials.TransportCredentials.
func (c peerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	underneath := conn
	if limited, ok := conn.(*limitedConn); ok {
		underneath = limited.Conn
	}
	unixConn, ok := underneath.(*net.UnixConn)
	err := errNotUnix
	if ok {
		err = c.check(unixConn)
	}
	if err != nil {
		conn.Close()
		c.log.Warn("a connection to the push socket was refused", "error", err)
		return nil, nil, fmt.Errorf("check peer: %w", err)
	}
	return conn, peerInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, processOf(unixConn)}, nil
}

// processOf returns the process at the other end, unknown where it cannot be
// told.
func processOf(conn *net.UnixConn) registry.Process {
	raw, err := conn.SyscallConn()
	if err != nil {
		return registry.Process{}
	}
	var process registry.Process
	_ = raw.Control(func(fd uintptr) { // an error leaves it unknown
		if credentials, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			process = registry.ProcessOf(int(credentials.Pid))
		}
	})
	return process
}

// ClientHandshake implements credentials.TransportCredentials; these are a
// server's.
func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("push: credentials of a server")
}

// Info implements credentials.TransportCredentials.
func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "peer"}
}

// Clone implements credentials.TransportCredentials.
func (c peerCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials.
func (peerCredentials) OverrideServerName(string) error { return nil }

// peerInfo is who is at the other end of a connection.
type peerInfo struct {
	credentials.CommonAuthInfo
	process registry.Process
}

// peerProcess returns the process that opened a stream.
func peerProcess(ctx context.Context) registry.Process {
	if of, ok := peer.FromContext(ctx); ok {
		if info, ok := of.AuthInfo.(peerInfo); ok {
			return info.process
		}
	}
	return registry.Process{}
}

// AuthType implements credentials.AuthInfo.
func (peerInfo) AuthType() string { return "peer" }

// limit closes connections beyond n.
func limit(listener net.Listener, n int) net.Listener {
	return &limitedListener{Listener: listener, free: make(chan struct{}, n)}
}

type limitedListener struct {
	net.Listener
	free chan struct{} // holds one element for each open connection
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { <-l.free })}, nil
		default:
			conn.Close()
		}
	}
}

type limitedConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	c.release()
	return c.Conn.Close()
}
