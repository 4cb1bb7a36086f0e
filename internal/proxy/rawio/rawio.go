// Package rawio is read, write and peek on a non-blocking socket without the
// runtime's scheduler in between. upstream and http1 call it from inside a
// RawConn callback, where the descriptor cannot be closed under them. It must
// never be given a descriptor that can block, and never parks.
package rawio

import (
	"syscall"
	"unsafe"
)

// Read reads once into b, which must not be empty. 0 without an error is the
// end of the stream; EAGAIN says that nothing is there now.
func Read(fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}

// Write writes once from b, which must not be empty. Fewer bytes than len(b),
// or EAGAIN, say that the socket's buffer is full.
func Write(fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		// MSG_NOSIGNAL: a library must not depend on who handles SIGPIPE.
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_NOSIGNAL, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}

// Quiet says whether an idle connection is still one: its peer has sent
// nothing, has not closed and was not reset. One system call.
func Quiet(fd uintptr) bool {
	var b [1]byte
	for {
		_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b[0])), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		if errno != syscall.EINTR {
			return errno == syscall.EAGAIN
		}
	}
}

// Gone says whether the peer of a connection was reset or closed both ways, so
// that no answer can reach it. A peer that only half-closed is not gone.
func Gone(fd uintptr) bool {
	const closed = 7 // TCP_CLOSE in linux/tcp_states.h
	return state(fd) == closed
}

// Ended says whether the peer of a connection has ended its side: it may be gone, or
// wait for an answer still. What it sent before need not have been read.
func Ended(fd uintptr) bool {
	const closeWait = 8 // TCP_CLOSE_WAIT
	return state(fd) == closeWait
}

// state is the state of a connection, as linux/tcp_states.h numbers them; 0: unknown.
func state(fd uintptr) uint8 {
	var info [8]byte // struct tcp_info begins with it
	size := uint32(len(info))
	_, _, e := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO, uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&size)), 0)
	if e != 0 {
		return 0
	}
	return info[0]
}

// Resets says whether closing the connection resets it: SetLinger(0) was called.
func Resets(fd uintptr) bool {
	var linger syscall.Linger
	size := uint32(unsafe.Sizeof(linger))
	_, _, e := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, fd, syscall.SOL_SOCKET, syscall.SO_LINGER, uintptr(unsafe.Pointer(&linger)), uintptr(unsafe.Pointer(&size)), 0)
	return e == 0 && linger.Onoff != 0 && linger.Linger == 0
}
