package loop

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/proxy/rawio"
	"sluice.dev/sluice/internal/proxy/relay"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// owner is a Served that leads to a server, and what the loop said to it.
type owner struct {
	to      netip.AddrPort
	refuse  bool
	idle    time.Duration
	buffers int32 // of the upstream's socket; 0: the kernel's
	fill    int   // how many bytes were put in the way of what the client says
	full    bool  // so many that nothing more is taken
	counts  chan Counts
	handed  chan Handed // Said is a copy
	ended   chan ending
	said    []byte
	serving Handle
}

type ending struct {
	err      error
	received int64
}

func (o *owner) Listen() bool { return true }

func (o *owner) Decide(said []byte) (int, bool) {
	o.said = bytes.Clone(said)
	if o.refuse {
		return -1, false
	}
	fd, err := capture.Host{}.BeginTCP(o.to)
	if o.buffers > 0 && err == nil {
		rawio.SetOption(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, o.buffers)
	}
	for o.full && err == nil {
		n, errno := rawio.Write(uintptr(fd), make([]byte, 4<<10))
		if errno == syscall.EAGAIN {
			break
		}
		o.fill += n
	}
	return fd, err == nil
}

func (o *owner) Carried(by Counts) time.Duration {
	o.counts <- by
	return o.idle
}

func (o *owner) HandOver(h Handed) {
	h.Said = bytes.Clone(h.Said)
	o.handed <- h
}

func (o *owner) Ended(err error, received int64) { o.ended <- ending{err, received} }

// ends are a loop with one listener, and a server that accepts.
type ends struct {
	t      *testing.T
	loop   *Loop
	listen *net.TCPListener
	server *net.TCPListener
	owners chan *owner
}

func newEnds(t *testing.T, tick, slow time.Duration, change func(*owner)) *ends {
	t.Helper()
	x := &ends{t: t, listen: listenTCP(t), server: listenTCP(t), owners: make(chan *owner, 64)}
	var err error
	x.loop, err = Open(Config{Listeners: []*net.TCPListener{x.listen}, Tick: tick, SlowTick: slow, Arrived: func(l *Loop, _, fd int) bool {
		o := &owner{to: addressOf(x.server), counts: make(chan Counts, 1), handed: make(chan Handed, 1), ended: make(chan ending, 1)}
		if change != nil {
			change(o)
		}
		serving, err := l.Add(fd, o)
		if err != nil {
			t.Error(err)
		}
		o.serving = serving
		x.owners <- o
		return true
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		x.listen.Close()
		x.loop.Close()
	})
	return x
}

func listenTCP(t *testing.T) *net.TCPListener {
	t.Helper()
	config := net.ListenConfig{Control: capture.ControlUrgent}
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

func addressOf(l *net.TCPListener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }

// dial connects to the loop and returns the client's end.
func (x *ends) dial() (*net.TCPConn, *owner) {
	x.t.Helper()
	c, err := net.Dial("tcp", x.listen.Addr().String())
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn), get(x.t, x.owners)
}

// carried is a connection whose first word has come to the server.
func (x *ends) carried() (client, server *net.TCPConn, o *owner) {
	x.t.Helper()
	client, o = x.dial()
	if _, err := io.WriteString(client, "hello"); err != nil {
		x.t.Fatal(err)
	}
	x.server.SetDeadline(time.Now().Add(patience))
	server, err := x.server.AcceptTCP()
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { server.Close() })
	server.SetDeadline(time.Now().Add(patience))
	if got := string(take(x.t, server, 5)); got != "hello" {
		x.t.Fatalf("the server got %q", got)
	}
	return client, server, o
}

// held runs do while the loop does nothing, so that all that comes meanwhile is one event.
func (x *ends) held(do func()) {
	x.t.Helper()
	holds, done := make(chan struct{}), make(chan struct{})
	x.loop.Post(func() { close(holds); <-done })
	get(x.t, holds)
	do()
	close(done)
}

func get[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		t.Fatal("nothing came")
	}
	return v
}

func take(t *testing.T, c io.Reader, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if n, err := io.ReadFull(c, b); err != nil {
		t.Fatalf("%q, then %v", b[:n], err)
	}
	return b
}

