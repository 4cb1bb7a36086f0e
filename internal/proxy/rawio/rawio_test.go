package rawio

import (
	"net"
	"syscall"
	"testing"
	"time"
)

// pair is the two ends of a loopback connection, and the first's descriptor.
func pair(t *testing.T) (fd uintptr, near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	near, far = a.(*net.TCPConn), b.(*net.TCPConn)
	raw, err := near.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(f uintptr) { fd = f })
	return fd, near, far
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestReadAndWriteNeverWait(t *testing.T) {
	fd, _, far := pair(t)
	b := make([]byte, 10)
	if _, errno := Read(fd, b); errno != syscall.EAGAIN {
		t.Errorf("nothing to read: %v", errno)
	}
	far.Write([]byte("hello"))
	eventually(t, "the bytes come", func() bool { n, _ := Read(fd, b); return string(b[:n]) == "hello" })
	far.CloseWrite()
	eventually(t, "the end comes", func() bool { n, errno := Read(fd, b); return n == 0 && errno == 0 })
	if n, errno := Write(fd, b[:3]); n != 3 || errno != 0 {
		t.Errorf("wrote %d, %v", n, errno)
	}
	large := make([]byte, 1<<20)
	for range 1 << 10 {
		if _, errno := Write(fd, large); errno == syscall.EAGAIN {
			return
		}
	}
	t.Error("a full socket took everything")
}

func TestQuietIsAPeerThatNeitherSpokeNorLeft(t *testing.T) {
	for name, act := range map[string]func(far *net.TCPConn){
		"spoke":       func(far *net.TCPConn) { far.Write([]byte("x")) },
		"half-closed": func(far *net.TCPConn) { far.CloseWrite() },
		"closed":      func(far *net.TCPConn) { far.Close() },
		"reset":       func(far *net.TCPConn) { far.SetLinger(0); far.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			fd, _, far := pair(t)
			if !Quiet(fd) {
				t.Error("a new connection is not quiet")
			}
			act(far)
			eventually(t, "no longer quiet", func() bool { return !Quiet(fd) })
		})
	}
}

func TestGoneIsAPeerThatWasReset(t *testing.T) {
	fd, _, far := pair(t)
	if Ended(fd) {
		t.Error("a peer has ended its side that has not")
	}
	far.CloseWrite()
	eventually(t, "the half-close comes", func() bool { return !Quiet(fd) })
	if Gone(fd) || !Ended(fd) {
		t.Errorf("a half-closed peer is gone: %v, has ended its side: %v", Gone(fd), Ended(fd))
	}
	far.SetLinger(0)
	far.Close()
	eventually(t, "a reset peer is gone", func() bool { return Gone(fd) })
}

func TestResetsIsAConnectionThatLingersForNothing(t *testing.T) {
	fd, near, _ := pair(t)
	for _, x := range []struct {
		linger int
		want   bool
	}{{0, true}, {1, false}, {-1, false}} {
		if near.SetLinger(x.linger); Resets(fd) != x.want {
			t.Errorf("SetLinger(%d): not %v", x.linger, x.want)
		}
	}
}
