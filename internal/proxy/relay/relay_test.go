package relay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// through is a relay between two connections, and the far ends of both.
type through struct {
	t                   *testing.T
	relay               *Relay
	client, destination *net.TCPConn
	result              chan Result
}

// start runs a relay. What config leaves out is filled in.
func start(t *testing.T, ctx context.Context, config Config) *through {
	t.Helper()
	x := prepare(t, config)
	x.run(ctx)
	return x
}

// prepare is start without Run.
func prepare(t *testing.T, config Config) *through {
	t.Helper()
	x := &through{t: t, result: make(chan Result, 1)}
	x.client, config.Down = connected(t)
	config.Up, x.destination = connected(t)
	for _, far := range []*net.TCPConn{x.client, x.destination} {
		far.SetDeadline(time.Now().Add(patience)) // so that a failure is no hang
	}
	if config.Memory == nil {
		config.Memory = newMemory(t)
	}
	x.relay = New(config)
	return x
}

func (x *through) run(ctx context.Context) {
	go func() { x.result <- x.relay.Run(ctx) }()
}

func newMemory(t testing.TB) *Memory {
	m := new(Memory)
	t.Cleanup(m.Close)
	return m
}

// patience is how long a test waits for what must come: a busy machine takes its
// time, and nothing waits longer than it has to.
const patience = time.Minute

// connected returns both ends of a TCP connection over loopback: who dialled,
// and who accepted.
func connected(t testing.TB) (dialled, accepted *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err = net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	accepted, err = l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*net.TCPConn{dialled, accepted} {
		t.Cleanup(func() { c.Close() })
	}
	return dialled, accepted
}

func (x *through) end() Result {
	x.t.Helper()
	select {
	case r := <-x.result:
		return r
	case <-time.After(patience):
		x.t.Fatal("the relay did not end")
		return Result{}
	}
}

func (x *through) wantReset(name string, c *net.TCPConn) {
	x.t.Helper()
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		x.t.Errorf("the %s sees %v, want a reset", name, err)
	}
}

func TestBytesGoBothWaysAndFINsBehindThem(t *testing.T) {
	for _, c := range []struct {
		name string
		size int64
		copy bool
	}{
		{"nothing", 0, false},
		{"a few", 100, false},
		{"as much as is copied at most", spliceAfter - 1, false},
		{"enough for a pipe", 20 << 20, false},
		{"as much without pipes", 20 << 20, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			memory := newMemory(t)
			memory.none = c.copy
			x := start(t, t.Context(), Config{Memory: memory})
			sent, received := sha256.New(), sha256.New()
			clientGot, destinationGot := drain(x.client), drain(x.destination)
			go speak(t, x.client, sent, c.size)
			speak(t, x.destination, received, c.size/2)
			if got, want := <-destinationGot, sent.Sum(nil); !bytes.Equal(got, want) {
				t.Error("the destination received other bytes than the client sent")
			}
			if got, want := <-clientGot, received.Sum(nil); !bytes.Equal(got, want) {
				t.Error("the client received other bytes than the destination sent")
			}
			if r := x.end(); r.Err != nil || r.Sent != c.size || r.Received != c.size/2 {
				t.Errorf("result %+v, want %d and %d", r, c.size, c.size/2)
			}
			if spliced := memory.alive > 0; spliced != (c.size > spliceAfter && !c.copy) {
				t.Errorf("%d pipes were made", memory.alive)
			}
			if len(memory.free) != memory.alive {
				t.Errorf("%d of %d pipes came back", len(memory.free), memory.alive)
			}
		})
	}
}

// speak writes size bytes in pieces of any length, then FIN.
func speak(t *testing.T, c *net.TCPConn, sum hash.Hash, size int64) {
	random := rand.NewChaCha8([32]byte{byte(size)})
	piece := make([]byte, 100_000)
	for size > 0 {
		n := min(size, int64(1+rand.IntN(len(piece))))
		random.Read(piece[:n])
		sum.Write(piece[:n])
		if _, err := c.Write(piece[:n]); err != nil {
			t.Errorf("write: %v", err)
			return
		}
		size -= n
	}
	if err := c.CloseWrite(); err != nil {
		t.Errorf("close for writing: %v", err)
	}
}

