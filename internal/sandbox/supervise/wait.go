package supervise

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
)

const (
	// A connect that has to wait is looked at again after firstPause; each pause is
	// twice as long as the one before, up to longestPause. Within that a signal or the
	// end of its caller is noticed too.
	firstPause   = 200 * time.Microsecond
	longestPause = 20 * time.Millisecond
	// sharedLooks is how often a signal for a whole process must be seen pending before
	// it is taken for one that none of its other threads takes.
	sharedLooks = 3

	// restart is the kernel's own: EINTR, or the call once more, as the handler wants.
	// It may only be answered while a signal waits for that very thread.
	restart = unix.Errno(512)
)

// perform makes the connect, and never blocks: the wait that a blocking socket asks
// for is a goroutine's.
func (s *Supervisor) perform(h *hands, c *call) {
	flags, errno := quick(unix.SYS_FCNTL, uintptr(c.socket), unix.F_GETFL, 0)
	if errno != 0 {
		s.end(c, errno)
		return
	}
	to, held := s.holdBack(c)
	if flags&unix.O_NONBLOCK != 0 {
		errno = h.connect(c)
		if held {
			s.begun(c, to, errno == unix.EINPROGRESS)
		}
		s.end(c, errno)
		return
	}
	if held && !s.takeTurn() { // who is held back waits
		setMark(c.socket, 0)
		held = false
	}
	errno = h.connectOnce(c, flags)
	var pending *capture.Pending
	if held {
		pending = s.begun(c, to, errno == unix.EAGAIN)
	}
	switch {
	case errno == unix.EAGAIN && (held || s.takeTurn()):
		go func() {
			errno, answered := s.wait(c, flags, pending)
			<-s.waiting
			if !answered {
				c.close()
				return
			}
			s.end(c, errno)
		}()
		return
	case held:
		<-s.waiting
	}
	s.end(c, errno)
}

// takeTurn takes a place among the connects that wait.
func (s *Supervisor) takeTurn() bool {
	select {
	case s.waiting <- struct{}{}:
		return true
	default:
		return false
	}
}

func (h *hands) connect(c *call) unix.Errno {
	return h.as(c.as, func() unix.Errno { return rawConnect(c.socket, c.address) })
}

// connectOnce makes the connect of a blocking socket, which is switched for the
// moment of the call. EAGAIN says that it would wait.
func (h *hands) connectOnce(c *call, flags int) unix.Errno {
	quick(unix.SYS_FCNTL, uintptr(c.socket), unix.F_SETFL, uintptr(flags|unix.O_NONBLOCK))
	errno := h.connect(c)
	quick(unix.SYS_FCNTL, uintptr(c.socket), unix.F_SETFL, uintptr(flags))
	if errno == unix.EINPROGRESS || errno == unix.EALREADY {
		return outcome(c.socket)
	}
	return errno
}

// outcome says how a connect over a network stands: EAGAIN while it is under way.
func outcome(socket int) unix.Errno {
	poll := unix.PollFd{Fd: int32(socket), Events: unix.POLLOUT}
	var now unix.Timespec
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	if errno != 0 || n == 0 {
		return unix.EAGAIN
	}
	value, errno := socketOption(socket, unix.SO_ERROR)
	if errno != 0 {
		return errno
	}
	return unix.Errno(value)
}

// wait looks again until the connect has an outcome, its time is over, a signal
// interrupts it, or its caller has gone: then nobody is to be answered. One that was held
// back is looked at as soon as it is not any more.
func (s *Supervisor) wait(c *call, flags int, pending *capture.Pending) (errno unix.Errno, answered bool) {
	var settled <-chan struct{}
	if pending != nil {
		settled = pending.Settled()
	}
	var limit time.Duration
	if timeout, err := unix.GetsockoptTimeval(c.socket, unix.SOL_SOCKET, unix.SO_SNDTIMEO); err == nil {
		limit = time.Duration(timeout.Nano())
	}
	begun, pause, shared := time.Now(), firstPause, 0
	for {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
			pause = min(2*pause, longestPause)
		case <-settled:
			timer.Stop()
			settled, pause = nil, firstPause
			if pending.TimedOut() {
				if !s.valid(&c.notification) {
					return 0, false
				}
				return timedOut(c.socket), true
			}
		}
		if !s.valid(&c.notification) {
			return 0, false
		}
		if errno := s.again(c, flags); errno != unix.EAGAIN {
			return errno, true
		}
		if limit > 0 && time.Since(begun) > limit {
			if c.family != unix.AF_UNIX {
				return unix.EINPROGRESS, true
			}
			return unix.EAGAIN, true
		}
		found := s.status(c.thread)
		switch {
		case found.pending != 0, found.shared != 0 && found.threads == 1:
			return restart, true
		case found.shared != 0:
			// Another thread may take it, and restart would then reach the program.
			if shared++; shared == sharedLooks {
				return unix.EINTR, true
			}
		default:
			shared = 0
		}
	}
}

// again asks a network socket for its outcome; a unix socket tries once more.
func (s *Supervisor) again(c *call, flags int) unix.Errno {
	if c.family != unix.AF_UNIX {
		return outcome(c.socket)
	}
	tried := make(chan unix.Errno, 1)
	if !s.post(func(h *hands) { tried <- h.connectOnce(c, flags) }) {
		return unix.EAGAIN
	}
	return <-tried
}
