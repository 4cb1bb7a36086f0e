package supervise

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socketpair gives a pair of SOCK_SEQPACKET where one of unix datagrams was asked
// for: it keeps messages apart, and cannot send to a path.
func (s *Supervisor) socketpair(n *notification) unix.Errno {
	kind, protocol := int(int32(n.arguments[1])), int32(n.arguments[2])
	const ofType = 0xf // the rest are flags
	switch {
	case kind&^(ofType|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK) != 0:
		return unix.EINVAL
	case protocol != 0 && protocol != unix.AF_UNIX:
		return unix.EPROTONOSUPPORT
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, kind&unix.SOCK_NONBLOCK|unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return errnoOf(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	numbers := make([]byte, 8)
	for i, fd := range pair {
		d := descriptor{id: n.id, file: uint32(fd), asFlags: uint32(kind & unix.SOCK_CLOEXEC)}
		number, errno := ioctl(s.listener, unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&d))
		if errno != 0 {
			return errno
		}
		binary.NativeEndian.PutUint32(numbers[4*i:], uint32(number))
	}
	if !s.valid(n) {
		return unix.EACCES
	}
	local := []unix.Iovec{{Base: &numbers[0], Len: 8}}
	remote := []unix.RemoteIovec{{Base: uintptr(n.arguments[3]), Len: 8}}
	if written, err := unix.ProcessVMWritev(int(n.thread), local, remote, 0); err != nil || written != 8 {
		return unix.EFAULT
	}
	return 0
}
