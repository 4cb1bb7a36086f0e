package relay

import (
	"bytes"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/proxy/rawio"
)

// looking is memory whose marked ways are looked at once for each word in looks, and as
// they come, after free or the test's end.
func looking(t *testing.T) (memory *Memory, looks chan struct{}, free func()) {
	memory, looks = new(Memory), make(chan struct{})
	freed := make(chan struct{})
	free = sync.OnceFunc(func() { close(freed) })
	memory.marks.wait = func() {
		select {
		case <-looks:
		case <-freed:
			time.Sleep(lookEvery)
		}
	}
	t.Cleanup(func() {
		free()
		waitFor(t, func() bool { return !memory.marks.looking() })
		memory.Close()
	})
	return memory, looks, free
}

func (m *marks) looking() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.looks
}

// lowMarkOf asks the kernel for how many bytes a socket waits.
func lowMarkOf(t *testing.T, c *net.TCPConn) (n int) {
	t.Helper()
	onSocket(t, c, func(fd int) (err error) {
		n, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT)
		return err
	})
	return n
}

// waiting is how many bytes nobody has read from a socket yet.
func waiting(t *testing.T, c *net.TCPConn) (n int) {
	t.Helper()
	onSocket(t, c, func(fd int) (err error) {
		n, err = unix.IoctlGetInt(fd, unix.SIOCINQ)
		return err
	})
	return n
}

// stream is a relay through which a stream of the client runs: its socket is marked, and
// all that was sent has come.
func stream(t *testing.T, memory *Memory) *through {
	t.Helper()
	x := start(t, t.Context(), Config{Memory: memory, Idle: -1})
	x.carry(bytes.Repeat([]byte("s"), runsAfter))
	waitFor(t, func() bool { return lowMarkOf(t, x.relay.config.Down) > 1 })
	return x
}

// carry sends bytes of the client and waits until the destination has them.
func (x *through) carry(b []byte) {
	x.t.Helper()
	failed := make(chan error, 1)
	go func() {
		_, err := x.client.Write(b)
		failed <- err
	}()
	x.want(b)
	if err := <-failed; err != nil {
		x.t.Fatal(err)
	}
}

// want waits for bytes at the destination.
func (x *through) want(b []byte) {
	x.t.Helper()
	got := make([]byte, len(b))
	if _, err := io.ReadFull(x.destination, got); err != nil || !bytes.Equal(got, b) {
		x.t.Fatalf("of %d bytes the destination got %.20q…, %v", len(b), got, err)
	}
}

// Two looks, a millisecond apart, are the longest that a last byte waits.
func TestTheLastBytesOfAStreamWaitForTwoLooksAtMost(t *testing.T) {
	memory, looks, free := looking(t)
	x := stream(t, memory)
	x.relay.ways[Downstream].moved.Add(1) // as if it had run on
	x.client.Write([]byte("the last"))
	waitFor(t, func() bool { return waiting(t, x.relay.config.Down) == len("the last") || x.relay.Sent() > runsAfter+1 })
	looks <- struct{}{} // sees that the stream has run
	looks <- struct{}{} // sees that it runs no more
	x.want([]byte("the last"))
	free()
	waitFor(t, func() bool { return lowMarkOf(t, x.relay.config.Down) == 1 })
	waitFor(t, func() bool { return !memory.marks.looking() }) // nobody looks where nothing runs
}

func TestAnEndOrAResetOfAStreamWaitsForNoLook(t *testing.T) {
	t.Run("end", func(t *testing.T) {
		memory, _, _ := looking(t)
		x := stream(t, memory)
		x.client.Write([]byte("the last"))
		x.client.CloseWrite()
		if rest, err := io.ReadAll(x.destination); err != nil || string(rest) != "the last" {
			t.Errorf("the destination got %q, %v", rest, err)
		}
		x.destination.Close()
		if r := x.end(); r.Err != nil || r.Sent != runsAfter+int64(len("the last")) {
			t.Errorf("result %+v", r)
		}
	})
	t.Run("reset", func(t *testing.T) {
		memory, _, _ := looking(t)
		x := stream(t, memory)
		x.client.SetLinger(0)
		x.client.Close()
		x.wantReset("destination", x.destination)
		x.end()
	})
}

