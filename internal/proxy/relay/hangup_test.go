package relay

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/rawio"
)

// fill makes a far end send until nothing goes any more, because nobody reads at the
// other far end.
func fill(x *through, from *net.TCPConn) {
	x.t.Helper()
	moved := x.relay.Sent
	if from == x.destination {
		moved = x.relay.Received
	}
	go io.Copy(from, zeros{})
	last, still := int64(-1), 0
	waitFor(x.t, func() bool {
		if now := moved(); now != last || now == 0 {
			last, still = now, 0
		} else {
			still++
		}
		return still > 20
	})
}

func TestAResetIsNoticedWhileTheOtherSideDoesNotRead(t *testing.T) {
	for _, side := range []Side{Downstream, Upstream} {
		for _, copies := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, copying %v", side, copies), func(t *testing.T) {
				memory := newMemory(t)
				memory.none = copies
				x := start(t, t.Context(), Config{Memory: memory, Idle: -1})
				ends := [2]*net.TCPConn{x.client, x.destination}
				fill(x, ends[side])
				ends[side].SetLinger(0)
				ends[side].Close()
				var failed *SideError
				if r := x.end(); !errors.As(r.Err, &failed) || failed.Side != side || !errors.Is(r.Err, syscall.ECONNRESET) {
					t.Errorf("result %+v", r)
				}
				x.wantReset("other side", ends[1-side])
			})
		}
	}
}

// A client may end in order, both ways, while its last bytes are still on their way: that
// is no reset.
func TestAnOrderlyEndIsNoResetWhileTheOtherSideDoesNotRead(t *testing.T) {
	memory := newMemory(t)
	memory.none = true // a pipe would hold it all
	x := prepare(t, Config{Memory: memory, Idle: -1})
	x.destination.SetReadBuffer(16 << 10)
	x.relay.config.Up.SetWriteBuffer(16 << 10)
	x.relay.config.Down.SetReadBuffer(4 << 20)
	x.run(t.Context())
	x.destination.CloseWrite()
	if _, err := x.client.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	sum := sha256.New()
	const size = 1 << 20
	speak(t, x.client, sum, size)
	x.client.Close()
	raw, err := x.relay.config.Down.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() (gone bool) { raw.Control(func(fd uintptr) { gone = rawio.Gone(fd) }); return gone })
	if sent := x.relay.Sent(); sent >= size {
		t.Fatalf("all %d bytes were taken", sent)
	}
	x.destination.SetReadBuffer(4 << 20)
	if got := <-drain(x.destination); !bytes.Equal(got, sum.Sum(nil)) {
		t.Error("the destination got other bytes")
	}
	if r := x.end(); r.Err != nil || r.Sent != size {
		t.Errorf("result %+v", r)
	}
}

// greeted is a relay in its greeting.
func greeted(t *testing.T, copies bool) *through {
	t.Helper()
	memory := newMemory(t)
	memory.none = copies
	x := prepare(t, Config{Memory: memory, Idle: -1})
	x.relay.Greet()
	return x
}

func TestAGreetingIsPausedWhereItIsAndGoesOn(t *testing.T) {
	for _, copies := range []bool{false, true} {
		t.Run(fmt.Sprintf("copying %v", copies), func(t *testing.T) {
			x := greeted(t, copies)
			sum := sha256.New()
			go speak(t, x.destination, sum, 24<<20)
			got := sha256.New()
			for range 20 { // the client reads a little, and the relay is paused in the middle of the rest
				if _, err := io.CopyN(got, x.client, 300<<10); err != nil {
					t.Fatal(err)
				}
				if err := x.relay.Pause(); err != nil {
					t.Fatal(err)
				}
				x.relay.Greet()
			}
			if err := x.relay.Pause(); err != nil {
				t.Fatal(err)
			}
			x.relay.Say([]byte("hello"), nil)
			x.run(t.Context())
			said := make([]byte, 5)
			if _, err := io.ReadFull(x.destination, said); err != nil || string(said) != "hello" {
				t.Errorf("the destination got %q, %v", said, err)
			}
			if _, err := io.Copy(got, x.client); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
				t.Error("the client got other bytes")
			}
			x.client.CloseWrite()
			if r := x.end(); r.Err != nil || r.Received != 24<<20 || r.Sent != 5 {
				t.Errorf("result %+v", r)
			}
		})
	}
}

