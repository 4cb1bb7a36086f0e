package sandbox

import (
	"encoding/binary"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture/seqpacket"
)

// openWatch is init's watch of the placeholders: each is told of once, when it is opened
// for the first time. Who opened it the kernel does not say.
type openWatch struct {
	file   *os.File // inotify
	mu     sync.Mutex
	paths  map[int32]string // by the number of the watch; those that were told of are gone
	failed string           // why openings are not noticed, as a sentence; "" where they are
	tell   func(path string)
}

// watchPlaceholders begins to watch, before anybody can open one.
func watchPlaceholders(found []*placeholder) *openWatch {
	w := &openWatch{paths: make(map[int32]string, len(found))}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	for _, p := range found {
		if err != nil || p.Quiet {
			continue
		}
		var number int
		number, err = unix.InotifyAddWatch(fd, p.made, unix.IN_OPEN|unix.IN_ONESHOT)
		if err == unix.EACCES { // who may not read the original does not open this one either
			err = nil
			continue
		}
		w.paths[int32(number)] = p.Path
	}
	if err != nil { // what is hidden is so all the same
		w.failed = "the opening of hidden files is not noticed: the user's inotify instances or watches are used up (" + err.Error() + ")"
		unix.Close(fd)
		return w
	}
	w.file = os.NewFile(uintptr(fd), "inotify")
	leaveToKernel(fd)
	return w
}

// leaveToKernel lets a thread of the kernel close the descriptor for the last time. That
// of an inotify instance waits some 10 ms for other processors (SRCU), and who ends with it
// open is not gone before. A message that holds the descriptor, and both ends of the
// pair in which it waits, is garbage once we are gone: unix(7) sockets collect that by
// a worker (Linux 6.9; earlier the last of us waits).
func leaveToKernel(fd int) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	if unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(fd, pair[0], pair[1]), nil, 0) != nil {
		unix.Close(pair[0])
		unix.Close(pair[1])
	}
}

// run tells of openings over the channel until the sandbox ends; call it once the
// command has begun.
func (w *openWatch) run(control *net.UnixConn) {
	if w == nil || w.file == nil {
		return
	}
	w.tell = func(path string) {
		seqpacket.Send(control, note{Opened: &opened{Path: path, Time: time.Now()}}) // an error says that it is gone
	}
	raw, err := w.file.SyscallConn()
	if err != nil {
		return
	}
	go raw.Read(func(fd uintptr) bool {
		w.collect(int(fd))
		return false // wait for the next
	})
}

// finish tells of what was opened until now.
func (w *openWatch) finish() {
	if w == nil || w.file == nil || w.tell == nil {
		return
	}
	if raw, err := w.file.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { w.collect(int(fd)) })
	}
}

// collect reads all events that wait.
func (w *openWatch) collect(fd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	buffer := make([]byte, 4096) // holds 15 events with the longest name at least
	for {
		n, err := unix.Read(fd, buffer)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		for event := buffer[:n]; len(event) >= unix.SizeofInotifyEvent; {
			number := int32(binary.NativeEndian.Uint32(event))
			length := int(binary.NativeEndian.Uint32(event[12:]))
			if path, ok := w.paths[number]; ok && binary.NativeEndian.Uint32(event[4:])&unix.IN_OPEN != 0 {
				delete(w.paths, number)
				w.tell(path)
			}
			event = event[min(len(event), unix.SizeofInotifyEvent+length):]
		}
	}
}

// Opened is a hidden file or folder that the command opened.
type Opened struct {
	Path string // as Hidden has it
	Time time.Time
}

// openings are what was opened, as our side of the channel keeps it.
type openings struct {
	changed chan struct{} // holds one value while nobody looked
	mu      sync.Mutex
	waiting []Opened
	told    map[string]bool
}

// add keeps each path once.
func (o *openings) add(path string, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.told[path] || len(o.told) >= MaxHidden {
		return
	}
	if o.told == nil {
		o.told = make(map[string]bool)
	}
	o.told[path] = true
	o.waiting = append(o.waiting, Opened{Path: path, Time: at})
	wake(o.changed)
}

// HiddenOpened receives when the command opened something that is hidden.
func (s *Sandbox) HiddenOpened() <-chan struct{} { return s.opened.changed }

// TakeOpened returns what was opened since the last call, each path once.
func (s *Sandbox) TakeOpened() []Opened {
	s.opened.mu.Lock()
	defer s.opened.mu.Unlock()
	taken := s.opened.waiting
	s.opened.waiting = nil
	return taken
}
