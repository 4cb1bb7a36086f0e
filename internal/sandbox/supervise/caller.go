package supervise

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"
)

// call is one notified call and what is held of its caller.
type call struct {
	notification
	pidfd, socket int
	family        int
	file          int       // what is connected to, where it is a file
	address       []byte    // what is connected to
	as            *identity // who connects; nil is who we are
}

func (c *call) close() {
	closeFile(c.file)
	closeFile(c.socket)
	closeFile(c.pidfd)
}

// pidfdThread makes a descriptor of a thread, since Linux 6.9.
const pidfdThread = unix.O_EXCL

// take gets the caller's socket itself, whatever its number means later.
func (s *Supervisor) take(n *notification) (c *call, errno unix.Errno) {
	c = &call{notification: *n, pidfd: -1, socket: -1, file: -1}
	c.pidfd, errno = quick(unix.SYS_PIDFD_OPEN, uintptr(n.thread), pidfdThread, 0)
	if errno == unix.EINVAL { // before 6.9 there are descriptors of whole processes only
		c.pidfd, errno = quick(unix.SYS_PIDFD_OPEN, uintptr(s.status(n.thread).process), 0, 0)
	}
	if errno != 0 {
		return nil, unix.EACCES
	}
	if c.socket, errno = quick(unix.SYS_PIDFD_GETFD, uintptr(c.pidfd), uintptr(int32(n.arguments[0])), 0); errno == 0 {
		c.family, errno = socketOption(c.socket, unix.SO_DOMAIN)
	}
	if errno != 0 {
		c.close()
		return nil, errno
	}
	return c, 0
}

// status is what a thread's status file says.
type status struct {
	process, threads int
	uid, gid         uint32 // effective
	groups           []uint32
	effective        uint64 // capabilities
	pending, shared  uint64 // signals, of the thread and of the process, that would be delivered
	whole            bool
}

// maxStatus is how much of a status file is read, in bytes; 65,536 groups do not fit,
// and a status that is not whole is refused.
const maxStatus = 64 << 10

func (s *Supervisor) status(thread uint32) status {
	fd, err := unix.Openat(s.proc, strconv.Itoa(int(thread))+"/status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return status{}
	}
	defer unix.Close(fd)
	text := make([]byte, 4096)
	length := 0
	for {
		n, err := unix.Read(fd, text[length:])
		if err != nil || n == 0 {
			return parseStatus(text[:length])
		}
		if length += n; length == len(text) {
			if length >= maxStatus {
				return status{}
			}
			text = append(text, make([]byte, length)...)
		}
	}
}

func parseStatus(text []byte) (found status) {
	var seen int
	var blocked, ignored uint64
	for line := range bytes.Lines(text) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		fields := bytes.Fields(value)
		field := func(at, base int) uint64 {
			if at >= len(fields) {
				return 0
			}
			seen++
			number, err := strconv.ParseUint(string(fields[at]), base, 64)
			if err != nil {
				seen--
			}
			return number
		}
		switch string(name) {
		case "Tgid":
			found.process = int(field(0, 10))
		case "Threads":
			found.threads = int(field(0, 10))
		case "Uid": // real, effective, saved, for files
			found.uid = uint32(field(1, 10))
		case "Gid":
			found.gid = uint32(field(1, 10))
		case "Groups":
			for i := range fields {
				found.groups = append(found.groups, uint32(field(i, 10)))
			}
			seen -= len(fields)
		case "CapEff":
			found.effective = field(0, 16)
		case "SigPnd":
			found.pending = field(0, 16)
		case "ShdPnd":
			found.shared = field(0, 16)
		case "SigBlk":
			blocked = field(0, 16)
		case "SigIgn":
			ignored = field(0, 16)
		}
	}
	found.pending &^= blocked | ignored
	found.shared &^= blocked | ignored
	found.whole = seen == 9
	return found
}

// identityOf says who the caller is for files and for the server. Its effective
// user counts in both: it could make that the one for files at any time. In a
// sandbox of one user there is nobody to become.
func (s *Supervisor) identityOf(c *call) (*identity, unix.Errno) {
	if s.config.OneUser {
		return nil, 0
	}
	found := s.status(c.thread)
	var theirs unix.Stat_t
	if err := unix.Fstatat(s.proc, strconv.Itoa(int(c.thread))+"/ns/user", &theirs, 0); err != nil || !found.whole {
		return nil, unix.EACCES
	}
	who := &identity{uid: found.uid, gid: found.gid, groups: found.groups}
	if theirs.Ino == s.user { // in a user namespace of its own it has no rights over our files
		who.rights = found.effective & fileRights
	}
	return who, 0
}
