package relay

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/proxy/poller"
)

// hangups tells relays that a socket was reset from which nobody reads at the moment:
// the direction waits until the other side takes what was read before, for hours if it
// likes. The runtime's poller signals such a reset to whoever waits for that socket, and
// there is nobody. So the sockets of directions that had to wait are in an epoll instance
// of our own, which asks for nothing but errors; it is itself a file of the runtime's
// poller, and costs one goroutine for all relays. The zero value is ready.
type hangups struct {
	mu     sync.Mutex
	poller *poller.Poller // nil until the first direction waits
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
	h.ways[h.last], w.watched = w, h.last
	return h.poller.Watch(fd, h.last, unix.EPOLLET)
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

// open makes the poller. The lock is held.
func (h *hangups) open() (err error) {
	switch {
	case h.closed:
		return os.ErrClosed
	case h.poller == nil:
		h.ways = make(map[uint64]*way)
		h.poller, err = poller.Open(h.take)
	}
	return err
}

// take fails the relay whose socket was reset. Only an error counts: a socket that was
// shut both ways in order hangs up too, and what was read from it may still be on its way.
func (h *hangups) take(id uint64, events uint32) {
	if events&unix.EPOLLERR == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if w := h.ways[id]; w != nil {
		// Which error it is stays in the socket: whoever took it out would leave an end of
		// file to a reader. The lock is held, for forget to wait.
		w.relay.sideFailed(w.from, "read", os.NewSyscallError("poll", syscall.ECONNRESET))
	}
}

// close ends the watching. Closing the poller waits for take, which wants the lock; and
// nobody uses it once closed is set.
func (h *hangups) close() {
	h.mu.Lock()
	h.closed = true
	of := h.poller
	h.mu.Unlock()
	if of != nil {
		of.Close()
	}
}
