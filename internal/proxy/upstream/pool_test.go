package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/refusal"
)

// patience is how long a test waits for what must come; nothing waits longer than
// it has to.
const patience = time.Minute

// server accepts connections and gives each to handle.
func server(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				handle(c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
	return l.Addr().String()
}

func dialTo(address string) func(context.Context) (*net.TCPConn, error) {
	return func(ctx context.Context) (*net.TCPConn, error) {
		var d net.Dialer
		d.SetMultipathTCP(false)
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		return c.(*net.TCPConn), nil
	}
}

// allowance is what a workload may use that is alone.
func allowance(connections int) Allowance {
	return Allowance{
		Open:       share.NewStock(share.Config{Units: connections, Alone: true}).Join(0, nil),
		Handshakes: share.NewStock(share.Config{Units: 64, Alone: true}).Join(0, nil),
	}
}

func newPool(t testing.TB, c Config) *Pool {
	t.Helper()
	if c.Open == nil {
		c.Allowance = allowance(1024)
	}
	p, err := NewPool(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(true) })
	return p
}

func mustDial(t testing.TB, p *Pool) *Conn {
	t.Helper()
	c, err := p.Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return c.(*Conn)
}

// isTimeout says what the contract of Abort says of an error.
func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// echo sends back what comes.
func echo(c net.Conn) { io.Copy(c, c) }

func TestTheLastConnectionPutIsTheFirstTaken(t *testing.T) {
	p := newPool(t, Config{Dial: dialTo(server(t, echo)), MaxIdle: 2})
	if p.Take() != nil {
		t.Error("an empty pool gave a connection")
	}
	a, b, c := mustDial(t, p), mustDial(t, p), mustDial(t, p)
	if s := p.Stats(); s != (Stats{Busy: 3}) {
		t.Errorf("%+v", s)
	}
	for _, conn := range []*Conn{a, b, c} {
		conn.Release(true)
	}
	if s := p.Stats(); s != (Stats{Idle: 2}) {
		t.Errorf("beyond MaxIdle: %+v", s)
	}
	if p.Take() != b || p.Take() != a || p.Take() != nil || !a.Reused() || c.Reused() {
		t.Error("not in the order of a stack")
	}
	a.Release(false)
	b.Release(false)
	if s := p.Stats(); s != (Stats{}) {
		t.Errorf("%+v", s)
	}
}

func TestAnExchangeWritesWaitsAndReads(t *testing.T) {
	p := newPool(t, Config{Dial: dialTo(server(t, echo))})
	c := mustDial(t, p)
	defer c.Release(false)
	b := make([]byte, 10)
	if n, err := c.Exchange([]byte("hello"), b); err != nil || string(b[:n]) != "hello" {
		t.Errorf("%q, %v", b[:n], err)
	}
	if _, err := c.Write([]byte("again")); err != nil {
		t.Error(err)
	}
	if n, err := c.Exchange(nil, b); err != nil || string(b[:n]) != "again" {
		t.Errorf("%q, %v", b[:n], err)
	}
	c.CloseWrite()
	if n, err := c.Exchange(nil, b); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d, %v", n, err)
	}
	if c.Remote().Addr().String() != "127.0.0.1" {
		t.Errorf("remote %v", c.Remote())
	}
}

func TestALongWriteParksUntilThereIsRoom(t *testing.T) {
	const size = 20 << 20
	p := newPool(t, Config{Dial: dialTo(server(t, func(c net.Conn) {
		time.Sleep(50 * time.Millisecond) // the buffers fill
		n, _ := io.CopyN(io.Discard, c, size)
		if n == size {
			c.Write([]byte("done"))
		}
	}))})
	c := mustDial(t, p)
	defer c.Release(false)
	b := make([]byte, 10)
	if n, err := c.Exchange(make([]byte, size), b); err != nil || string(b[:n]) != "done" {
		t.Errorf("%q, %v", b[:n], err)
	}
}

func TestAbortEndsAnExchange(t *testing.T) {
	p := newPool(t, Config{Dial: dialTo(server(t, func(c net.Conn) { io.Copy(io.Discard, c) }))})
	c := mustDial(t, p)
	time.AfterFunc(10*time.Millisecond, c.Abort)
	if _, err := c.Exchange([]byte("x"), make([]byte, 10)); !isTimeout(err) {
		t.Errorf("%v", err)
	}
	c.Release(true)
	if s := p.Stats(); s != (Stats{}) {
		t.Errorf("an aborted connection was kept: %+v", s)
	}
}

func TestIdleConnectionsAreClosedWhenOldOrWhenTheirPeerIs(t *testing.T) {
	t.Run("old", func(t *testing.T) {
		var now atomic.Int64
		p := newPool(t, Config{Dial: dialTo(server(t, echo)), IdleTimeout: 40 * time.Millisecond, Now: func() time.Duration { return time.Duration(now.Load()) }})
		mustDial(t, p).Release(true)
		p.sweep()
		if s := p.Stats(); s.Idle != 1 {
			t.Errorf("too early: %+v", s)
		}
		now.Store(int64(time.Minute))
		eventually(t, "the sweep closes it", func() bool { return p.Stats().Idle == 0 })
	})
	t.Run("closed", func(t *testing.T) {
		p := newPool(t, Config{Dial: dialTo(server(t, func(c net.Conn) {})), IdleTimeout: 40 * time.Millisecond, Now: func() time.Duration { return 0 }})
		mustDial(t, p).Release(true)
		eventually(t, "the sweep closes it", func() bool { return p.Stats().Idle == 0 })
	})
	t.Run("speaking unasked", func(t *testing.T) {
		var spoken sync.WaitGroup
		spoken.Add(1)
		p := newPool(t, Config{Dial: dialTo(server(t, func(c net.Conn) {
			c.Write([]byte("HTTP/1.1 408 Request Timeout\r\n\r\n"))
			spoken.Done()
			io.Copy(io.Discard, c)
		}))})
		mustDial(t, p).Release(true)
		spoken.Wait()
		eventually(t, "Take gives no such connection", func() bool {
			c := p.Take()
			if c != nil {
				c.Release(true)
			}
			return c == nil
		})
	})
}

