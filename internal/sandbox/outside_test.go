package sandbox

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
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