func TestBytesAndEndsGoBothWays(t *testing.T) {
	x := newEnds(t, patience, 0, nil)
	client, server, o := x.carried()
	by := get(t, o.counts)
	io.WriteString(server, "welcome")
	if got := string(take(t, client, 7)); got != "welcome" {
		t.Fatal(got)
	}
	client.CloseWrite()
	if _, err := server.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal("the client's end came as", err)
	}
	io.WriteString(server, "!") // the other direction goes on
	take(t, client, 1)
	server.CloseWrite()
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal("the server's end came as", err)
	}
	if e := get(t, o.ended); e.err != nil || e.received != 8 || by.Sent() != 5 || by.Received() != 8 {
		t.Fatalf("%+v, %d sent, %d received", e, by.Sent(), by.Received())
	}
}

// Both make one edge of the poller, and a read that is short may be all that there is of it.
func TestBytesAndAnEndThatComeTogetherAreBothPassedOn(t *testing.T) {
	x := newEnds(t, patience, 0, nil)
	client, server, _ := x.carried()
	x.held(func() {
		io.WriteString(client, "last words")
		client.CloseWrite()
	})
	if got, err := io.ReadAll(server); string(got) != "last words" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
}

// A read stops before urgent data, though there is more.
func TestWhatStandsBehindUrgentDataIsPassedOn(t *testing.T) {
	x := newEnds(t, patience, 0, nil)
	client, server, _ := x.carried()
	x.held(func() {
		io.WriteString(client, "before")
		raw, err := client.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) })
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(client, "behind")
	})
	if got := string(take(t, server, 13)); got != "before!behind" {
		t.Fatal(got)
	}
}

func TestAResetIsPassedOnAsAReset(t *testing.T) {
	for _, from := range []string{"client", "server"} {
		t.Run(from, func(t *testing.T) {
			x := newEnds(t, patience, 0, nil)
			resets, other, o := x.carried()
			side := relay.Downstream
			if from == "server" {
				resets, other, side = other, resets, relay.Upstream
			}
			resets.SetLinger(0)
			resets.Close()
			if _, err := other.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatal("it came as", err)
			}
			var why *relay.SideError
			if e := get(t, o.ended); !errors.As(e.err, &why) || why.Side != side || !errors.Is(why, syscall.ECONNRESET) {
				t.Fatal(e.err)
			}
		})
	}
}

func TestAPeerThatDoesNotReadIsHandedOverWithWhatIsLeft(t *testing.T) {
	x := newEnds(t, patience, 0, func(o *owner) { o.buffers = 4 << 10 })
	raw, err := x.server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { rawio.SetOption(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10) })
	client, _, o := x.carried()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		client.Write(make([]byte, 8<<20))
	}()
	h := get(t, o.handed)
	client.Close()
	<-sent
	if left := len(h.Begun[down].Left); h.Up < 0 || left == 0 || left > bufferSize || h.Begun[down].Moved >= relayAfter {
		t.Fatalf("%d bytes are left, %d have moved", left, h.Begun[down].Moved)
	}
	rawio.Close(h.Down)
	rawio.Close(h.Up)
}

// One edge of the poller says both.
func TestAServerThatSpeaksAsItIsReachedIsHeard(t *testing.T) {
	x := newEnds(t, patience, 0, func(o *owner) { o.full = true })
	client, o := x.dial()
	io.WriteString(client, "hello")
	x.server.SetDeadline(time.Now().Add(patience))
	server, err := x.server.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	server.SetDeadline(time.Now().Add(patience))
	x.held(func() {
		io.WriteString(server, "welcome")
		take(t, server, o.fill)
	})
	if got := string(take(t, server, 5)); got != "hello" {
		t.Fatal(got)
	}
	if got := string(take(t, client, 7)); got != "welcome" {
		t.Fatal(got)
	}
}

