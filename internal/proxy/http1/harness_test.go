package http1_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
)

// patience bounds every wait of a test; nothing waits for it where all is well.
const patience = time.Minute

// fixture is one proxy between a test's client and a test's upstream.
type fixture struct {
	t        testing.TB
	server   *http1.Server
	pool     *upstream.Pool
	listener *net.TCPListener
	origin   *origin
	serving  sync.WaitGroup
	cancel   context.CancelFunc
	quiet    bool

	mu        sync.Mutex
	direction func(x *exchange.Request) exchange.Direction
	refusals  []exchange.Outcome
	closed    chan exchange.Outcome
}

// Stay and Leave make a fixture the life of its connections: all may be parked.
func (f *fixture) Stay()  { f.serving.Add(1) }
func (f *fixture) Leave() { f.serving.Done() }

func (f *fixture) Direct(x *exchange.Request) exchange.Direction {
	if f.direction != nil {
		return f.direction(x)
	}
	return exchange.Direction{Upstream: f.pool}
}

func (f *fixture) Done(x *exchange.Request, o exchange.Outcome) {
	if f.quiet {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case f.closed <- o:
	default:
	}
}

func (f *fixture) Refused(o exchange.Outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refusals = append(f.refusals, o)
}

// reason is why an exchange failed; "" where it did not.
func reason(o exchange.Outcome) refusal.Reason {
	if o.Failure == nil {
		return ""
	}
	return o.Failure.Reason
}

// outcome waits for the next outcome.
func (f *fixture) outcome() exchange.Outcome {
	f.t.Helper()
	select {
	case o := <-f.closed:
		return o
	case <-time.After(patience):
		f.t.Fatal("no exchange has ended")
		panic("unreachable")
	}
}

type options struct {
	limits    http1.Limits
	pool      upstream.Config
	direction func(f *fixture, x *exchange.Request) exchange.Direction
	now       func() time.Duration
	prefix    string
	settled   func()
	quiet     bool          // keep no outcomes: a test counts allocations
	patience  time.Duration // with the rest of a short body; 0: the engine's
	hold      time.Duration // of heads of chunked answers; 0: the engine's
}

// allowance is what a workload may use that is alone.
func allowance(connections int) upstream.Allowance {
	open := share.NewStock(share.Config{Units: connections, Alone: true}).Join(0, nil)
	return upstream.Allowance{Open: open, Handshakes: share.NewStock(share.Config{Units: connections, Alone: true}).Join(0, nil)}
}

// newFixture starts a proxy before an origin that handle plays.
func newFixture(t testing.TB, handle func(c *originConn), o options) *fixture {
	t.Helper()
	f := &fixture{t: t, quiet: o.quiet, closed: make(chan exchange.Outcome, 1024)}
	f.origin = newOrigin(t, handle)
	if o.pool.Dial == nil {
		o.pool.Dial = dialTo(f.origin.address())
	}
	if o.pool.Open == nil {
		o.pool.Allowance = allowance(1024)
	}
	var err error
	if f.pool, err = upstream.NewPool(o.pool); err != nil {
		t.Fatal(err)
	}
	if o.direction != nil {
		f.direction = func(x *exchange.Request) exchange.Direction { return o.direction(f, x) }
	}
	f.server = http1.NewServer(http1.Config{Limits: o.limits, Now: o.now, Settled: o.settled})
	if o.hold > 0 {
		f.server.HoldHeads(o.hold)
	}
	if o.patience > 0 {
		f.server.WaitForBodies(o.patience)
	}
	f.listener = listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.serving.Add(1)
	go func() {
		defer f.serving.Done()
		for {
			c, err := f.listener.AcceptTCP()
			if err != nil {
				return
			}
			f.serving.Add(1)
			go func() {
				defer f.serving.Done()
				f.server.Serve(ctx, c, []byte(o.prefix), f, f)
			}()
		}
	}()
	t.Cleanup(f.close)
	return f
}