func TestAGreetingIsPausedThoughTheClientDoesNotRead(t *testing.T) {
	for _, copies := range []bool{false, true} {
		x := greeted(t, copies)
		fill(x, x.destination)
		if err := x.relay.Pause(); err != nil { // a hang where it is not
			t.Errorf("copying %v: %v", copies, err)
		}
		x.relay.Drop()
		if err := x.relay.config.Down.SetDeadline(time.Time{}); err != nil {
			t.Errorf("copying %v: the client's connection was taken: %v", copies, err)
		}
		if memory := x.relay.config.Memory; memory.alive != len(memory.free) || len(memory.hangups.ways) != 0 {
			t.Errorf("copying %v: %d of %d pipes came back, %d are watched", copies, len(memory.free), memory.alive, len(memory.hangups.ways))
		}
	}
}

// The server is reset while the client does not read what it said: whoever reads what the
// client says hears of it.
func TestAResetDuringTheGreetingEndsTheReadingOfTheClient(t *testing.T) {
	x := greeted(t, false)
	fill(x, x.destination)
	x.destination.SetLinger(0)
	x.destination.Close()
	read := make(chan error)
	go func() {
		_, err := x.relay.config.Down.Read(make([]byte, 1))
		read <- err
	}()
	select {
	case err := <-read:
		if err == nil {
			t.Error("the client said something")
		}
	case <-time.After(patience):
		t.Fatal("nobody hears of it")
	}
	var failed *SideError
	if err := x.relay.Pause(); !errors.As(err, &failed) || failed.Side != Upstream {
		t.Errorf("%v", err)
	}
	x.relay.Drop()
}

// watchedPipe is a way of a relay of its own whose socket is the end of a pipe, which
// fails as if it was reset once fail is called.
func watchedPipe(t *testing.T, h *hangups) (w *way, fail func()) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); write.Close() })
	raw, err := write.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	w = &New(Config{Down: new(net.TCPConn), Up: new(net.TCPConn)}).ways[Upstream]
	raw.Control(func(fd uintptr) { err = h.watch(w, fd) })
	if err != nil {
		t.Fatal(err)
	}
	return w, func() { read.Close() }
}

func TestTheWatchingEndsWhileResetsAreHeardOf(t *testing.T) {
	for range 50 {
		h := new(hangups)
		var fails []func()
		var last *way
		for range 40 {
			w, fail := watchedPipe(t, h)
			fails, last = append(fails, fail), w
		}
		h.mu.Lock() // so that the reader has more to tell than it can
		for _, fail := range fails {
			fail()
		}
		closed := make(chan struct{})
		go func() { defer close(closed); h.mu.Unlock(); h.close() }()
		select {
		case <-closed:
		case <-time.After(patience):
			t.Fatal("it does not end")
		}
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := h.watch(last, write.Fd()); !errors.Is(err, os.ErrClosed) {
			t.Errorf("what is closed watches on: %v", err)
		}
		read.Close()
		write.Close()
	}
}

// A client may go on to another server once its greeting was paused: the reset of the one
// that was dialled first is not its own any more.
func TestAResetAfterThePauseLeavesTheClientAlone(t *testing.T) {
	x := greeted(t, false)
	fill(x, x.destination)
	if err := x.relay.Pause(); err != nil {
		t.Fatal(err)
	}
	x.destination.SetLinger(0)
	x.destination.Close()
	later, fail := watchedPipe(t, &x.relay.config.Memory.hangups)
	fail()
	waitFor(t, func() bool { return later.relay.failed.Load() != nil }) // what came before was told of
	x.relay.Drop()
	if failed := x.relay.failed.Load(); failed != nil {
		t.Errorf("the relay failed: %v", failed.err)
	}
	if _, err := x.client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(x.relay.config.Down, make([]byte, 5)); err != nil {
		t.Errorf("the client's connection was taken: %v", err)
	}
}

func TestAResetIsNoticedAlsoWhereAGreetingWasPausedBefore(t *testing.T) {
	x := greeted(t, false)
	fill(x, x.destination)
	if err := x.relay.Pause(); err != nil {
		t.Fatal(err)
	}
	x.run(t.Context())
	waitFor(t, func() bool {
		h := &x.relay.config.Memory.hangups
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.ways) > 0
	})
	x.destination.SetLinger(0)
	x.destination.Close()
	var failed *SideError
	if r := x.end(); !errors.As(r.Err, &failed) || failed.Side != Upstream {
		t.Errorf("result %+v", r)
	}
}
