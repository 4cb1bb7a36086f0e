package relay

import (
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// A stream that runs wakes its reader for each few segments, and the wake-ups cost more
// than the bytes. So a socket from which a stream comes is marked: the kernel wakes us
// only for lowMark bytes, for an end or for a failure. A stream that stalls is unmarked
// within two looks, so that no last byte waits for longer.
const (
	// lowMark is how many bytes a marked socket waits for (SO_RCVLOWAT). Where its buffer
	// cannot hold so many, the kernel takes less.
	lowMark = 256 << 10
	// runsAfter is how many bytes must have moved one way, and none the other way, before
	// the stream is marked: an answer that is followed by a question does not wait.
	runsAfter = 512 << 10
	// goesOnAfter is how many bytes are enough where the stream was marked before and
	// nothing came the other way.
	goesOnAfter = 64 << 10
	// lookEvery is how often marked ways are looked at, while there are any.
	lookEvery = time.Millisecond
)

// marks are the ways whose sockets are marked. One goroutine looks at them all; there is
// none while no stream runs. How many stay marked is bounded by the bytes that move: lowMark
// for each within two looks. The zero value is ready.
type marks struct {
	mu     sync.Mutex
	marked map[*way]int64 // and what had moved at the last look
	looks  bool
	wait   func() // for the next look; lookEvery where nil
}

// rest is called inside the callback of the way, when from has nothing left.
func (w *way) rest(fd uintptr) {
	moved := w.moved.Load()
	if answered := w.relay.ways[w.to].moved.Load(); answered != w.answered {
		w.answered = answered
		w.runsFrom.Store(moved)
		return
	}
	if moved-w.runsFrom.Load() >= runsAfter && !w.marked.Load() {
		w.relay.config.Memory.marks.mark(w, fd, moved)
	}
}

func (m *marks) mark(w *way, fd uintptr, moved int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.marked.Store(true)
	setLowMark(fd, lowMark)
	if m.marked == nil {
		m.marked = make(map[*way]int64)
	}
	m.marked[w] = moved
	if !m.looks {
		m.looks = true
		go m.look()
	}
}

// look unmarks what has not moved since the look before, until nothing is marked.
func (m *marks) look() {
	for more := true; more; {
		if m.wait != nil {
			m.wait()
		} else {
			time.Sleep(lookEvery)
		}
		more = m.lookOnce()
	}
}

func (m *marks) lookOnce() (more bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for w, before := range m.marked {
		if moved := w.moved.Load(); moved != before {
			m.marked[w] = moved
			continue
		}
		w.runsFrom.Store(before + goesOnAfter - runsAfter)
		m.unmark(w)
	}
	m.looks = len(m.marked) > 0
	return m.looks
}

// unmark lets the kernel wake the way for each byte, at once where some wait already. The
// lock is held.
func (m *marks) unmark(w *way) {
	delete(m.marked, w)
	w.relay.raw[w.from].Control(clearLowMark) // the error says that it is closed
	w.marked.Store(false)                     // the last, for forget
}

// forget unmarks a way that has stopped: its socket may be somebody else's soon.
func (m *marks) forget(w *way) {
	if !w.marked.Load() { // none marks it any more, and whoever unmarked it has done with it
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.marked.Load() {
		m.unmark(w)
	}
}

func clearLowMark(fd uintptr) { setLowMark(fd, 1) }

// setLowMark does without the scheduler, as the way does in the callback. A kernel without
// the option wakes for each byte.
func setLowMark(fd uintptr, n int32) {
	syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, fd, syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, uintptr(unsafe.Pointer(&n)), 4, 0)
}
