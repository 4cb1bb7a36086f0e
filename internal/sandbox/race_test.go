package sandbox

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The command cannot make the kernel look at something else than was looked at.
func TestNothingThatChangesDuringAConnectReachesASocketOutside(t *testing.T) {
	o := newOutside(t)
	o.listen(t, unix.SOCK_STREAM, o.path("s"))
	rounds := "2000"
	if testing.Short() || os.Getenv("CI") == "true" {
		rounds = "200"
	}
	output, exit, _ := inside(t, "race", o.path("s"), rounds)
	if exit != 0 || strings.Contains(output, "outside") || !strings.Contains(output, "mode 3") || o.reached.Load() != 0 {
		t.Errorf("exit %d, reached %d times\n%s", exit, o.reached.Load(), output)
	}
}

// raceRole connects again and again while another thread changes the address in
// memory, the descriptor and its family, a link on the path, or the descriptor alone.
func raceRole(args []string) int {
	path := args[0]
	rounds, _ := strconv.Atoi(args[1])
	own, err := os.MkdirTemp("", "race-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(own)
	mine := filepath.Join(own, "mine")
	unixListener, err := net.Listen("unix", mine)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	tcpListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, listener := range []net.Listener{unixListener, tcpListener} {
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				conn.Write([]byte("inside"))
				conn.Close()
			}
		}()
	}
	port := tcpListener.Addr().(*net.TCPAddr).Port
	for mode := range 4 {
		r := race{mode: mode, fd: 700, outside: path, mine: mine, link: filepath.Join(own, "link"), port: port}
		fmt.Println("mode", mode, r.run(rounds))
	}
	return 0
}

type race struct {
	mode, fd, port      int
	outside, mine, link string
	address             [110]byte
	stop                atomic.Bool
}

func (r *race) put(family uint16, rest []byte) {
	r.address = [110]byte{byte(family)}
	copy(r.address[2:], rest)
}

func (r *race) putPath(path string) { r.put(unix.AF_UNIX, append([]byte(path), 0)) }

func (r *race) putTCP() { r.put(unix.AF_INET, []byte{byte(r.port >> 8), byte(r.port), 127, 0, 0, 1}) }

func (r *race) flip() {
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
	}
	unix.Close(tcp)
}

func (r *race) run(rounds int) (said string) {
	os.Symlink(r.mine, r.link)
	defer os.Remove(r.link)
	done := make(chan struct{})
	go func() { defer close(done); r.flip() }()
	counts := map[string]int{}
	for range rounds {
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
		unix.SetsockoptTimeval(r.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100000})
		_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(r.fd), uintptr(unsafe.Pointer(&r.address)), 110)
		if errno != 0 {
			counts["refused"]++
			continue
		}
		answer := make([]byte, 16)
		n, _ := unix.Read(r.fd, answer)
		counts[string(answer[:max(n, 0)])]++
	}
	r.stop.Store(true)
	<-done
	unix.Close(r.fd)
	return fmt.Sprint(counts)
}
