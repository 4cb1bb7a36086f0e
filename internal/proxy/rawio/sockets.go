package rawio

import (
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Accept takes the next connection of a listener. It does not block; EAGAIN says that there
// is none.
func Accept(listener uintptr) (fd int, errno syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, listener, 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case syscall.EINTR:
			continue
		case 0:
			return int(n), 0
		}
		return -1, errno
	}
}

// EndWrite ends what is sent: the peer reads the end of the stream behind it.
func EndWrite(fd int) { syscall.RawSyscall(syscall.SYS_SHUTDOWN, uintptr(fd), syscall.SHUT_WR, 0) }

// Close closes a socket.
func Close(fd int) { syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0) }

// Reset closes a socket so that its peer sees a reset, not an end.
func Reset(fd int) {
	linger := syscall.Linger{Onoff: 1}
	syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, uintptr(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, uintptr(unsafe.Pointer(&linger)), unsafe.Sizeof(linger), 0)
	Close(fd)
}

// SetOption sets an option of a socket that is a number.
func SetOption(fd, level, option int, value int32) syscall.Errno {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
	return errno
}

// KeepAlive has a socket ask its peer for life as those of package net do.
func KeepAlive(fd int) {
	const seconds, probes = 15, 9
	SetOption(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1)
	SetOption(fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, seconds)
	SetOption(fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, seconds)
	SetOption(fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, probes)
}

// TCP makes a connection of package net of a socket, which it takes over: where it fails,
// for want of a descriptor, the peer is reset.
func TCP(fd int) (*net.TCPConn, error) {
	file := os.NewFile(uintptr(fd), "connection")
	conn, err := net.FileConn(file)
	if err != nil {
		syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
		file.Close()
		return nil, err
	}
	file.Close()
	return conn.(*net.TCPConn), nil
}
