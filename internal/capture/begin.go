package capture

import (
	"fmt"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BeginTCP begins to connect and returns at once: what comes of it is the socket's to say.
// It is for an event loop, and so does without the scheduler; keep-alive, which nobody
// misses in the first seconds, is the caller's to set.
func (Host) BeginTCP(to netip.AddrPort) (fd int, err error) {
	if to.Addr().Zone() != "" || !to.IsValid() {
		return -1, fmt.Errorf("connect to %s: not an address of another machine", to)
	}
	domain, sockaddr, size := rawSockaddr(to)
	fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("connect to %s: socket: %w", to, err)
	}
	one := int32(1)
	set := func(level, option int) {
		syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(unsafe.Pointer(&one)), unsafe.Sizeof(one), 0)
	}
	set(unix.SOL_SOCKET, unix.SO_OOBINLINE) // see InlineUrgent
	set(unix.IPPROTO_TCP, unix.TCP_NODELAY)
	_, _, errno := syscall.RawSyscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sockaddr)), size)
	switch errno {
	case 0, syscall.EINPROGRESS, syscall.EINTR: // which goes on, and is not to be begun twice
		return fd, nil
	}
	syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0)
	return -1, fmt.Errorf("connect to %s: %w", to, errno)
}

// rawSockaddr is an address as the kernel takes it.
func rawSockaddr(at netip.AddrPort) (domain int, raw unix.RawSockaddrInet6, size uintptr) {
	port := swapToHost(at.Port()) // as it is on the wire
	if a := at.Addr().Unmap(); a.Is4() {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&raw))
		v4.Family, v4.Port, v4.Addr = unix.AF_INET, port, a.As4()
		return unix.AF_INET, raw, unix.SizeofSockaddrInet4
	}
	raw.Family, raw.Port, raw.Addr = unix.AF_INET6, port, at.Addr().As16()
	return unix.AF_INET6, raw, unix.SizeofSockaddrInet6
}

// DestinationOf is Destination of a socket that package net does not know.
func (c *Capture) DestinationOf(fd int) netip.AddrPort {
	local, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	own := addrPortOf(local)
	if c.redirected && own.IsValid() {
		return redirectedTo(fd, own.Addr().Is4())
	}
	return own
}

func addrPortOf(sockaddr unix.Sockaddr) netip.AddrPort {
	switch s := sockaddr.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), uint16(s.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(s.Addr).Unmap(), uint16(s.Port))
	}
	return netip.AddrPort{}
}