func drain(c *net.TCPConn) <-chan []byte {
	done := make(chan []byte, 1)
	go func() {
		sum := sha256.New()
		io.Copy(sum, c)
		done <- sum.Sum(nil)
	}()
	return done
}

func TestThePrefixGoesFirst(t *testing.T) {
	var released atomic.Int32
	prefix := []byte("hello ")
	x := start(t, t.Context(), Config{Prefix: prefix, PrefixDone: func() {
		released.Add(1)
		copy(prefix, "######")
	}})
	go func() {
		io.WriteString(x.client, "world")
		x.client.CloseWrite()
	}()
	got, err := io.ReadAll(x.destination)
	if err != nil || string(got) != "hello world" {
		t.Errorf("the destination got %q, %v", got, err)
	}
	x.destination.Close()
	if r := x.end(); r.Sent != 11 || released.Load() != 1 {
		t.Errorf("sent %d, the prefix was released %d times", r.Sent, released.Load())
	}
}

func TestADestinationThatSpeaksFirstIsHeard(t *testing.T) {
	x := start(t, t.Context(), Config{})
	io.WriteString(x.destination, "220 ready\r\n")
	greeting := make([]byte, 11)
	if _, err := io.ReadFull(x.client, greeting); err != nil || string(greeting) != "220 ready\r\n" {
		t.Errorf("the client got %q, %v", greeting, err)
	}
	waitFor(t, func() bool { return x.relay.Received() == 11 })
	x.client.Close()
	x.destination.Close()
	if r := x.end(); r.Err != nil {
		t.Errorf("result %+v", r)
	}
}

func TestAHalfClosedClientGetsItsAnswer(t *testing.T) {
	// With the socket corked, the bytes and FIN leave in one segment: one edge of
	// the poller announces both.
	for range 50 {
		x := start(t, t.Context(), Config{})
		cork(t, x.client)
		io.WriteString(x.client, "question")
		x.client.CloseWrite()
		question, err := io.ReadAll(x.destination)
		if err != nil || string(question) != "question" {
			t.Fatalf("the destination got %q, %v", question, err)
		}
		cork(t, x.destination)
		io.WriteString(x.destination, "answer")
		x.destination.CloseWrite()
		answer, err := io.ReadAll(x.client)
		if err != nil || string(answer) != "answer" {
			t.Fatalf("the client got %q, %v", answer, err)
		}
		if r := x.end(); r.Err != nil || r.Sent != 8 || r.Received != 6 {
			t.Fatalf("result %+v", r)
		}
	}
}

func cork(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, 1); err != nil {
			t.Error(err)
		}
	})
}

func TestAResetIsPassedOnAsAReset(t *testing.T) {
	for _, side := range []Side{Downstream, Upstream} {
		t.Run(side.String(), func(t *testing.T) {
			x := start(t, t.Context(), Config{})
			ends := [2]*net.TCPConn{x.client, x.destination}
			io.WriteString(x.client, "x")
			io.ReadFull(x.destination, make([]byte, 1))
			ends[side].SetLinger(0)
			ends[side].Close()
			x.wantReset("other side", ends[1-side])
			r := x.end()
			var failed *SideError
			if !errors.As(r.Err, &failed) || failed.Side != side || !errors.Is(r.Err, syscall.ECONNRESET) {
				t.Errorf("result %+v", r)
			}
		})
	}
}

func TestBothSidesMayResetAtOnce(t *testing.T) {
	for range 20 {
		x := start(t, t.Context(), Config{})
		go io.Copy(x.client, zeros{})
		go io.Copy(x.destination, zeros{})
		waitFor(t, func() bool { return x.relay.Sent() > 0 && x.relay.Received() > 0 })
		x.client.SetLinger(0)
		x.destination.SetLinger(0)
		go x.client.Close()
		x.destination.Close()
		if r := x.end(); r.Err == nil {
			t.Fatalf("result %+v", r)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not happen within %v", patience)
		}
	}
}