func TestAClosedPoolGivesNothing(t *testing.T) {
	for _, abort := range []bool{false, true} {
		p := newPool(t, Config{Dial: dialTo(server(t, echo))})
		idle, busy := mustDial(t, p), mustDial(t, p)
		idle.Release(true)
		p.Close(abort)
		if !p.Closed() {
			t.Error("the pool is not closed")
		}
		if _, err := p.Dial(context.Background()); refusal.Of(err).Reason != refusal.Withdrawn || p.Take() != nil {
			t.Errorf("%v", err)
		}
		_, err := busy.Exchange([]byte("x"), make([]byte, 1))
		if abort != isTimeout(err) || !abort && err != nil {
			t.Errorf("abort %v: %v", abort, err)
		}
		busy.Release(true)
		if s := p.Stats(); s != (Stats{}) {
			t.Errorf("connections are left: %+v", s)
		}
	}
}

func TestAPoolClosedDuringADialGivesNothing(t *testing.T) {
	address := server(t, echo)
	var p *Pool
	p = newPool(t, Config{Dial: func(ctx context.Context) (*net.TCPConn, error) {
		p.Close(true)
		return dialTo(address)(ctx)
	}})
	if _, err := p.Dial(context.Background()); refusal.Of(err).Reason != refusal.Withdrawn {
		t.Errorf("%v", err)
	}
}

func TestAConfigurationThatCannotBeRightIsRefused(t *testing.T) {
	dial := dialTo("127.0.0.1:1")
	for name, c := range map[string]Config{
		"no dialer":                    {Allowance: allowance(1)},
		"no allowance":                 {Dial: dial},
		"no name to verify":            {Allowance: allowance(1), Dial: dial, TLS: &tls.Config{}},
		"verification is switched off": {Allowance: allowance(1), Dial: dial, TLS: &tls.Config{ServerName: "a.example", InsecureSkipVerify: true}},
	} {
		if _, err := NewPool(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestAnExchangeAllocatesNothingOfItsOwn counts both ends: crypto/tls allocates
// once for each read, at the server as at the client.
func TestAnExchangeAllocatesNothingOfItsOwn(t *testing.T) {
	if raceDetector {
		t.Skip("under the race detector sync.Pool drops what it is given")
	}
	for name, tc := range map[string]struct {
		pool *Pool
		most float64
	}{
		"plain": {newPool(t, Config{Dial: dialTo(server(t, func(c net.Conn) {
			b := make([]byte, 4096)
			for {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				c.Write(b[:n])
			}
		}))}), 0},
		"tls": {tlsEcho(t, tls.VersionTLS13), 2},
	} {
		c := mustDial(t, tc.pool)
		defer c.Release(false)
		out, in := make([]byte, 1024), make([]byte, 4096)
		n := testing.AllocsPerRun(500, func() {
			if n, err := c.Exchange(out, in); err != nil || n != len(out) {
				t.Fatal(n, err)
			}
		})
		if n > tc.most {
			t.Errorf("%s: %v allocations, want at most %v", name, n, tc.most)
		}
	}
}

func BenchmarkExchange(b *testing.B) {
	run := func(b *testing.B, p *Pool) {
		c := mustDial(b, p)
		defer c.Release(false)
		out, in := make([]byte, 1024), make([]byte, 4096)
		b.ReportAllocs()
		for b.Loop() {
			if n, err := c.Exchange(out, in); err != nil || n != len(out) {
				b.Fatal(n, err)
			}
		}
	}
	b.Run("plain", func(b *testing.B) { run(b, newPool(b, Config{Dial: dialTo(server(b, echo))})) })
	b.Run("tls", func(b *testing.B) { run(b, tlsEcho(b, tls.VersionTLS13)) })
}

// BenchmarkExchangeOfATakenConnection is what one request costs a pool in all.
func BenchmarkExchangeOfATakenConnection(b *testing.B) {
	run := func(b *testing.B, p *Pool) {
		mustDial(b, p).Release(true)
		out, in := make([]byte, 1024), make([]byte, 4096)
		b.ReportAllocs()
		for b.Loop() {
			c := p.Take()
			if n, err := c.Exchange(out, in); err != nil || n != len(out) {
				b.Fatal(n, err)
			}
			c.Release(true)
		}
	}
	b.Run("plain", func(b *testing.B) { run(b, newPool(b, Config{Dial: dialTo(server(b, echo))})) })
	b.Run("tls", func(b *testing.B) { run(b, tlsEcho(b, tls.VersionTLS13)) })
}