func TestWhatIsLongIsHandedOverWhereItStands(t *testing.T) {
	x := newEnds(t, patience, 0, nil)
	client, server, o := x.carried()
	go server.Write(bytes.Repeat([]byte("x"), 2*relayAfter))
	h := get(t, o.handed)
	if moved := h.Begun[up].Moved; moved < relayAfter || moved > relayAfter+bufferSize || h.Begun[down].Moved != 5 {
		t.Fatalf("%+v", h)
	}
	take(t, client, int(h.Begun[up].Moved)) // as much as is counted, and no more
	rest := h.Begun[up].Left
	rawio.Write(uintptr(h.Down), []byte("|"))
	if got := take(t, client, 1); got[0] != '|' {
		t.Fatalf("more was written than is counted, with %d left", len(rest))
	}
	rawio.Close(h.Down)
	rawio.Close(h.Up)
}

func TestAConnectionInWhichNothingMovesEnds(t *testing.T) {
	x := newEnds(t, patience, time.Millisecond, func(o *owner) { o.idle = 20 * time.Millisecond })
	client, server, o := x.carried()
	if e := get(t, o.ended); !errors.Is(e.err, relay.ErrIdle) {
		t.Fatal(e.err)
	}
	for _, c := range []net.Conn{client, server} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Error("it ended by", err)
		}
	}
}

func TestWhatIsToBeWaitedForIsHandedOver(t *testing.T) {
	gone := listenTCP(t)
	nobody := addressOf(gone)
	gone.Close()
	for _, c := range []struct {
		what, say string
		tick      time.Duration
		change    func(*owner)
	}{
		{"a client that says nothing", "", time.Millisecond, nil},
		{"what is not decided at once", "GET /", patience, func(o *owner) { o.refuse = true }},
		{"a server that refuses", "hello", patience, func(o *owner) { o.to = nobody }},
	} {
		t.Run(c.what, func(t *testing.T) {
			x := newEnds(t, c.tick, 0, c.change)
			client, o := x.dial()
			if c.say != "" {
				io.WriteString(client, c.say)
			}
			h := get(t, o.handed)
			if h.Up != -1 {
				t.Fatalf("%+v", h)
			}
			rawio.Close(h.Down)
			if said := string(h.Said); said != c.say {
				t.Fatalf("%q was said, %q is handed over", c.say, said)
			}
		})
	}
}

// A batch of events holds some of descriptors that were closed within it, and whose slots
// others have by then.
func TestAnEventOfAConnectionThatEndedIsNoneOfTheNext(t *testing.T) {
	x := newEnds(t, patience, 0, nil)
	client, _, o := x.carried()
	before := o.serving.c
	id := before.id(down)
	client.SetLinger(0)
	client.Close()
	get(t, o.ended)
	_, _, next := x.carried()
	got := make(chan *conn, 2)
	x.loop.Post(func() {
		c, _ := x.loop.find(id)
		got <- c
		c, _ = x.loop.find(next.serving.c.id(up))
		got <- c
	})
	if c := get(t, got); c != nil {
		t.Error("an event of a connection that ended is taken for one of another")
	}
	if c := get(t, got); c != next.serving.c || before.slot != c.slot {
		t.Error("the slot is not used again by the next")
	}
}

func TestAConnectionIsEndedFromOutside(t *testing.T) {
	x := newEnds(t, patience, 0, nil)
	client, server, o := x.carried()
	reason := errors.New("withdrawn")
	o.serving.End(reason)
	o.serving.End(reason) // twice is once
	if e := get(t, o.ended); e.err != reason {
		t.Fatal(e.err)
	}
	for _, c := range []net.Conn{client, server} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Error("it ended by", err)
		}
	}
}

func TestNothingIsAcceptedUntilItIsResumed(t *testing.T) {
	listener := listenTCP(t)
	arrived := make(chan int, 4)
	l, err := Open(Config{Listeners: []*net.TCPListener{listener}, Arrived: func(_ *Loop, _, fd int) bool {
		arrived <- fd
		return false
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	defer listener.Close()
	for range 2 {
		c, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	defer rawio.Close(get(t, arrived))
	turn := make(chan struct{})
	l.Post(func() { close(turn) })
	get(t, turn)
	if len(arrived) > 0 {
		t.Fatal("a second one was accepted")
	}
	l.Resume(0)
	rawio.Close(get(t, arrived))
}
