package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// outside are sockets that the machine has, and how often somebody came to one.
type outside struct {
	folder  string
	reached atomic.Int32
}

func newOutside(t testing.TB) *outside {
	t.Helper()
	folder, err := os.MkdirTemp("", "outside-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	return &outside{folder: folder}
}

func (o *outside) path(name string) string { return filepath.Join(o.folder, name) }

// listen binds a name as it is given, which may be relative, and greets who comes.
func (o *outside) listen(t testing.TB, kind int, name string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: name}), unix.Listen(fd, 16))
	if err != nil {
		t.Fatalf("listen on %s: %v", name, err)
	}
	o.serve(t, fd)
}

func (o *outside) serve(t testing.TB, fd int) {
	file := os.NewFile(uintptr(fd), "outside")
	listener, err := net.FileListener(file)
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			o.reached.Add(1)
			conn.Write([]byte("outside"))
			conn.Close()
		}
	}()
}

// in runs something on a thread that stands in a folder, as a daemon that binds a
// relative name does.
func in(t testing.TB, folder string, do func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the folder is the thread's own
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Chdir(folder)
		}
		if err == nil {
			do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// bindElsewhere lets another process bind a name in a network namespace of its own,
// and serves it.
func (o *outside) bindElsewhere(t testing.TB, name string) {
	t.Helper()
	path := o.path(name)
	attributes := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		attributes.Cloneflags |= unix.CLONE_NEWUSER
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	daemon := exec.CommandContext(t.Context(), self, path)
	daemon.Env = append(os.Environ(), roleVariable+"=daemon")
	daemon.SysProcAttr = attributes
	daemon.Stderr = os.Stderr
	output, err := daemon.StdoutPipe()
	if err == nil {
		err = daemon.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(output)
	t.Cleanup(func() { daemon.Process.Kill(); daemon.Wait() })
	if !said.Scan() || said.Text() != "listening" {
		t.Fatalf("a daemon in a network of its own says %q", said.Text())
	}
	go func() {
		for said.Scan() {
			o.reached.Add(1)
		}
	}()
}

// daemonRole listens on a path and says who came.
func daemonRole(args []string) int {
	listener, err := net.Listen("unix", args[0])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("listening")
	for {
		conn, err := listener.Accept()
		if err != nil {
			return 1
		}
		fmt.Println("reached")
		conn.Write([]byte("outside"))
		conn.Close()
	}
}

// name makes the sockets of the outside in every way in which a socket file comes to
// a name.
func (o *outside) name(t testing.TB) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	o.listen(t, unix.SOCK_STREAM, o.path("absolute"))
	o.listen(t, unix.SOCK_SEQPACKET, o.path("packets"))
	in(t, o.folder, func() {
		o.listen(t, unix.SOCK_STREAM, "relative")
		o.listen(t, unix.SOCK_STREAM, "./dotted")
		o.listen(t, unix.SOCK_STREAM, "first-name")
		must(os.Rename("first-name", "renamed"))
		o.listen(t, unix.SOCK_STREAM, "one-name") // as OpenSSH's ControlMaster
		must(os.Link("one-name", "hard-link"))
		must(os.Remove("one-name"))
		must(os.Mkdir("folder", 0o755))
		o.listen(t, unix.SOCK_STREAM, "folder/below")
		must(os.Rename("folder", "renamed-folder"))
		must(os.Mkdir("deep", 0o755))
		must(os.Mkdir("deep/deeper", 0o755))
		o.listen(t, unix.SOCK_STREAM, "deep/deeper/../beside")
		o.listen(t, unix.SOCK_STREAM, "spaces and\nlines")
		o.listen(t, unix.SOCK_STREAM, "behind-link")
		must(os.Symlink(o.path("behind-link"), "link"))
		must(os.Symlink(".", "link-to-folder"))
	})
	o.bindElsewhere(t, "in-another-network")
	must(os.Mkdir(o.path("many"), 0o755))
	in(t, o.path("many"), func() {
		for i := range maxHidden + 20 {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			must(err)
			t.Cleanup(func() { unix.Close(fd) })
			must(unix.Bind(fd, &unix.SockaddrUnix{Name: strconv.Itoa(i)}))
			must(unix.Listen(fd, 16))
		}
		o.listen(t, unix.SOCK_STREAM, "the-last-of-thousands")
	})
}