func TestASlowReaderHoldsTheSenderBack(t *testing.T) {
	for _, copyOnly := range []bool{false, true} {
		memory := newMemory(t)
		memory.none = copyOnly
		x := start(t, t.Context(), Config{Memory: memory})
		// Small buffers at the far ends, so that little is enough to fill them all.
		x.client.SetWriteBuffer(64 << 10)
		x.destination.SetReadBuffer(64 << 10)
		var wrote atomic.Int64
		sum, summed := sha256.New(), make(chan struct{})
		const size = 32 << 20
		go func() {
			defer close(summed)
			piece := make([]byte, 64<<10)
			for wrote.Load() < size {
				for i := range piece {
					piece[i] = byte(wrote.Load()>>16) + byte(i)
				}
				if _, err := x.client.Write(piece); err != nil {
					t.Errorf("write: %v", err)
					return
				}
				sum.Write(piece)
				wrote.Add(int64(len(piece)))
			}
			x.client.CloseWrite()
		}()
		// Nobody reads: what is written comes to a halt, at what sockets and one
		// pipe hold.
		last := int64(-1)
		for still := 0; still < 20; {
			time.Sleep(5 * time.Millisecond)
			if now := wrote.Load(); now != last {
				last, still = now, 0
			} else {
				still++
			}
		}
		if last >= size {
			t.Errorf("copying %v: the sender was never held back", copyOnly)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got := <-drain(x.destination)
		runtime.ReadMemStats(&after)
		<-summed
		if !bytes.Equal(got, sum.Sum(nil)) {
			t.Errorf("copying %v: the destination got other bytes", copyOnly)
		}
		if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 4<<20 {
			t.Errorf("copying %v: carrying %d MiB allocated %d bytes", copyOnly, size>>20, grown)
		}
		x.destination.Close()
		if r := x.end(); r.Err != nil || r.Sent != size {
			t.Errorf("copying %v: result %+v", copyOnly, r)
		}
	}
}

func TestAbortEndsARelayWhateverItDoes(t *testing.T) {
	for name, busy := range map[string]func(x *through){
		"idle":            func(x *through) {},
		"half closed":     func(x *through) { x.client.CloseWrite(); io.Copy(io.Discard, x.destination) },
		"a slow reader":   func(x *through) { go io.Copy(x.client, zeros{}); stall(x) },
		"bulk both ways":  func(x *through) { bulk(x); waitFor(x.t, func() bool { return x.relay.Sent() > 8<<20 }) },
		"bulk just begun": bulk,
	} {
		t.Run(name, func(t *testing.T) {
			x := start(t, t.Context(), Config{})
			busy(x)
			x.relay.Abort()
			x.relay.Abort()
			if r := x.end(); !errors.Is(r.Err, ErrAborted) {
				t.Errorf("result %+v", r)
			}
			if name == "idle" {
				x.wantReset("client", x.client)
				x.wantReset("destination", x.destination)
			} else { // another goroutine may have seen the reset first
				waitFor(t, func() bool { return isDead(x.client) && isDead(x.destination) })
			}
			x.relay.Abort() // after its end it does no harm
		})
	}
}

func isDead(c *net.TCPConn) bool {
	_, err := c.Write([]byte("x"))
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

func bulk(x *through) {
	go io.Copy(x.client, zeros{})
	go io.Copy(x.destination, zeros{})
	go io.CopyN(io.Discard, x.client, 16<<20)
	go io.CopyN(io.Discard, x.destination, 16<<20)
}

// stall waits until nothing moves for want of a reader.
func stall(x *through) {
	last := int64(-1)
	waitFor(x.t, func() bool {
		now := x.relay.Sent()
		same := now == last && now > spliceAfter
		last = now
		time.Sleep(5 * time.Millisecond)
		return same
	})
}

func TestAnAbortBeforeTheStartCounts(t *testing.T) {
	_, down := connected(t)
	up, _ := connected(t)
	r := New(Config{Down: down, Up: up, Memory: newMemory(t), Prefix: []byte("secret")})
	r.Abort()
	if got := r.Run(t.Context()); !errors.Is(got.Err, ErrAborted) || got.Sent != 0 {
		t.Errorf("result %+v", got)
	}
}

func TestTheContextEndsARelayWithItsCause(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	x := start(t, ctx, Config{})
	cause := errors.New("the rule was deleted")
	cancel(cause)
	if r := x.end(); r.Err != cause {
		t.Errorf("result %+v", r)
	}
	x.wantReset("client", x.client)
	x.wantReset("destination", x.destination)
}

func TestSocketsClosedElsewhereEndARelay(t *testing.T) {
	x := start(t, t.Context(), Config{})
	x.relay.config.Up.Close()
	if r := x.end(); !errors.Is(r.Err, net.ErrClosed) {
		t.Errorf("result %+v", r)
	}
}

// A deadline that somebody left on a socket cuts a stream short: that must not
// look like its end.
func TestADeadlineOfSomebodyElseIsAFailureAndAReset(t *testing.T) {
	for _, side := range []Side{Downstream, Upstream} {
		t.Run(side.String(), func(t *testing.T) {
			x := start(t, t.Context(), Config{})
			near := [2]*net.TCPConn{x.relay.config.Down, x.relay.config.Up}
			near[side].SetDeadline(time.Unix(1, 0))
			r := x.end()
			var failed *SideError
			if !errors.As(r.Err, &failed) || failed.Side != side || !errors.Is(r.Err, os.ErrDeadlineExceeded) {
				t.Errorf("result %+v", r)
			}
			x.wantReset("client", x.client)
			x.wantReset("destination", x.destination)
		})
	}
}

func TestARelayInWhichNothingMovesEnds(t *testing.T) {
	x := start(t, t.Context(), Config{Idle: 20 * time.Millisecond})
	if r := x.end(); r.Err != ErrIdle {
		t.Errorf("result %+v", r)
	}
	x.wantReset("client", x.client)
	x.wantReset("destination", x.destination)
}

func TestOnlyStillnessCountsAsIdle(t *testing.T) {
	var c idleCount
	moved := int64(0)
	for look := range 100 {
		if look%idleLooks != 0 {
			if c.look(moved) {
				t.Fatalf("idle at look %d, though bytes moved", look)
			}
			continue
		}
		moved++
		if c.look(moved) {
			t.Fatalf("idle at look %d, right after bytes moved", look)
		}
	}
	c = idleCount{}
	for look := range idleLooks {
		if idle := c.look(0); idle != (look == idleLooks-1) {
			t.Errorf("look %d of a relay that never moved: idle %v", look, idle)
		}
	}
}

func TestPipesAreBounded(t *testing.T) {
	m := newMemory(t)
	var lent []*pipe
	for range MaxPipes {
		p := m.pipe()
		if p == nil {
			t.Skipf("this machine gives %d pipes of 1 MiB", len(lent))
		}
		lent = append(lent, p)
	}
	if p := m.pipe(); p != nil {
		t.Error("one pipe too many was lent")
	}
	m.giveBackPipe(lent[0])
	if p := m.pipe(); p != lent[0] {
		t.Error("a pipe that came back was not lent again")
	}
	m.discardPipe(lent[0])
	if lent[0] = m.pipe(); lent[0] == nil {
		t.Error("a discarded pipe was not replaced")
	}
	for _, p := range lent[1:] {
		m.giveBackPipe(p)
	}
	m.Close()
	m.giveBackPipe(lent[0])
	if m.alive != 0 || len(m.free) != 0 {
		t.Errorf("after the end %d pipes are alive", m.alive)
	}
}

func TestWithoutAPipeToBeHadBytesAreCopied(t *testing.T) {
	m := newMemory(t)
	for m.alive < MaxPipes && !m.none {
		defer func(p *pipe) {
			if p != nil {
				m.giveBackPipe(p)
			}
		}(m.pipe())
	}
	x := start(t, t.Context(), Config{Memory: m})
	sum := sha256.New()
	got := drain(x.destination)
	speak(t, x.client, sum, 4<<20)
	if !bytes.Equal(<-got, sum.Sum(nil)) {
		t.Error("the destination got other bytes")
	}
	x.destination.Close()
	if r := x.end(); r.Err != nil {
		t.Errorf("result %+v", r)
	}
}

func TestARelayLeavesNothingBehind(t *testing.T) {
	memory := new(Memory)
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for i := range 20 {
		x := start(t, t.Context(), Config{Memory: memory})
		bulk(x)
		waitFor(t, func() bool { return x.relay.Sent() > 1<<20 })
		if i%2 == 0 {
			x.relay.Abort()
		} else {
			x.destination.SetLinger(0)
			x.destination.Close()
		}
		x.end()
		x.client.Close()
		x.destination.Close()
	}
	memory.Close()
	waitFor(t, func() bool { return openFiles(t) <= files && runtime.NumGoroutine() <= goroutines })
}

func openFiles(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}
