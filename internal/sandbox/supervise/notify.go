package supervise

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// notification is struct seccomp_notif of one call.
type notification struct {
	id        uint64
	thread    uint32 // in our PID namespace
	_         uint32
	number    int32
	_         uint32
	_         uint64
	arguments [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// descriptor is struct seccomp_notif_addfd.
type descriptor struct {
	id                       uint64
	flags, file, as, asFlags uint32
}

// quick makes a system call that never sleeps, without telling Go's scheduler:
// that would cost more than the call.
func quick(number, a, b, c uintptr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(number, a, b, c)
	return int(n), errno
}

func ioctl(fd int, request uint, argument unsafe.Pointer) (int, unix.Errno) {
	return quick(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(argument))
}

func closeFile(fd int) {
	if fd >= 0 {
		quick(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	}
}

func socketOption(socket, option int) (int, unix.Errno) {
	var value, length uint32 = 0, 4
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(socket), unix.SOL_SOCKET, uintptr(option),
		uintptr(unsafe.Pointer(&value)), uintptr(unsafe.Pointer(&length)), 0)
	return int(value), errno
}

// answer ends a call with an error, or with 0.
func (s *Supervisor) answer(n *notification, errno unix.Errno) {
	r := response{id: n.id, errno: -int32(errno)}
	ioctl(s.listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)) // an error says that the caller died
}

// proceed lets the kernel make the call with what the caller's memory and
// descriptors are by now.
func (s *Supervisor) proceed(n *notification) {
	r := response{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	ioctl(s.listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
}

// valid says that the caller still waits, and so that what was opened by its
// number before is its own.
func (s *Supervisor) valid(n *notification) bool {
	_, errno := ioctl(s.listener, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&n.id))
	return errno == 0
}

// copyMemory reads all of into from a thread's memory.
func copyMemory(thread uint32, address uint64, into []byte) unix.Errno {
	if len(into) == 0 {
		return 0
	}
	local := unix.Iovec{Base: &into[0], Len: uint64(len(into))}
	remote := unix.RemoteIovec{Base: uintptr(address), Len: len(into)}
	n, _, errno := unix.RawSyscall6(unix.SYS_PROCESS_VM_READV, uintptr(thread),
		uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	if errno != 0 || int(n) != len(into) {
		return unix.EFAULT
	}
	return 0
}

func addressOf(memory []byte) uint64 { return uint64(uintptr(unsafe.Pointer(&memory[0]))) }
