package relay

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// spliceMost is how many bytes are moved at a time. Others wait for so long: see splice.
const spliceMost = 256 << 10

const spliceFlags = unix.SPLICE_F_NONBLOCK | unix.SPLICE_F_MOVE

// shouldSplice reports whether the way has moved enough to be worth a pipe, and
// has one. All pipes being in use, it goes on copying.
func (w *way) shouldSplice() bool {
	if w.copyOnly || w.moved.Load() < spliceAfter {
		return false
	}
	if w.pipe == nil {
		w.takePipe()
	}
	return w.pipe != nil
}

// spliceAll moves all that there is through a pipe, without copying it to user
// space; more and done are those of copySome. The pipe is empty between two fillings, so
// that EAGAIN means that the socket is, or has come to urgent data: splice stops before
// it, also where it stays in the stream, and tells it neither from emptiness nor from the
// end. A read does, and takes it along.
func (w *way) spliceAll(fd uintptr) (more, done bool) {
	for {
		n, errno := splice(fd, uintptr(w.pipe.write), min(w.pipe.size, spliceMost))
		switch {
		case errno == syscall.EAGAIN || errno == 0 && n == 0:
			w.giveBackPipe() // an idle connection holds none
			return w.copySome(fd)
		case errno == syscall.EINVAL || errno == syscall.ENOSYS:
			w.copyOnly = true // e.g. a socket with TLS of the kernel
			w.giveBackPipe()
			return true, false
		case errno != 0:
			w.failRead(errno)
			return false, true
		}
		w.buffered = n
		if !w.drain() {
			return false, true
		}
	}
}

// drain writes what the pipe holds, waiting for room where there is none, and reports
// whether to go on.
func (w *way) drain() bool {
	w.errno = 0
	return w.written(w.relay.raw[w.to].Write(w.drainStep))
}

func (w *way) drainPipe(fd uintptr) (done bool) {
	for w.buffered > 0 {
		n, errno := splice(uintptr(w.pipe.read), fd, w.buffered)
		if errno == syscall.EAGAIN {
			return w.wait()
		}
		if errno != 0 {
			w.errno = errno
			return true
		}
		w.buffered -= n
		w.moved.Add(int64(n))
	}
	return true
}

// takePipe takes a pipe where there is one that the workload may have.
func (w *way) takePipe() {
	of := w.relay.config.Pipes
	if of != nil && !of.Try(1) {
		return
	}
	if w.pipe = w.relay.config.Memory.pipe(); w.pipe == nil && of != nil {
		of.Give(1)
	}
}

// giveBackPipe gives the pipe to the next relay; one that still holds bytes of
// this connection is closed instead.
func (w *way) giveBackPipe() {
	if w.pipe == nil {
		return
	}
	if w.buffered > 0 {
		w.relay.config.Memory.discardPipe(w.pipe)
	} else {
		w.relay.config.Memory.giveBackPipe(w.pipe)
	}
	if of := w.relay.config.Pipes; of != nil {
		of.Give(1)
	}
	w.pipe = nil
}

// splice moves at most n bytes. One side is a pipe and both are non-blocking, so it never
// waits; the scheduler does not learn of it, for who tells it wakes the thread that watches
// for long calls, and that costs more than the bytes.
func splice(from, to uintptr, n int) (int, syscall.Errno) {
	for {
		moved, _, errno := syscall.RawSyscall6(unix.SYS_SPLICE, from, 0, to, 0, uintptr(n), spliceFlags)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(moved), 0
	}
}

// pipe is a kernel pipe that socket buffers travel through.
type pipe struct {
	read, write int
	size        int // bytes that it may hold
}

func newPipe(size int) (*pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	p := &pipe{read: fds[0], write: fds[1]}
	// Past /proc/sys/fs/pipe-user-pages-soft an ordinary user's pipes stay small:
	// then the copying buffer is as good, and the pipe is not worth its place.
	got, err := unix.FcntlInt(uintptr(p.write), unix.F_SETPIPE_SZ, size)
	if err != nil {
		p.close()
		return nil, os.NewSyscallError("fcntl F_SETPIPE_SZ", err)
	}
	p.size = got
	return p, nil
}

func (p *pipe) close() {
	unix.Close(p.read)
	unix.Close(p.write)
}
