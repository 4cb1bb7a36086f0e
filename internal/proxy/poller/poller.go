// Package poller waits for many sockets on one goroutine: an epoll instance that is
// itself a file of the runtime's poller, so that no thread blocks for it. http1 waits by
// it for idle clients, relay for resets that nobody reads, and loop for all of its
// connections. It never reads, writes or
// closes what it waits for.
package poller

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Poller is one epoll instance. It is safe for concurrent use.
type Poller struct {
	file   *os.File
	raw    syscall.RawConn
	take   func(id uint64, events uint32)
	events [batch]unix.EpollEvent // of the poller's goroutine
}

// batch is how many events are asked for at a time.
const batch = 64

// Open makes a Poller that hands each event to take, one after the other on a goroutine
// of its own, until Close. take must not block, and must not call Close: that waits for
// it.
func Open(take func(id uint64, events uint32)) (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else the runtime would not poll it
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &Poller{file: os.NewFile(uintptr(fd), "epoll"), take: take}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		p.file.Close()
		return nil, err
	}
	go p.raw.Read(p.step) // until Close
	return p, nil
}

// Close ends the waiting and returns when take is not called any more.
func (p *Poller) Close() { p.file.Close() }

// Watch asks for events of a socket, under an id of the caller's. The kernel watches it
// until it is closed. What is watched already is watched anew.
func (p *Poller) Watch(fd uintptr, id uint64, events uint32) error {
	errno := p.control(unix.EPOLL_CTL_ADD, fd, id, events)
	if errno == unix.EEXIST {
		errno = p.control(unix.EPOLL_CTL_MOD, fd, id, events)
	}
	return problem(errno)
}

// Again asks anew for events of a socket that is watched.
func (p *Poller) Again(fd uintptr, id uint64, events uint32) error {
	return problem(p.control(unix.EPOLL_CTL_MOD, fd, id, events))
}

// Forget ends the watching of a socket that somebody else goes on with.
func (p *Poller) Forget(fd uintptr) error {
	return problem(p.control(unix.EPOLL_CTL_DEL, fd, 0, 0))
}

func problem(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return os.NewSyscallError("epoll_ctl", errno)
}

func (p *Poller) control(op int, fd uintptr, id uint64, events uint32) (errno syscall.Errno) {
	event := unix.EpollEvent{Events: events, Fd: int32(id), Pad: int32(id >> 32)}
	err := p.raw.Control(func(epoll uintptr) {
		_, _, errno = syscall.RawSyscall6(unix.SYS_EPOLL_CTL, epoll, uintptr(op), fd, uintptr(unsafe.Pointer(&event)), 0, 0)
	})
	if err != nil { // it is closed
		return syscall.EBADF
	}
	return errno
}

// step takes all events that are there. It returns false to wait for more.
func (p *Poller) step(epoll uintptr) (done bool) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, epoll, uintptr(unsafe.Pointer(&p.events[0])), batch, 0, 0, 0)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			return true
		}
		for i := range p.events[:n] {
			e := &p.events[i]
			p.take(uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32, e.Events)
		}
		if n < batch { // what comes from now on is an edge of its own
			return false
		}
	}
}
