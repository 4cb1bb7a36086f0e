package relay

import (
	"bytes"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"

	"sluice.dev/sluice/internal/proxy/rawio"
)

const (
	// spliceAfter is how many bytes a direction must have moved before it is worth a
	// pipe: until then each costs two copies, from then on none.
	spliceAfter = 128 << 10
	// yieldAfter is how many bytes a direction moves before others get their turn: what it
	// calls is not seen by the scheduler, which would interrupt it after 10 ms only.
	yieldAfter = 1 << 20
)

// way is one direction: from one side's socket to the other's.
//
// It lives inside one RawConn.Read, whose callback reads until the socket has
// nothing left (EAGAIN), never less: bytes and FIN that arrive together make one
// edge of the poller, and who stops at a short read waits for ever for the next.
// Writing is a nested RawConn.Write on the other socket, so that its descriptor
// cannot be closed and reused under it.
type way struct {
	relay    *Relay
	from, to Side
	moved    atomic.Int64
	ended    bool   // from has sent FIN
	failed   bool   // nothing more may be read or written
	paused   bool   // it stopped where it was, for Relay.Pause
	copyOnly bool   // from or to cannot splice
	watched  uint64 // by hangups; 0: not yet
	yielded  int64  // what had moved when others had their turn last

	marked   atomic.Bool  // by marks
	runsFrom atomic.Int64 // what had moved when the stream began that runs now
	answered int64        // what had moved the other way by then

	unwritten []byte // for writeBytes
	left      []byte // what a pause kept from being written
	pipe      *pipe  // for drainPipe
	buffered  int    // bytes in pipe
	errno     syscall.Errno

	// The callbacks, made once: a method value is an allocation.
	readStep, writeStep, drainStep func(uintptr) bool
}

func (w *way) init(r *Relay, from Side) {
	w.relay, w.from, w.to = r, from, 1-from
	begun := &r.config.Begun[from]
	w.moved.Store(begun.Moved)
	w.left, w.ended = begun.Left, begun.Ended
	w.readStep, w.writeStep, w.drainStep = w.read, w.writeBytes, w.drainPipe
}

// run carries bytes until from has ended, the relay fails or is paused. It goes on where
// a pause has stopped it.
func (w *way) run() {
	w.paused = false
	var err error
	if w.writeLeft() && !w.ended {
		err = w.relay.raw[w.from].Read(w.readStep)
	}
	if w.buffered == 0 || w.failed {
		w.giveBackPipe()
	}
	w.relay.config.Memory.marks.forget(w)
	switch {
	case w.failed, w.paused:
	case err != nil && w.relay.pause(err):
		w.paused = true
	case err != nil:
		w.relay.sideFailed(w.from, "read", err)
	case w.ended:
		// An error here means that to is gone; reading from it tells.
		w.conn(w.to).CloseWrite()
	}
}

// writeLeft writes what the last pause kept from being written, and reports whether it
// could.
func (w *way) writeLeft() bool {
	left := w.left
	w.left = nil
	switch {
	case len(left) > 0:
		return w.write(left)
	case w.buffered > 0:
		return w.drain()
	}
	return true
}

// read moves all that there is. It returns false to wait for more.
func (w *way) read(fd uintptr) (done bool) {
	for {
		move := w.copySome
		if w.shouldSplice() {
			move = w.spliceAll
		}
		if more, done := move(fd); !more {
			return done
		}
	}
}

// copySome moves bytes through a buffer until there are none (then done says
// whether from has ended), or until enough were moved for a pipe. The buffer is
// given back before a pipe takes its place.
func (w *way) copySome(fd uintptr) (more, done bool) {
	buffer := w.relay.config.Memory.buffer()
	defer w.relay.config.Memory.giveBackBuffer(buffer)
	for {
		n, errno := rawio.Read(fd, buffer[:])
		switch {
		case errno == syscall.EAGAIN:
			w.rest(fd)
			return false, false
		case errno != 0:
			w.failRead(errno)
			return false, true
		case n == 0:
			w.ended = true
			return false, true
		}
		if !w.write(buffer[:n]) {
			return false, true
		}
		if w.shouldSplice() {
			return true, false
		}
	}
}

// write writes all of b, waiting for room where there is none, and reports
// whether it could.
func (w *way) write(b []byte) bool {
	w.unwritten, w.errno = b, 0
	err := w.relay.raw[w.to].Write(w.writeStep)
	written := w.written(err)
	if w.paused {
		w.left = bytes.Clone(w.unwritten) // b is somebody else's soon
	}
	w.unwritten = nil
	return written
}

func (w *way) writeBytes(fd uintptr) (done bool) {
	for len(w.unwritten) > 0 {
		n, errno := rawio.Write(fd, w.unwritten)
		if errno == syscall.EAGAIN {
			return w.wait()
		}
		if errno != 0 {
			w.errno = errno
			return true
		}
		w.unwritten = w.unwritten[n:]
		w.moved.Add(int64(n))
	}
	return true
}

// wait is called before the way waits for room in a socket. Nobody reads from the other
// one until then: a reset of it is heard of in another way.
func (w *way) wait() (done bool) {
	if w.watched == 0 {
		// Without it the reset is noticed when there is room, or when nothing moved for
		// too long: a process that can open nothing more has greater worries.
		w.relay.raw[w.from].Control(func(fd uintptr) { w.relay.config.Memory.hangups.watch(w, fd) })
	}
	return false
}

// written takes what came of a nested RawConn.Write, and reports whether to go on.
func (w *way) written(err error) bool {
	if err == nil && w.errno != 0 {
		err = os.NewSyscallError("write", w.errno)
	}
	if err == nil && w.relay.failed.Load() != nil {
		w.failed = true // a fast sender must not keep an aborted relay alive
		return false
	}
	if w.relay.pause(err) {
		w.paused = true
		return false
	}
	if err != nil {
		w.failed = true
		w.relay.sideFailed(w.to, "write", err)
		return false
	}
	if moved := w.moved.Load(); moved-w.yielded >= yieldAfter {
		w.yielded = moved
		runtime.Gosched()
	}
	return true
}

func (w *way) failRead(errno syscall.Errno) {
	w.failed = true
	w.relay.sideFailed(w.from, "read", os.NewSyscallError("read", errno))
}

func (w *way) conn(side Side) *net.TCPConn {
	if side == Downstream {
		return w.relay.config.Down
	}
	return w.relay.config.Up
}
