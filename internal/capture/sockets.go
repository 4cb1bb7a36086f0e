package capture

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture/seqpacket"
)

// backlog is how many connections may wait for the proxy's accept; the kernel
// cuts it to net.core.somaxconn.
const backlog = 4096

// MaxFiles is the largest number of descriptors that a namespace hands out: TCP
// and DNS for v4 and v6, the socket of its factory, and that of its Asker.
const MaxFiles = 6

// openSockets opens the capture sockets in the calling thread's namespace, and a
// pair over which more sockets are served.
func openSockets(ipv6 bool) (files []*os.File, sockets *net.UnixConn, err error) {
	gates := []netip.Addr{Gate4}
	if ipv6 {
		gates = append(gates, Gate6)
	}
	defer func() {
		if err != nil {
			CloseFiles(files)
			files = nil
		}
	}()
	for _, gate := range gates {
		listener, err := openTransparent(netip.AddrPortFrom(gate, ListenPort), unix.SOCK_STREAM)
		if err != nil {
			return files, nil, err
		}
		files = append(files, listener)
		questions, err := openTransparent(netip.AddrPortFrom(gate, dnsPort), unix.SOCK_DGRAM)
		if err != nil {
			return files, nil, err
		}
		files = append(files, questions)
	}
	sockets, theirs, err := seqpacket.Pair()
	if err != nil {
		return files, nil, err
	}
	return append(files, theirs), sockets, nil
}

// openTransparent opens a socket that takes what was sent to other addresses. A
// stream listens; a datagram socket tells with each packet where it was sent.
func openTransparent(address netip.AddrPort, kind int) (*os.File, error) {
	domain, sockaddr := sockaddrOf(address)
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket for %s: %w", address, err)
	}
	if err := bindTransparent(fd, domain, kind, sockaddr); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return os.NewFile(uintptr(fd), "capture "+address.String()), nil
}

func bindTransparent(fd, domain, kind int, address unix.Sockaddr) error {
	if err := setTransparent(fd, domain); err != nil {
		return err
	}
	if domain == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
	}
	if kind == unix.SOCK_DGRAM {
		level, option := unix.SOL_IP, unix.IP_RECVORIGDSTADDR
		if domain == unix.AF_INET6 {
			level, option = unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR
		}
		if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
			return err
		}
		return unix.Bind(fd, address)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := InlineUrgent(fd); err != nil {
		return err
	}
	if err := unix.Bind(fd, address); err != nil {
		return err
	}
	return unix.Listen(fd, backlog)
}

// setTransparent lets whoever holds the socket bind any address, for ever and
// without a capability. It takes CAP_NET_ADMIN or CAP_NET_RAW here, once.
func setTransparent(fd, domain int) error {
	level, option := unix.SOL_IP, unix.IP_TRANSPARENT
	if domain == unix.AF_INET6 {
		level, option = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return fmt.Errorf("make transparent: %w", err)
	}
	return nil
}

// CloseFiles closes files; a nil one is skipped.
func CloseFiles(files []*os.File) {
	for _, file := range files {
		if file != nil {
			file.Close()
		}
	}
}

func sockaddrOf(address netip.AddrPort) (domain int, sockaddr unix.Sockaddr) {
	a := address.Addr()
	if a.Is4() || a.Is4In6() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(address.Port()), Addr: a.Unmap().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(address.Port()), Addr: a.As16()}
}
