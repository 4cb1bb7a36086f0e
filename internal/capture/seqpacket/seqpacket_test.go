package seqpacket

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	a, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(theirs.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	if b, err = Conn(fd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func countFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestAMessageBringsItsValueAndItsFiles(t *testing.T) {
	a, b := pair(t)
	for i := range 3 {
		if err := Send(a, map[string]int{"n": i}, make([]int, i)...); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		var got map[string]int
		files, err := Receive(b, &got, 2)
		if err != nil || got["n"] != i || len(files) != i {
			t.Fatalf("message %d: %v, files %v, err %v", i, got, files, err)
		}
		for _, fd := range files {
			if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
				t.Error("a received descriptor is not close-on-exec")
			}
		}
		Close(files)
	}
	a.Close()
	if _, err := Receive(b, new(any), 0); err != io.EOF {
		t.Fatalf("after close: %v, want EOF", err)
	}
}

func TestEveryErrorClosesTheFilesThatCame(t *testing.T) {
	a, b := pair(t)
	before := countFiles(t)
	for _, test := range []struct {
		name    string
		send    func() error
		max     int
		wantErr error
	}{
		{"one file too many", func() error { return Send(a, 1, 0, 0, 0) }, 2, ErrTooManyFiles},
		{"far too many files", func() error { return Send(a, 1, make([]int, MaxFiles)...) }, 2, ErrTooManyFiles},
		{"files where none are taken", func() error { return Send(a, 1, 0) }, 0, ErrTooManyFiles},
		{"too large", func() error {
			_, _, err := a.WriteMsgUnix([]byte(`"`+strings.Repeat("x", MaxMessage)+`"`), unix.UnixRights(0), nil)
			return err
		}, 2, ErrTooLarge},
		{"no JSON", func() error { _, _, err := a.WriteMsgUnix([]byte("{"), unix.UnixRights(0, 0), nil); return err }, 2, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := test.send(); err != nil {
				t.Fatal(err)
			}
			files, err := Receive(b, new(any), test.max)
			if err == nil || files != nil || (test.wantErr != nil && !errors.Is(err, test.wantErr)) {
				t.Fatalf("files %v, err %v, want %v", files, err, test.wantErr)
			}
		})
	}
	if after := countFiles(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// An init waits on two of them for as long as its sandbox lives.
func TestAShortMessageTakesNoMemoryForALongOne(t *testing.T) {
	a, b := pair(t)
	receive := func() {
		if err := Send(a, 1); err != nil {
			t.Fatal(err)
		}
		var n int
		if _, err := Receive(b, &n, 0); err != nil || n != 1 {
			t.Fatal(n, err)
		}
	}
	receive() // what is made once
	const rounds = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range rounds {
		receive()
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / rounds; each > MaxMessage/4 {
		t.Errorf("a message of one byte took %d bytes", each)
	}
}

func TestWhatIsTooMuchIsNotSent(t *testing.T) {
	a, _ := pair(t)
	if err := Send(a, strings.Repeat("x", MaxMessage)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large value: %v", err)
	}
	if err := Send(a, 1, make([]int, MaxFiles+1)...); !errors.Is(err, ErrTooManyFiles) {
		t.Errorf("many files: %v", err)
	}
}

func TestConnTakesOnlySeqpacketSockets(t *testing.T) {
	before := countFiles(t)
	stream, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(stream[1])
	if _, err := Conn(stream[0]); err == nil {
		t.Error("a stream socket was taken")
	}
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	fd, _ := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	file.Close()
	if _, err := Conn(fd); err == nil {
		t.Error("/dev/null was taken")
	}
	if after := countFiles(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"family":2}`))
	f.Add([]byte(`{`))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, message []byte) {
		if len(message) == 0 || len(message) > 2*MaxMessage {
			return
		}
		a, b := pair(t)
		if _, err := a.Write(message); err != nil {
			t.Skip(err)
		}
		var v struct{ Family, N int }
		files, err := Receive(b, &v, 1)
		if len(files) != 0 || (err == nil && len(message) > MaxMessage) {
			t.Fatalf("files %v err %v for %d bytes", files, err, len(message))
		}
	})
}