func (f *fixture) close() {
	f.listener.Close()
	f.cancel()
	f.serving.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.server.Shutdown(ctx); err != nil {
		f.t.Errorf("shutdown: %v", err)
	}
	f.pool.Close(true)
	if s := f.pool.Stats(); s != (upstream.Stats{}) {
		f.t.Errorf("upstream connections are left: %+v", s)
	}
	f.origin.close()
}

func listen(t testing.TB) *net.TCPListener {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l.(*net.TCPListener)
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

// client connects to the proxy.
func (f *fixture) client() *client {
	f.t.Helper()
	c, err := dialTo(f.listener.Addr().String())(context.Background())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &client{t: f.t, TCPConn: c, r: bufio.NewReader(c)}
}

// client is a test's end of a connection; what fails there fails the test.
type client struct {
	t testing.TB
	*net.TCPConn
	r *bufio.Reader
}

func (c *client) send(format string, args ...any) *client {
	c.t.Helper()
	text := format
	if len(args) > 0 {
		text = fmt.Sprintf(format, args...)
	}
	if _, err := io.WriteString(c.TCPConn, text); err != nil {
		c.t.Fatalf("send: %v", err)
	}
	return c
}

// head reads up to the empty line.
func (c *client) head() string {
	c.t.Helper()
	var b strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			c.t.Fatalf("after %q: %v", b.String(), err)
		}
		if line == "\r\n" {
			return b.String()
		}
	}
}

func (c *client) bytes(n int) string {
	c.t.Helper()
	b := make([]byte, n)
	if m, err := io.ReadFull(c.r, b); err != nil {
		c.t.Fatalf("after %q: %v", b[:m], err)
	}
	return string(b)
}

// want reads exactly that.
func (c *client) want(text string) *client {
	c.t.Helper()
	if got := c.bytes(len(text)); got != text {
		c.t.Fatalf("got %q, want %q", got, text)
	}
	return c
}

// rest reads up to the end of the stream.
func (c *client) rest() string {
	c.t.Helper()
	b, err := io.ReadAll(c.r)
	if err != nil {
		c.t.Fatalf("after %q: %v", b, err)
	}
	return string(b)
}

func (c *client) wantEnd() {
	c.t.Helper()
	if got := c.rest(); got != "" {
		c.t.Fatalf("got %q, want the end", got)
	}
}

// origin is an upstream that a test plays byte by byte.
type origin struct {
	listener *net.TCPListener
	mu       sync.Mutex
	conns    []net.Conn
	accepted int
	running  sync.WaitGroup
}

type originConn struct {
	*client
	number int // of the connection, from 1
}

func newOrigin(t testing.TB, handle func(c *originConn)) *origin {
	o := &origin{listener: listen(t)}
	o.running.Add(1)
	go func() {
		defer o.running.Done()
		for {
			c, err := o.listener.AcceptTCP()
			if err != nil {
				return
			}
			o.mu.Lock()
			o.conns = append(o.conns, c)
			o.accepted++
			number := o.accepted
			o.mu.Unlock()
			o.running.Add(1)
			go func() {
				defer o.running.Done()
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				handle(&originConn{client: &client{t: quiet{t}, TCPConn: c, r: bufio.NewReader(c)}, number: number})
			}()
		}
	}()
	return o
}

func (o *origin) address() string { return o.listener.Addr().String() }

func (o *origin) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.accepted
}

func (o *origin) close() {
	o.listener.Close()
	o.mu.Lock()
	for _, c := range o.conns {
		c.Close()
	}
	o.mu.Unlock()
	o.running.Wait()
}

// quiet ends an origin's goroutine where the stream ends, without failing the
// test: the client's side says what went wrong.
type quiet struct{ testing.TB }

func (quiet) Helper()               {}
func (quiet) Fatalf(string, ...any) { runtimeGoexit() }
func (quiet) Fatal(...any)          { runtimeGoexit() }

// answering is an origin that answers every request alike.
func answering(answer string) func(*originConn) {
	return func(c *originConn) {
		for {
			c.head()
			c.send("%s", answer)
		}
	}
}

const hello = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
