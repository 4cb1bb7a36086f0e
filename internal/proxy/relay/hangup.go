package relay

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// hangups tells relays that a socket was reset from which nobody reads at the moment:
// the direction waits until the other side takes what was read before, for hours if it
// likes. The runtime's poller signals such a reset to whoever waits for that socket, and
// there is nobody. So the sockets of directions that had to wait are in an epoll instance
// of our own, which asks for nothing but errors; it is itself a file of the runtime's
// poller, and costs one goroutine for all relays. The zero value is ready.
type hangups struct {
	mu     sync.Mutex
	epoll  *os.File // nil until the first direction waits
	last   uint64
	ways   map[uint64]*way // by what the kernel was given for them
	closed bool
}

// watch lets the way hear of a reset of the socket that it reads from, which is fd. The
// kernel watches the socket until it is closed.
func (h *hangups) watch(w *way, fd uintptr) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.open(); err != nil {
		return err
	}
	h.last++
	id := h.last
	h.ways[id], w.watched = w, id
	var err error
	h.control(func(epoll int) {
		event := unix.EpollEvent{Events: unix.EPOLLET, Fd: int32(id), Pad: int32(id >> 32)}
		if err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, int(fd), &event); err == unix.EEXIST { // from before forget
			err = unix.EpollCtl(epoll, unix.EPOLL_CTL_MOD, int(fd), &event)
		}
	})
	return os.NewSyscallError("epoll_ctl", err)
}

// forget ends what watch began: once it returns no reset fails the way's relay any more.
// The way may be watched again.
func (h *hangups) forget(w *way) {
	if w.watched == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.ways, w.watched)
	w.watched = 0
}

// open makes the epoll instance. The lock is held.
func (h *hangups) open() error {
	switch {
	case h.closed:
		return os.ErrClosed
	case h.epoll != nil:
		return nil
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else the runtime would not poll it
		unix.Close(fd)
		return os.NewSyscallError("fcntl", err)
	}
	epoll := os.NewFile(uintptr(fd), "epoll")
	raw, err := epoll.SyscallConn()
	if err != nil {
		epoll.Close()
		return err
	}
	h.epoll, h.ways = epoll, make(map[uint64]*way)
	go raw.Read(h.take) // until close
	return nil
}

func (h *hangups) control(do func(epoll int)) {
	if raw, err := h.epoll.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { do(int(fd)) })
	}
}

// take fails the relays whose sockets were reset. Only an error counts: a socket that was
// shut both ways in order hangs up too, and what was read from it may still be on its way.
func (h *hangups) take(epoll uintptr) (done bool) {
	var events [64]unix.EpollEvent
	for {
		n, err := unix.EpollWait(int(epoll), events[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return err != nil
		}
		for _, e := range events[:n] {
			if e.Events&unix.EPOLLERR == 0 {
				continue
			}
			h.mu.Lock()
			if w := h.ways[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]; w != nil {
				// Which error it is stays in the socket: whoever took it out would leave
				// an end of file to a reader. The lock is held, for forget to wait.
				w.relay.sideFailed(w.from, "read", os.NewSyscallError("poll", syscall.ECONNRESET))
			}
			h.mu.Unlock()
		}
	}
}

// close ends the watching. Closing the instance waits for take, which wants the lock; and
// nobody uses it once closed is set.
func (h *hangups) close() {
	h.mu.Lock()
	h.closed = true
	epoll := h.epoll
	h.mu.Unlock()
	if epoll != nil {
		epoll.Close()
	}
}