// An answer that a question follows is no stream, however many there were.
func TestAnswersToQuestionsAreNotMarked(t *testing.T) {
	memory, _, _ := looking(t)
	x := start(t, t.Context(), Config{Memory: memory, Idle: -1})
	for asked := range int64(8) {
		x.carry(bytes.Repeat([]byte("a"), runsAfter/2))
		x.destination.Write([]byte("?"))
		if _, err := io.ReadFull(x.client, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return x.relay.Received() == asked+1 }) // it counts
	}
	if memory.marks.looking() {
		t.Error("a stream was seen")
	}
}

// A client that sends byte after byte amid a stream, or stalls after each burst, is carried
// like any other.
func TestAClientThatTricklesAmidAStreamIsCarried(t *testing.T) {
	memory, _, free := looking(t)
	x := stream(t, memory)
	free()
	for range 100 {
		x.carry([]byte("x"))
	}
	for range 5 {
		x.carry(bytes.Repeat([]byte("b"), goesOnAfter+1))
	}
	x.client.CloseWrite()
	x.destination.Close()
	if r := x.end(); r.Err != nil || r.Sent != runsAfter+100+5*(goesOnAfter+1) {
		t.Errorf("result %+v", r)
	}
}

// A destination that does not read stalls the stream: nobody looks at it for long.
func TestAStreamToWhoDoesNotReadIsUnmarked(t *testing.T) {
	memory, _, free := looking(t)
	x := stream(t, memory)
	free()
	fill(x, x.client)
	waitFor(t, func() bool { return !memory.marks.looking() && lowMarkOf(t, x.relay.config.Down) == 1 })
	x.relay.Abort()
	x.end()
}

// Who goes on with a socket after a pause is woken for each byte.
func TestAPauseTakesTheMarkOff(t *testing.T) {
	memory, _, _ := looking(t)
	x := prepare(t, Config{Memory: memory, Idle: -1})
	x.relay.Greet()
	go x.destination.Write(make([]byte, runsAfter))
	if _, err := io.ReadFull(x.client, make([]byte, runsAfter)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return lowMarkOf(t, x.relay.config.Up) > 1 })
	if err := x.relay.Pause(); err != nil {
		t.Fatal(err)
	}
	if n := lowMarkOf(t, x.relay.config.Up); n != 1 {
		t.Errorf("after a pause the socket waits for %d bytes", n)
	}
	x.relay.Drop()
}

// That it never waits is the ground on which splice is kept from the scheduler.
func TestSpliceNeverWaits(t *testing.T) {
	p, err := newPipe(64 << 10)
	if err != nil {
		t.Skip(err)
	}
	defer p.close()
	from, fromFar := connected(t)
	to, _ := connected(t)
	never := func(what string, between *net.TCPConn, move func(fd uintptr) syscall.Errno) {
		t.Helper()
		onSocket(t, between, func(fd int) error {
			if errno := move(uintptr(fd)); errno != syscall.EAGAIN {
				t.Errorf("%s: %v, want EAGAIN", what, errno)
			}
			return nil
		})
	}
	fromSocket := func(fd uintptr) syscall.Errno { _, errno := splice(fd, uintptr(p.write), spliceMost); return errno }
	toSocket := func(fd uintptr) syscall.Errno { _, errno := splice(uintptr(p.read), fd, spliceMost); return errno }
	never("from an empty socket", from, fromSocket)
	never("from an empty pipe", to, toSocket)
	for err := error(nil); err == nil; { // full
		_, err = unix.Write(p.write, make([]byte, 4096))
	}
	fromFar.Write([]byte("x"))
	waitFor(t, func() bool { return waiting(t, from) == 1 })
	never("to a full pipe", from, fromSocket)
	never("to a full socket", to, func(fd uintptr) (errno syscall.Errno) {
		for errno == 0 { // it makes room for as long as its peer does
			for errno == 0 {
				_, errno = rawio.Write(fd, make([]byte, 1<<20))
			}
			errno = toSocket(fd)
		}
		return errno
	})
}
