// Package supervise decides over unix sockets at connect: a sandbox's init runs it
// on the seccomp notifications of its command. A socket file is reached only where
// somebody inside listens on its inode, or the owner named it. It performs every
// connect itself, on what it looked at; it must never let the kernel go on with a
// call whose memory or descriptor the caller can still change.
package supervise

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
)

const (
	// fileThreads, at most, look paths up and connect to files. A folder of a dead server
	// may hold each of them; connections over a network then still pass.
	fileThreads = 4
	// maxQueued bounds the calls that wait for one of those threads, and queueWait
	// how long the next one waits for a place among them; it then gets EAGAIN.
	maxQueued = 256
	queueWait = time.Second
	// maxWaiting bounds the connects that wait for a full backlog or a slow answer; of
	// the descriptors that this process may have, they take a quarter at most.
	maxWaiting = 256
)

// Config says what is supervised. All of it is taken over.
type Config struct {
	// Listener is the descriptor of the seccomp filter. It notifies of connect, of
	// listen, of socketpair for unix datagrams, and of filters that notify.
	Listener int
	// Allowed are O_PATH descriptors of socket files outside that may be connected to.
	Allowed []int
	// OneUser says that nobody inside can be another user than this process, and that
	// this process must not use its rights over files: a user namespace of one user.
	OneUser bool
	// FilterRefused is called each time a program asks for a filter that notifies, before
	// it is refused with EBUSY: the kernel gives one. All calls wait until it returns.
	FilterRefused func()
	// Asker, where not nil, is asked what becomes of each connect over TCP that it is for,
	// in the network namespace of this process.
	Asker *capture.Asker
	// Fail ends the sandbox: without a supervisor nothing may run. It must not return.
	Fail func(error)
}

// Supervisor answers the notified calls of one sandbox, for as long as it lives.
type Supervisor struct {
	listener int
	table    *table
	proc     int // our /proc, opened before the command runs
	user     uint64
	network  uint64      // the namespace that Asker is for
	marked   atomic.Bool // a socket was held back once
	config   Config
	waiting  chan struct{} // holds a value for each connect that waits

	files   chan func(*hands)
	jobs    atomic.Int32 // of files: queued, or under way
	threads atomic.Int32 // for files
}

// Start begins to answer. The command must not run before it has returned.
func Start(config Config) (*Supervisor, error) {
	files, waits := bounds()
	s := &Supervisor{
		listener: config.Listener, table: newTable(files), config: config,
		files: make(chan func(*hands), maxQueued), waiting: make(chan struct{}, waits),
	}
	for _, fd := range config.Allowed {
		if err := s.table.add(fd, true); err != nil {
			return nil, fmt.Errorf("supervise: %w", err)
		}
	}
	var err error
	if s.proc, err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("supervise: open /proc: %w", err)
	}
	var own unix.Stat_t
	if err := unix.Fstatat(s.proc, "self/ns/user", &own, 0); err != nil {
		return nil, fmt.Errorf("supervise: our user namespace: %w", err)
	}
	s.user = own.Ino
	if config.Asker != nil {
		if s.network, err = capture.OwnNetwork(); err != nil {
			return nil, fmt.Errorf("supervise: our network namespace: %w", err)
		}
	}
	// Linux 6.6: the caller and this process take turns on one processor. Before it a
	// call costs some 40 µs more.
	ioctl(s.listener, unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, pointerOf(unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP))
	if err := s.begin(s.receive); err != nil {
		return nil, err
	}
	// One is always there, so that all others may fail to start. Where the system refuses
	// init a thread at all, as under a process limit that the command has used up, Go ends
	// init, and with it the sandbox.
	s.threads.Store(1)
	if err := s.begin(s.serveFiles); err != nil {
		return nil, err
	}
	return s, nil
}

// pointerOf is an ioctl's argument that is a number.
func pointerOf(value uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&value)) }

