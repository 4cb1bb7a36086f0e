package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"

	"sluice.dev/sluice/internal/control/registry"
	"sluice.dev/sluice/internal/peer"
)

// peerCredentials lets only those connect who are authenticated. Nothing is read
// of the others.
type peerCredentials struct {
	peers peer.Authenticator
	log   *slog.Logger
}

// ServerHandshake implements credentials.TransportCredentials.
func (c peerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	underneath := conn
	if limited, ok := conn.(*limitedConn); ok {
		underneath = limited.Conn
	}
	who, err := c.peers.Authenticate(underneath)
	if err != nil {
		conn.Close()
		c.log.Warn("a proxy's connection was refused", "error", err)
		return nil, nil, fmt.Errorf("authenticate the peer: %w", err)
	}
	info := peerInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	if who.PID != 0 {
		info.process = registry.ProcessOf(who.PID)
	}
	return conn, info, nil
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
	if of, ok := grpcpeer.FromContext(ctx); ok {
		if info, ok := of.AuthInfo.(peerInfo); ok {
			return info.process
		}
	}
	return registry.Process{}
}

// AuthType implements credentials.AuthInfo.
func (peerInfo) AuthType() string { return "peer" }

// limitAddresses closes connections beyond n from one address.
func limitAddresses(listener net.Listener, n int) net.Listener {
	return &addressListener{Listener: listener, most: n, open: make(map[netip.Addr]int)}
}

type addressListener struct {
	net.Listener
	most int

	mu   sync.Mutex
	open map[netip.Addr]int
}

// Accept implements net.Listener.
func (l *addressListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
		if err != nil || !l.take(from.Addr().Unmap(), 1) {
			conn.Close()
			continue
		}
		return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { l.take(from.Addr().Unmap(), -1) })}, nil
	}
}

// take counts n more connections from an address, and reports false where that is too many.
func (l *addressListener) take(from netip.Addr, n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[from]+n > l.most {
		return false
	}
	if l.open[from] += n; l.open[from] == 0 {
		delete(l.open, from)
	}
	return true
}

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
