package relay

import (
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"sluice.dev/sluice/internal/proxy/rawio"
)

// spliceAfter is how many bytes a direction must have moved before it is worth a
// pipe: until then each costs two copies, from then on none.
const spliceAfter = 128 << 10

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
	ended    bool // from has sent FIN
	failed   bool // nothing more may be read or written
	copyOnly bool // from or to cannot splice

	unwritten []byte // for writeBytes
	pipe      *pipe  // for drainPipe
	buffered  int    // bytes in pipe
	errno     syscall.Errno

	// The callbacks, made once: a method value is an allocation.
	readStep, writeStep, drainStep func(uintptr) bool
}

func (w *way) init(r *Relay, from Side) {
	w.relay, w.from, w.to = r, from, 1-from
	w.readStep, w.writeStep, w.drainStep = w.read, w.writeBytes, w.drainPipe
}

// run carries bytes until from has ended or the relay fails.
func (w *way) run() {
	err := w.relay.raw[w.from].Read(w.readStep)
	w.giveBackPipe()
	switch {
	case w.failed:
	case err != nil:
		w.relay.sideFailed(w.from, "read", err)
	case w.ended:
		// An error here means that to is gone; reading from it tells.
		w.conn(w.to).CloseWrite()
	}
}

// read moves all that there is. It returns false to wait for more.
func (w *way) read(fd uintptr) (done bool) {
	for {
		if w.shouldSplice() {
			return w.spliceAll(fd)
		}
		if more, done := w.copySome(fd); !more {
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
	w.unwritten = nil
	return w.written(err)
}

func (w *way) writeBytes(fd uintptr) (done bool) {
	for len(w.unwritten) > 0 {
		n, errno := rawio.Write(fd, w.unwritten)
		if errno == syscall.EAGAIN {
			return false
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

// written takes what came of a nested RawConn.Write.
func (w *way) written(err error) bool {
	if err == nil && w.errno != 0 {
		err = os.NewSyscallError("write", w.errno)
	}
	if err == nil && w.relay.failed.Load() != nil {
		w.failed = true // a fast sender must not keep an aborted relay alive
		return false
	}
	if err != nil {
		w.failed = true
		w.relay.sideFailed(w.to, "write", err)
		return false
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
