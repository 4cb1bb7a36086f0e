package supervise

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
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
	// What the caller was given cannot be taken from it again. So whatever makes the call
	// fail is looked for before; afterwards only another of its threads can bring it about.
	if errno := s.tell(n, [2]uint32{none, none}); errno != 0 {
		return errno
	}
	if errno := s.twoFree(n); errno != 0 {
		return errno
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, kind&unix.SOCK_NONBLOCK|unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return errnoOf(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	var numbers [2]uint32
	for i, fd := range pair {
		d := descriptor{id: n.id, file: uint32(fd), asFlags: uint32(kind & unix.SOCK_CLOEXEC)}
		number, errno := ioctl(s.listener, unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&d))
		if errno != 0 {
			return errno
		}
		numbers[i] = uint32(number)
	}
	return s.tell(n, numbers)
}

// none is the number of no descriptor.
const none = ^uint32(0)

// tell writes the numbers of a pair where the caller wants them.
func (s *Supervisor) tell(n *notification, numbers [2]uint32) unix.Errno {
	if !s.valid(n) {
		return unix.EACCES
	}
	text := make([]byte, 0, 8)
	for _, number := range numbers {
		text = binary.NativeEndian.AppendUint32(text, number)
	}
	local := []unix.Iovec{{Base: &text[0], Len: 8}}
	remote := []unix.RemoteIovec{{Base: uintptr(n.arguments[3]), Len: 8}}
	if written, err := unix.ProcessVMWritev(int(n.thread), local, remote, 0); err != nil || written != 8 {
		return unix.EFAULT
	}
	return 0
}

// maxProbed bounds how many numbers are looked at, from the highest that the caller may
// have. Who has nearly as many open at that end gets EMFILE, though lower ones be free.
const maxProbed = 4096

// twoFree says whether the caller may open two descriptors more.
func (s *Supervisor) twoFree(n *notification) unix.Errno {
	open, err := unix.Openat(s.proc, strconv.Itoa(int(n.thread))+"/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return unix.EACCES
	}
	defer unix.Close(open)
	limit, err := s.openLimit(n.thread)
	if err != nil || !s.valid(n) { // else it might be another's
		return unix.EACCES
	}
	free := 0
	var link unix.Stat_t // its file is not touched: it may be one that answers late
	for number := limit - 1; number >= 0 && number >= limit-maxProbed; number-- {
		switch unix.Fstatat(open, strconv.Itoa(number), &link, unix.AT_SYMLINK_NOFOLLOW) {
		case nil:
		case unix.ENOENT:
			if free++; free == 2 {
				return 0
			}
		default:
			return 0 // who may not be dumped shows none of its own: what it has is not known, and no reason to refuse
		}
	}
	return unix.EMFILE
}

// openLimit is how many descriptors a thread may have open.
func (s *Supervisor) openLimit(thread uint32) (int, error) {
	fd, err := unix.Openat(s.proc, strconv.Itoa(int(thread))+"/limits", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	text := make([]byte, 4096)
	length, err := unix.Read(fd, text)
	if err != nil {
		return 0, err
	}
	return parseOpenLimit(text[:length])
}

// parseOpenLimit reads the limit that holds out of a file of limits.
func parseOpenLimit(text []byte) (int, error) {
	for line := range bytes.Lines(text) {
		if value, found := bytes.CutPrefix(line, []byte("Max open files")); found {
			if fields := bytes.Fields(value); len(fields) > 0 {
				limit, err := strconv.ParseInt(string(fields[0]), 10, 32) // the kernel has no more numbers
				return int(limit), err
			}
		}
	}
	return 0, errors.New("no limit of open files")
}
