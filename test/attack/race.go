package attack

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// races are what is changed while the kernel, or somebody in the caller's place, looks
// at a connect.
var races = []struct{ id, what string }{
	{"address", "the address in memory"},
	{"family", "the descriptor and the family of the address"},
	{"link", "a link on the path"},
	{"descriptor", "what the descriptor is"},
}

// How often each is tried: on a machine on which that takes longer than patience, as in an
// emulated one, less often. Without a sandbox it ends with the first that gets through.
const (
	rounds      = 1000
	leastRounds = 100
	roundsBare  = 1_000_000
)

// race connects to one of its own sockets and to one outside, and another thread makes
// the one out of the other.
func (in *Inside) race(mode int) error {
	mine := filepath.Join(in.Own, "mine")
	unixListener, err := net.Listen("unix", mine)
	if err != nil {
		return err
	}
	defer unixListener.Close()
	tcpListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer tcpListener.Close()
	for _, listener := range []net.Listener{unixListener, tcpListener} {
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				conn.Write([]byte("mine"))
				conn.Close()
			}
		}()
	}
	r := race{mode: mode, fd: 700, outside: filepath.Join(in.Folder, "sockets/absolute"), mine: mine,
		link: filepath.Join(in.Own, "link"), port: tcpListener.Addr().(*net.TCPAddr).Port}
	if in.Bare {
		return held(r.run(roundsBare, roundsBare))
	}
	return held(r.run(leastRounds, rounds))
}

type race struct {
	mode, fd, port      int
	outside, mine, link string
	address             [110]byte
	changes             atomic.Int32
	stop                atomic.Bool
}

func (r *race) put(family uint16, rest []byte) {
	r.address = [110]byte{byte(family)}
	copy(r.address[2:], rest)
}

func (r *race) putPath(path string) { r.put(unix.AF_UNIX, append([]byte(path), 0)) }

func (r *race) putTCP() { r.put(unix.AF_INET, []byte{byte(r.port >> 8), byte(r.port), 127, 0, 0, 1}) }

// change goes on with it until it is stopped.
func (r *race) change() {
	tcp, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	fresh := func() int { fd, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); return fd }
	relink := func(to string) { os.Symlink(to, r.link+".new"); os.Rename(r.link+".new", r.link) }
	for !r.stop.Load() {
		switch r.mode {
		case 0:
			r.putPath(r.outside)
			r.putPath(r.mine)
		case 1:
			r.putTCP()
			unix.Dup2(tcp, r.fd)
			r.putPath(r.outside)
			fd := fresh()
			unix.Dup2(fd, r.fd)
			unix.Close(fd)
		case 2:
			relink(r.outside)
			relink(r.mine)
		case 3:
			unix.Close(r.fd)
			fd := fresh()
			unix.Dup2(fd, r.fd)
			unix.Close(fd)
		}
		r.changes.Add(1)
	}
	unix.Close(tcp)
}

// run makes at least so many rounds, and at most; whether the outside was reached is seen there.
func (r *race) run(least, most int) (said string) {
	os.Symlink(r.mine, r.link)
	done := make(chan struct{})
	go func() { defer close(done); r.change() }()
	counts := map[string]int{}
	for r.changes.Load() == 0 {
		runtime.Gosched()
	}
	made, began := 0, time.Now()
	for made < most && counts["outside"] == 0 && (made < least || time.Since(began) < patience) {
		made++
		if r.mode != 1 {
			fd, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			unix.Dup2(fd, r.fd)
			unix.Close(fd)
		}
		switch r.mode {
		case 2:
			r.putPath(r.link)
		case 3:
			r.putPath(r.outside)
		}
		unix.SetsockoptTimeval(r.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20000})
		_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(r.fd), uintptr(unsafe.Pointer(&r.address)), 110)
		if errno != 0 {
			counts[errno.Error()]++
			continue
		}
		unix.Write(r.fd, []byte("hello"))
		answer := make([]byte, 16)
		n, _ := unix.Read(r.fd, answer)
		said := string(answer[:max(n, 0)])
		if strings.HasPrefix(said, "HTTP/") {
			said = "outside"
		}
		counts[said]++
	}
	r.stop.Store(true)
	<-done
	unix.Close(r.fd)
	return fmt.Sprintf("of %d connects: %v", made, counts)
}
