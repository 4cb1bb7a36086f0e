// Package loop serves the connections of one workload that need nobody to wait for them on
// one goroutine: it accepts, reads what a client says first, begins to connect and carries
// bytes, without a goroutine, timer or context for each. The root of the proxy opens one for
// each workload, and egress says what becomes of each connection. It never decides, never
// waits for anything but its sockets, and holds no bytes of a connection that is carried:
// whatever it cannot do at once is handed over to who can.
package loop

import (
	"cmp"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/proxy/poller"
	"sluice.dev/sluice/internal/proxy/rawio"
	"sluice.dev/sluice/internal/proxy/sniff"
)

// Bounds of a Loop.
const (
	// Tick is how long something is waited for, a client's first word or an upstream, before
	// the connection is handed over; it may take one more.
	Tick = 250 * time.Millisecond
	// SlowTick is how often connections are looked at that are carried, for the bound on idleness.
	SlowTick = time.Second
	// ShortestIdle is the shortest bound on idleness that a Loop keeps to.
	ShortestIdle = 8 * SlowTick
	// failedAccept is how long nothing is accepted after it failed: for want of descriptors.
	failedAccept = 50 * time.Millisecond
	// acceptMost is how many connections are accepted before others get their turn, and
	// readMost how many times a socket is read.
	acceptMost = 64
	readMost   = 4
	// yieldAfter is after how many events the goroutines that wait for the processor get
	// their turn: what the loop calls is not seen by the scheduler, which would interrupt it
	// after 10 ms only.
	yieldAfter = 256
)

// bufferSize is of what is read at a time: as much as a client's first word may be.
const bufferSize = sniff.FillMost

// Config is a Loop's.
type Config struct {
	// Listeners are accepted from; nobody else may. They are closed by their owner.
	Listeners []*net.TCPListener
	// Arrived takes a connection that was accepted from the listener of that number. It is
	// called on the loop's goroutine and must not block. Where it returns false nothing more is
	// accepted there until Resume.
	Arrived func(l *Loop, listener, fd int) bool
	// Failed, where not nil, is called where nothing could be accepted.
	Failed func(error)
	// Tick and SlowTick, where not 0, are in place of the constants.
	Tick, SlowTick time.Duration
}

// Loop is one event loop. Its methods but Add may be called by anybody.
type Loop struct {
	config  Config
	poller  *poller.Poller
	accepts []*listener

	// Of the goroutine.
	slots   []*conn
	free    []uint32
	waiting int // connections of which something is waited for
	again   []again
	buffer  [bufferSize]byte
	ticking [2]bool // timers run: of SlowTick, of Tick
	last    uint32  // generation
	taken   int     // events since others had their turn

	mu     sync.Mutex
	bell   int // an eventfd
	posted []func()
	closed bool
}

// again is a socket that was read often enough for one turn.
type again struct {
	c    *conn
	side int
}

type listener struct {
	loop   *Loop
	number int
	raw    syscall.RawConn
	paused bool
	accept func(uintptr)
}

// Open begins to accept from the listeners, until they are closed.
func Open(c Config) (*Loop, error) {
	l := &Loop{config: c}
	l.config.Tick, l.config.SlowTick = cmp.Or(c.Tick, Tick), cmp.Or(c.SlowTick, SlowTick)
	var err error
	if l.bell, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	if l.poller, err = poller.Open(l.take); err != nil {
		unix.Close(l.bell)
		return nil, err
	}
	err = l.poller.Watch(uintptr(l.bell), 0, unix.EPOLLIN|unix.EPOLLET)
	if err == nil {
		begun := make(chan error, 1)
		l.Post(func() { begun <- l.begin() }) // on the goroutine, whose all of it is from here on
		err = <-begun
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// begin begins to accept.
func (l *Loop) begin() error {
	for i, from := range l.config.Listeners {
		if err := l.listen(i, from); err != nil {
			return err
		}
	}
	for _, from := range l.accepts {
		l.acceptFrom(from) // what came before
	}
	return nil
}

// listen takes a listener. Each connection of it inherits its options.
func (l *Loop) listen(i int, from *net.TCPListener) error {
	raw, err := from.SyscallConn()
	if err != nil {
		return err
	}
	of := &listener{loop: l, number: i, raw: raw}
	of.accept = of.acceptAll
	l.accepts = append(l.accepts, of)
	failed := raw.Control(func(fd uintptr) {
		rawio.SetOption(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		rawio.KeepAlive(int(fd))
		err = l.poller.Watch(fd, uint64(1+i), unix.EPOLLIN|unix.EPOLLET)
	})
	return errors.Join(failed, err)
}

// Close ends the loop. It must not serve any connection, and its listeners must be closed,
// or accepted from by somebody else.
func (l *Loop) Close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	unix.Close(l.bell)
	l.mu.Unlock()
	l.poller.Close()
}

// Post has f done on the loop's goroutine, where it is not closed.
func (l *Loop) Post(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if l.posted = append(l.posted, f); len(l.posted) == 1 {
		one := [8]byte{1} // whatever it is: nobody reads it, and each write is an edge
		syscall.RawSyscall(syscall.SYS_WRITE, uintptr(l.bell), uintptr(unsafe.Pointer(&one)), uintptr(len(one)))
	}
}

// Resume goes on to accept from a listener.
func (l *Loop) Resume(listener int) {
	l.Post(func() {
		l.accepts[listener].paused = false
		l.acceptFrom(l.accepts[listener])
	})
}

// take takes an event of the poller.
func (l *Loop) take(id uint64, events uint32) {
	if l.taken++; l.taken == yieldAfter {
		l.taken = 0
		runtime.Gosched()
	}
	switch n := int(id); {
	case id == 0:
		l.doPosted()
	case n <= len(l.accepts):
		l.acceptFrom(l.accepts[n-1])
	default:
		if c, side := l.find(id); c != nil {
			c.take(side, events)
		}
	}
}

func (l *Loop) doPosted() {
	l.mu.Lock()
	todo := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, f := range todo {
		f()
	}
	rest := l.again
	l.again = nil
	for _, a := range rest {
		a.c.move(a.side) // one that is not served any more knows it
	}
}

// readAgain reads a socket again when all others have had their turn.
func (l *Loop) readAgain(c *conn, side int) {
	l.again = append(l.again, again{c, side})
	if len(l.again) == 1 {
		l.Post(func() {})
	}
}

func (l *Loop) acceptFrom(from *listener) {
	if !from.paused {
		from.raw.Control(from.accept) // the error says that it is closed
	}
}

// acceptAll accepts until there is none: what comes then is an edge of the poller.
func (from *listener) acceptAll(fd uintptr) {
	l := from.loop
	for range acceptMost {
		accepted, errno := rawio.Accept(fd)
		switch errno {
		case 0:
			if !l.config.Arrived(l, from.number, accepted) {
				from.paused = true
				return
			}
		case syscall.EAGAIN:
			return
		case syscall.ECONNABORTED: // that one is gone
		default:
			if l.config.Failed != nil {
				l.config.Failed(os.NewSyscallError("accept", errno))
			}
			from.paused = true
			time.AfterFunc(failedAccept, func() { l.Resume(from.number) })
			return
		}
	}
	l.Post(func() { l.acceptFrom(from) })
}
