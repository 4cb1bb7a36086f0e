package supervise

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxAddress is the size of struct sockaddr_storage: the kernel takes no longer one.
const maxAddress = 128

// connect performs the call on the caller's socket with a copy of its address.
// Every family is: a descriptor of a network socket can be one of a unix socket by
// the time the kernel looks.
func (s *Supervisor) connect(h *hands, n *notification) {
	c, errno := s.take(n)
	if errno != 0 {
		s.answer(n, errno)
		return
	}
	if errno = s.copyAddress(c); errno == 0 && c.family == unix.AF_NETLINK && !isKernel(c.address) {
		errno = unix.EPERM // we have the right to speak to groups, the caller has not
	}
	switch {
	case errno != 0:
		s.end(c, errno)
	case c.family == unix.AF_UNIX:
		if !s.post(func(h *hands) { s.connectUnix(h, c) }) {
			s.end(c, unix.EAGAIN)
		}
	default:
		s.perform(h, c)
	}
}

// end answers a call and lets go of its caller.
func (s *Supervisor) end(c *call, errno unix.Errno) {
	s.answer(&c.notification, errno)
	c.close()
}

func (s *Supervisor) copyAddress(c *call) unix.Errno {
	length := int(int32(c.arguments[2]))
	if length < 0 || length > maxAddress {
		return unix.EINVAL
	}
	c.address = make([]byte, length)
	if errno := copyMemory(c.thread, c.arguments[1], c.address); errno != 0 {
		return errno
	}
	if !s.valid(&c.notification) {
		return unix.EACCES // nobody hears it
	}
	return 0
}

// isKernel says of an address of netlink that it is the kernel's: no port, no group.
func isKernel(address []byte) bool {
	const size = 12 // struct sockaddr_nl
	return len(address) >= size && bytes.Equal(address[4:size], make([]byte, 8))
}

// isPath says of a unix socket's address that it names a file.
func isPath(address []byte) bool {
	const size = 110 // struct sockaddr_un
	return len(address) > 2 && len(address) <= size && binary.NativeEndian.Uint16(address) == unix.AF_UNIX && address[2] != 0
}

// connectUnix connects as the caller, for it is that whom the server sees. An
// abstract name belongs to the socket's network namespace, which has no link to the
// outside; a path is looked at first.
func (s *Supervisor) connectUnix(h *hands, c *call) {
	var errno unix.Errno
	if c.as, errno = s.identityOf(c); errno == 0 && isPath(c.address) {
		errno = s.find(h, c)
	}
	if errno == 0 && !s.valid(&c.notification) {
		errno = unix.EACCES // the identity may be another's by now
	}
	if errno != 0 {
		s.end(c, errno)
		return
	}
	s.perform(h, c)
}

// find opens the file as the caller would, and looks whether it may be connected to.
// One outside looks like a file on which nobody listens.
func (s *Supervisor) find(h *hands, c *call) unix.Errno {
	name, _, _ := strings.Cut(string(c.address[2:]), "\x00")
	thread := strconv.Itoa(int(c.thread))
	root, err := unix.Openat(s.proc, thread+"/root", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return unix.EACCES
	}
	defer unix.Close(root)
	folder, rest, errno := s.begins(c, thread, name)
	if errno != 0 {
		return errno
	}
	if !s.valid(&c.notification) {
		unix.Close(folder)
		return unix.EACCES
	}
	if rest == "" { // a descriptor of the socket file itself
		c.file = folder
	} else {
		c.file, errno = h.open(root, folder, rest, c.as)
		unix.Close(folder)
		if errno != 0 {
			return errno
		}
	}
	key, isSocket, err := inodeOf(c.file)
	if err != nil || isSocket && !s.table.has(key) {
		return unix.ECONNREFUSED
	}
	c.address = fileAddress(c.file) // what is no socket is the kernel's to refuse
	return 0
}

// ownDescriptors are the names of a process's own descriptors, through which long
// paths are shortened. Other links of /proc are not followed.
var ownDescriptors = []string{"/proc/self/fd/", "/proc/thread-self/fd/", "/dev/fd/"}

// begins opens the folder in which a path begins: the caller's own, or that of one
// of its descriptors.
func (s *Supervisor) begins(c *call, thread, name string) (folder int, rest string, errno unix.Errno) {
	for _, prefix := range ownDescriptors {
		tail, found := strings.CutPrefix(name, prefix)
		if !found {
			continue
		}
		number, rest, _ := strings.Cut(tail, "/")
		fd, err := strconv.ParseUint(number, 10, 31)
		if err != nil {
			return -1, "", unix.ENOENT
		}
		folder, err := unix.PidfdGetfd(c.pidfd, int(fd), 0)
		if err != nil {
			return -1, "", unix.ENOENT
		}
		return folder, strings.TrimLeft(rest, "/"), 0
	}
	folder, err := unix.Openat(s.proc, thread+"/cwd", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", unix.EACCES
	}
	return folder, name, 0
}
