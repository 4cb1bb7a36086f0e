package capture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// connect connects a socket that was made elsewhere and takes it over. The
// socket joins Go's poller only after connect(2): an unconnected TCP socket has
// already polled OUT|HUP, and the edge that tells of the connection was lost for
// one dial in ten that joined before.
func connect(ctx context.Context, fd int, src netip.Addr, dst netip.AddrPort) (net.Conn, error) {
	file, err := startConnect(ctx, fd, src, dst)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	defer file.Close()
	if err := awaitConnect(ctx, file); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", dst, err)
	}
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", dst, err)
	}
	return conn, nil
}

// startConnect leaves fd the caller's where it fails.
func startConnect(ctx context.Context, fd int, src netip.Addr, dst netip.AddrPort) (*os.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", dst, err)
	}
	if dst.Addr().Zone() != "" || !dst.Addr().IsValid() {
		return nil, fmt.Errorf("connect to %s: not an address of another namespace", dst)
	}
	domain, target := sockaddrOf(dst)
	if src.IsValid() {
		sourceDomain, source := sockaddrOf(netip.AddrPortFrom(src, 0))
		if sourceDomain != domain {
			return nil, fmt.Errorf("connect to %s: source %s is of the other family", dst, src)
		}
		// Else bind takes a port of its own for each connection, and 28,000 are
		// the end for all destinations together.
		if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return nil, fmt.Errorf("connect to %s from %s: %w", dst, src, err)
		}
		if err := unix.Bind(fd, source); err != nil {
			return nil, fmt.Errorf("connect to %s from %s: bind: %w", dst, src, err)
		}
	}
	if err := unix.Connect(fd, target); err != nil && err != unix.EINPROGRESS {
		return nil, fmt.Errorf("connect to %s: %w", dst, err)
	}
	return os.NewFile(uintptr(fd), "dial"), nil
}

// awaitConnect waits for the outcome of a connect. A wake-up alone proves
// nothing: the socket itself is asked for its error and its peer.
func awaitConnect(ctx context.Context, file *os.File) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { file.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	var outcome error
	err = raw.Write(func(fd uintptr) (done bool) {
		socketError, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && socketError != 0 {
			err = unix.Errno(socketError)
		}
		if err != nil {
			outcome = err
			return true
		}
		_, err = unix.Getpeername(int(fd))
		return err == nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return context.Cause(ctx)
	}
	return errors.Join(err, outcome)
}

// Host makes connections in the namespace of this process.
type Host struct{}

var _ Sockets = Host{}

// DialTCP is Sockets.DialTCP; src must be an address of this machine.
func (Host) DialTCP(ctx context.Context, src netip.Addr, dst netip.AddrPort) (*net.TCPConn, error) {
	dialer := net.Dialer{Control: ControlUrgent}
	dialer.SetMultipathTCP(false) // what comes out may go into a sockmap, and out of one place only
	if src.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0))
	}
	conn, err := dialer.DialContext(ctx, "tcp", dst.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// DialUDP is Sockets.DialUDP.
func (Host) DialUDP(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, "udp", dst.String())
}

// DialInward connects to a port on which a server inside a sandbox listens, be
// it on every address, on 127.0.0.1 or on ::1 alone. The server sees the source,
// which is the caller's mesh address; the zero Addr shows as loopback.
func DialInward(ctx context.Context, sockets Sockets, src4, src6 netip.Addr, port uint16) (*net.TCPConn, error) {
	conn, err4 := sockets.DialTCP(ctx, src4, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port))
	if err4 == nil {
		return conn, nil
	}
	if ctx.Err() != nil || errors.Is(err4, ErrFactoryGone) || errors.Is(err4, net.ErrClosed) {
		return nil, err4
	}
	conn, err6 := sockets.DialTCP(ctx, src6, netip.AddrPortFrom(netip.IPv6Loopback(), port))
	if err6 == nil {
		return conn, nil
	}
	return nil, err4 // without IPv6 the second says only that there is none
}