// begin runs work on a thread of its own.
func (s *Supervisor) begin(work func(*hands)) error {
	begun := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: no other goroutine may see its root
		h, err := newHands(s.proc, s.config.OneUser, s.config.Fail)
		begun <- err
		if err == nil {
			work(h)
		}
	}()
	return <-begun
}

// receive takes notifications; one thread does, for two would take turns.
func (s *Supervisor) receive(h *hands) {
	idle := false
	for {
		var n notification // the kernel wants zeros
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n)))
		switch errno {
		case 0:
			idle = false
			s.handle(h, &n)
		case unix.EINTR:
		case unix.ENOENT: // the caller died, or all did: then this comes at once each time
			if idle {
				time.Sleep(time.Millisecond)
			}
			idle = true
		default:
			s.config.Fail(fmt.Errorf("supervise: receive: %w", errno))
			return
		}
	}
}

func (s *Supervisor) serveFiles(h *hands) {
	for job := range s.files {
		job(h)
		s.jobs.Add(-1)
	}
}

// post hands a job to a thread for files; false says that none had the time.
func (s *Supervisor) post(job func(*hands)) bool {
	s.jobs.Add(1)
	s.addThread()
	select {
	case s.files <- job:
		return true
	default:
	}
	timer := time.NewTimer(queueWait)
	defer timer.Stop()
	select {
	case s.files <- job:
		return true
	case <-timer.C:
		s.jobs.Add(-1)
		return false
	}
}

// addThread starts one more thread for files where there are more jobs than threads: most
// commands never have two at once, and a thread takes memory for as long as it lives.
func (s *Supervisor) addThread() {
	for n := s.threads.Load(); n < fileThreads && n < s.jobs.Load(); n = s.threads.Load() {
		if !s.threads.CompareAndSwap(n, n+1) {
			continue
		}
		go func() {
			if s.begin(s.serveFiles) != nil {
				s.threads.Add(-1) // those that there are do the work
			}
		}()
		return
	}
}

// handle answers one notified call, or sees to it that somebody does.
func (s *Supervisor) handle(h *hands, n *notification) {
	switch n.number {
	case unix.SYS_CONNECT:
		s.connect(h, n)
	case unix.SYS_LISTEN:
		s.listen(h, n)
	case unix.SYS_SOCKETPAIR:
		s.answer(n, s.socketpair(n))
	case unix.SYS_SECCOMP:
		if s.config.FilterRefused != nil {
			s.config.FilterRefused()
		}
		s.answer(n, unix.EBUSY)
	default:
		s.answer(n, unix.ENOSYS) // the filter notifies of nothing else
	}
}

// listen notes the file on which a socket of the inside is about to listen, then
// lets the kernel go on: a descriptor that was changed by then is missing from the
// table, and no more. The listener's credentials stay its own.
func (s *Supervisor) listen(h *hands, n *notification) {
	c, errno := s.take(n)
	if errno == 0 {
		errno = s.learn(h, c)
		c.close()
	}
	if errno != 0 {
		s.answer(n, errno)
		return
	}
	s.proceed(n)
}

// siocUnixFile gives an O_PATH descriptor of the file that a unix socket is bound
// to, by the kernel's own word and not by a name. It needs NET_ADMIN.
const siocUnixFile = 0x89E0

func (s *Supervisor) learn(h *hands, c *call) unix.Errno {
	if c.family != unix.AF_UNIX {
		return 0
	}
	// What accept returned has the file of its listener. Handed in from outside, it
	// would name a file on which nobody inside listens.
	if _, err := unix.Getpeername(c.socket); err != unix.ENOTCONN {
		return 0 // and the kernel refuses to listen on it
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.socket), siocUnixFile, 0)
	if errno != 0 {
		return 0 // an abstract name, or none
	}
	if err := s.table.add(int(fd), false); errors.Is(err, errFull) {
		s.table.prune(h.listens)
		fd, _, errno = unix.Syscall(unix.SYS_IOCTL, uintptr(c.socket), siocUnixFile, 0)
		if errno != 0 || s.table.add(int(fd), false) != nil {
			return unix.ENOBUFS
		}
	}
	return 0
}
