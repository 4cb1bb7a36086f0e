package http2_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// patience bounds every wait of a test; nothing waits for it where all is well.
const patience = time.Minute

// fixture is a proxy between the clients of a test and its server.
type fixture struct {
	t       testing.TB
	one     *http1.Server
	two     *http2.Server
	pool    *upstream.Pool
	address string
	origin  *net.TCPListener
	serving sync.WaitGroup
	cancel  context.CancelFunc

	mu        sync.Mutex
	branches  int // that are open
	most      int // branches that may be
	direction func(x *exchange.Request) exchange.Direction
	done      chan exchange.Outcome
	refused   chan exchange.Outcome
	hold      chan struct{} // nil, or what the record of each request waits for
}

// branch directs the requests of one line, as the fixture says.
type branch struct {
	*fixture
}

// Branch implements exchange.Multiplexed.
func (f *fixture) Branch() (exchange.Branch, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.most > 0 && f.branches >= f.most {
		return exchange.Branch{}, false
	}
	f.branches++
	ctx, cancel := context.WithCancel(context.Background())
	return exchange.Branch{Context: ctx, Director: branch{f}, Leave: func() {
		cancel()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.branches--
	}}, true
}

func (f *fixture) Direct(x *exchange.Request) exchange.Direction {
	f.mu.Lock()
	direction := f.direction
	f.mu.Unlock()
	if direction != nil {
		return direction(x)
	}
	return exchange.Direction{Upstream: f.pool, AllowUpgrade: true, Explain: true}
}

// directs says how requests are directed from now on.
func (f *fixture) directs(direction func(x *exchange.Request) exchange.Direction) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.direction = direction
}

func (f *fixture) Done(_ *exchange.Request, o exchange.Outcome) {
	select {
	case f.done <- o:
	default:
	}
	f.mu.Lock()
	hold := f.hold
	f.mu.Unlock()
	if hold != nil {
		<-hold
	}
}

func (f *fixture) Refused(o exchange.Outcome) {
	select {
	case f.refused <- o:
	default:
	}
}

// newFixture serves clients, and sends their requests to a server by a version.
func newFixture(t testing.TB, versions upstream.Versions, server http.Handler, limits http2.Limits) *fixture {
	t.Helper()
	return newFixtureWithin(t, versions, server, limits, http1.Limits{})
}

func newFixtureWithin(t testing.TB, versions upstream.Versions, server http.Handler, limits http2.Limits, one http1.Limits) *fixture {
	t.Helper()
	f := &fixture{t: t, done: make(chan exchange.Outcome, 1000), refused: make(chan exchange.Outcome, 1000)}
	f.two = http2.NewServer(http2.Config{Limits: limits, Serve: func(ctx context.Context, line *http2.Line, director exchange.Director) {
		f.one.ServeStream(ctx, line, director)
	}})
	f.one = http1.NewServer(http1.Config{Limits: one, HTTP2: func(ctx context.Context, tcp *net.TCPConn, said []byte, director exchange.Multiplexed) {
		f.two.Serve(ctx, tcp, said, director)
	}})
	open := share.NewStock(share.Config{Units: 1000, Alone: true}).Join(0, nil)
	origin := listen(t)
	f.origin = origin
	config := upstream.Config{Versions: versions, Allowance: upstream.Allowance{Open: open, Handshakes: open}, Dial: func(ctx context.Context) (*net.TCPConn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", origin.Addr().String())
		if err != nil {
			return nil, err
		}
		return c.(*net.TCPConn), nil
	}}
	var err error
	if f.pool, err = upstream.NewPool(config); err != nil {
		t.Fatal(err)
	}
	if server != nil {
		both := new(http.Protocols)
		both.SetHTTP1(true)
		both.SetUnencryptedHTTP2(true)
		behind := &http.Server{Handler: server, Protocols: both}
		go behind.Serve(origin)
		t.Cleanup(func() { behind.Close() })
	}
	ours := listen(t)
	f.address = ours.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	go func() {
		for {
			c, err := ours.AcceptTCP()
			if err != nil {
				return
			}
			f.serving.Go(func() { f.one.Serve(ctx, c, nil, f, nil) })
		}
	}()
	t.Cleanup(func() {
		ours.Close()
		cancel()
		f.serving.Wait()
		f.pool.Close(true)
	})
	return f
}

func listen(t testing.TB) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// client speaks HTTP/2 with the proxy by prior knowledge.
func (f *fixture) client() *http.Client {
	two := new(http.Protocols)
	two.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: two, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", f.address)
	}}
	f.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}
