package http1_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
)

// clock is a time that only the test moves. The sweeper still wakes by the
// machine's, soon where the limits are short.
type clock struct{ now atomic.Int64 }

func (c *clock) read() time.Duration      { return time.Duration(c.now.Load()) }
func (c *clock) advance(by time.Duration) { c.now.Add(int64(by)) }
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// shortLimits make the sweeper wake every 20 ms; on the test's clock nothing
// runs out until it is moved.
var shortLimits = http1.Limits{
	HeaderTimeout:   50 * time.Millisecond,
	IdleTimeout:     51 * time.Millisecond,
	AnswerTimeout:   52 * time.Millisecond,
	TransferTimeout: 53 * time.Millisecond,
	UpgradeTimeout:  54 * time.Millisecond,
}

func TestWaitsEnd(t *testing.T) {
	const long = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000\r\n\r\n"
	silent := func(c *originConn) { c.rest() }
	isIdle := func(f *fixture) bool { return f.server.InPhase(http1.Idle) }
	isReading := func(f *fixture) bool { return f.server.InPhase(http1.Reading) }
	isWaiting := func(f *fixture) bool { return f.server.InPhase(http1.Waiting) && f.pool.Stats().Busy == 1 }
	isMoving := func(f *fixture) bool { return f.server.InPhase(http1.Moving) }
	pumps := func(*fixture) bool { return http1.Parked("http1.(*pump).run") == 1 }
	var heard atomic.Int64
	hasSentAll := func(f *fixture) bool { return heard.Load() == 100000 && isWaiting(f) }
	cases := []struct {
		name    string
		origin  func(*originConn)
		send    string
		before  string // what the client gets before time passes
		until   func(f *fixture) bool
		status  string // and afterwards; "" is the bare end
		failure refusal.Reason
		refused refusal.Reason
	}{
		{name: "a new connection without a request", origin: silent, until: func(f *fixture) bool { return f.server.InPhase(http1.Fresh) }},
		{name: "an idle connection", origin: answering(hello), send: get, before: hello, until: isIdle},
		{name: "half a request line", until: isReading, origin: silent, send: "GET / HT", status: "408", refused: refusal.RequestTimeout},
		{name: "half a head", until: isReading, origin: silent, send: "GET / HTTP/1.1\r\nHost: a.exam", status: "408", refused: refusal.RequestTimeout},
		{name: "half a head after a request", until: isReading, origin: answering(hello), send: get + "GET /", before: hello, status: "408", refused: refusal.RequestTimeout},
		{name: "half a short body", until: isReading, origin: silent, send: "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nabc", status: "408", refused: refusal.RequestTimeout},
		{name: "half a long body", until: pumps, origin: silent, send: long + "abc", status: "408", failure: refusal.RequestTimeout},
		{name: "no answer", until: isWaiting, origin: silent, send: get, status: "504", failure: refusal.UpstreamTimeout},
		{name: "half an answer's head", until: isWaiting, origin: func(c *originConn) { c.head(); c.send("HTTP/1.1 200"); c.rest() }, send: get, status: "504", failure: refusal.UpstreamTimeout},
		{name: "no answer to a long body", until: hasSentAll, origin: func(c *originConn) { c.head(); heard.Store(int64(len(c.bytes(100000)))); c.rest() }, send: long + strings.Repeat("a", 100000), status: "504", failure: refusal.UpstreamTimeout},
		{name: "half a body of an answer", until: isMoving, origin: func(c *originConn) { c.head(); c.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"); c.rest() },
			send: get, before: "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", failure: refusal.UpstreamTimeout},
		{name: "an upgraded connection without bytes", until: isMoving, origin: func(c *originConn) {
			c.head()
			c.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			c.rest()
		}, send: "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
			before: "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", failure: refusal.UpstreamTimeout},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var now clock
			f := newFixture(t, tc.origin, options{limits: shortLimits, now: now.read, patience: patience, direction: func(f *fixture, x *exchange.Request) exchange.Direction {
				return exchange.Direction{Upstream: f.pool, AllowUpgrade: true}
			}})
			c := f.client()
			c.t = t
			c.send("%s", tc.send).want(tc.before)
			eventually(t, "the connection waits", func() bool { return tc.until(f) })
			ended := make(chan struct{})
			go func() { // time passes until all that is under way has ended
				for {
					select {
					case <-ended:
						return
					case <-time.After(10 * time.Millisecond):
						now.advance(20 * time.Millisecond)
					}
				}
			}()
			defer close(ended)
			if tc.status != "" {
				if head := c.head(); status(head) != tc.status || !strings.Contains(head, "\r\nconnection: close\r\n") {
					t.Errorf("answered %q, want %s", head, tc.status)
				}
				c.rest()
			} else {
				io.Copy(io.Discard, c.r)
			}
			c.Close()
			eventually(t, "the connection ends", func() bool { return f.server.Count() == 0 })
			if tc.failure != "" {
				if o := f.outcome(); reason(o) != tc.failure {
					t.Errorf("outcome %+v, want %s", o, tc.failure)
				}
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if tc.refused != "" && (len(f.refusals) != 1 || reason(f.refusals[0]) != tc.refused) {
				t.Errorf("refused %+v, want %s", f.refusals, tc.refused)
			}
		})
	}
}

func TestATimeoutOfTheDirectionHoldsForTheWholeExchange(t *testing.T) {
	var now clock
	f := newFixture(t, func(c *originConn) {
		c.head()
		c.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
		for { // something moves all the time
			if _, err := c.Write([]byte("a")); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
			now.advance(time.Millisecond)
		}
	}, options{limits: shortLimits, now: now.read, direction: func(f *fixture, x *exchange.Request) exchange.Direction {
		return exchange.Direction{Upstream: f.pool, Timeout: 100 * time.Millisecond}
	}})
	c := f.client().send(get)
	c.head()
	io.Copy(io.Discard, c.r)
	if o := f.outcome(); reason(o) != refusal.UpstreamTimeout {
		t.Errorf("outcome %+v", o)
	}
}

func TestAClientThatDoesNotReadIsLetGo(t *testing.T) {
	var now clock
	f := newFixture(t, func(c *originConn) {
		c.head()
		c.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
		c.floods()
	}, options{limits: shortLimits, now: now.read})
	c := f.client().send(get)
	eventually(t, "the proxy and the upstream are held back", func() bool {
		return http1.Parked("http1.(*conn).write") == 1 && http1.Parked("http1_test.(*client).floods") == 1
	})
	now.advance(time.Minute)
	if o := f.outcome(); reason(o) != refusal.ClientStalled {
		t.Errorf("outcome %+v", o)
	}
	io.Copy(io.Discard, c.r)
}

func TestAClientThatIsResetDoesNotKeepItsUpstreamBusy(t *testing.T) {
	for name, answer := range map[string]string{
		"before its answer":       "",
		"in the middle of it":     "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
		"between events of a day": "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var now clock
			f := newFixture(t, func(c *originConn) {
				c.head()
				c.send("%s", answer)
				c.rest()
			}, options{limits: http1.Limits{HeaderTimeout: 50 * time.Millisecond}, now: now.read})
			c := f.client().send(get)
			eventually(t, "the request is under way", func() bool { return f.pool.Stats().Busy == 1 })
			c.want(answer)
			c.SetLinger(0)
			c.Close()
			eventually(t, "the exchange ends", func() bool {
				now.advance(time.Second / 100)
				return f.pool.Stats().Busy == 0
			})
			if o := f.outcome(); reason(o) != refusal.ClientGone || o.Status == 0 != (answer == "") {
				t.Errorf("outcome %+v", o)
			}
		})
	}
}

func TestAReusedUpstreamConnectionThatEndsIsReplaced(t *testing.T) {
	var requests atomic.Int32
	f := newFixture(t, func(c *originConn) {
		c.head()
		requests.Add(1)
		c.send(hello)
		c.head() // the second request comes, and is not answered
		requests.Add(1)
	}, options{})
	c := f.client()
	c.send(get).want(hello)
	c.send(get).want(hello)
	if n := f.origin.count(); n != 2 {
		t.Errorf("%d upstream connections, want two", n)
	}
	if o := f.outcome(); o.Failure != nil {
		t.Errorf("outcome %+v", o)
	}
	if o := f.outcome(); o.Failure != nil || o.Reused {
		t.Errorf("outcome %+v", o)
	}
	if n := requests.Load(); n != 3 {
		t.Errorf("%d requests reached the upstream, want 3", n)
	}
}

func TestARequestIsNotSentTwiceWhereThatCouldMatter(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n"
	for name, tc := range map[string]struct{ request, before string }{
		"not idempotent":              {post, ""},
		"part of an answer was there": {get, "HTTP/1.1 2"},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			f := newFixture(t, func(c *originConn) {
				c.head()
				c.send(hello)
				c.head()
				requests.Add(1)
				c.send("%s", tc.before)
			}, options{})
			c := f.client()
			c.t = t
			c.send(get).want(hello)
			c.send("%s", tc.request)
			if head := c.head(); status(head) != "502" || !strings.Contains(head, "x-sluice-reason: upstream-reset\r\n") {
				t.Errorf("answered %q", head)
			}
			c.bytes(0)
			if n := requests.Load(); n != 1 {
				t.Errorf("the request was sent %d times", n)
			}
		})
	}
}

// ends ends the connection, and returns when the proxy's kernel knows it.
func (c *originConn) ends() {
	c.CloseWrite()
	raw, err := c.SyscallConn()
	for known := false; err == nil && !known; time.Sleep(time.Millisecond) {
		err = raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			known = err != nil || info.State != unix.BPF_TCP_ESTABLISHED && info.State != unix.BPF_TCP_FIN_WAIT1
		})
	}
	c.Close()
}

func TestAnIdleUpstreamThatHasClosedIsNotUsed(t *testing.T) {
	closed := make(chan struct{}, 2)
	f := newFixture(t, func(c *originConn) {
		c.head()
		c.send(hello)
		c.ends()
		closed <- struct{}{}
	}, options{})
	c := f.client()
	for range 2 {
		c.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n").want(hello)
		<-closed
	}
}

func TestAFailureToConnectIsTold(t *testing.T) {
	nobody := listen(t)
	nobody.Close()
	cases := []struct {
		name   string
		dial   func(context.Context) (*net.TCPConn, error)
		head   string
		reason refusal.Reason
		told   string // where the direction says Explain
		less   string // where it does not
	}{
		{"nobody listens", dialTo(nobody.Addr().String()), "HTTP/1.1 502 Bad Gateway\r\n", refusal.UpstreamConnect,
			"connect: dial tcp " + nobody.Addr().String() + ": connect: connection refused.", "The upstream could not be reached."},
		{"a reason of its own", func(context.Context) (*net.TCPConn, error) {
			return nil, refusal.New(refusal.PrivateAddress, "10.0.0.1 is a private address")
		}, "HTTP/1.1 403 Forbidden\r\n", refusal.PrivateAddress,
			"Sluice denied this request: 10.0.0.1 is a private address.",
			"Sluice denied this request: The destination is a private, local or reserved address, and no rule consents to that address."},
		{"never", func(ctx context.Context) (*net.TCPConn, error) { <-ctx.Done(); return nil, context.Cause(ctx) }, "HTTP/1.1 502 Bad Gateway\r\n", refusal.UpstreamConnect,
			"connect: context deadline exceeded.", "The upstream could not be reached."},
	}
	for _, tc := range cases {
		for _, explain := range []bool{false, true} {
			t.Run(tc.name, func(t *testing.T) {
				timeout := patience
				if tc.name == "never" {
					timeout = 10 * time.Millisecond
				}
				f := newFixture(t, answering(hello), options{pool: upstream.Config{Dial: tc.dial, ConnectTimeout: timeout},
					direction: func(f *fixture, x *exchange.Request) exchange.Direction {
						return exchange.Direction{Upstream: f.pool, ID: 1, Explain: explain}
					}})
				c := f.client()
				c.t = t
				for range 2 { // the client's connection goes on
					c.send(get)
					head := c.head()
					if !strings.HasPrefix(head, tc.head) || !strings.Contains(head, "x-sluice-reason: "+string(tc.reason)+"\r\nx-sluice-id: 0000000000000001\r\n") {
						t.Errorf("answered %q", head)
					}
					want := tc.less
					if explain {
						want = tc.told
					}
					if body := c.line(); body != want+"\n" {
						t.Errorf("told %q, want %q", body, want)
					}
					c.want("reason: " + string(tc.reason) + "\nid: 0000000000000001\n")
					if o := f.outcome(); reason(o) != tc.reason || o.Upstream.IsValid() {
						t.Errorf("outcome %+v", o)
					}
				}
			})
		}
	}
}

func TestWhatWasReadBeforeIsServedFirst(t *testing.T) {
	f := newFixture(t, answering(hello), options{prefix: get + "GET / HT"})
	c := f.client().want(hello)
	c.send("TP/1.1\r\nHost: a.example\r\n\r\n").want(hello)

	large := "GET /" + strings.Repeat("a", 20<<10) + " HTTP/1.1\r\nHost: a.example\r\n\r\n"
	f = newFixture(t, answering(hello), options{prefix: large})
	f.client().want(hello)
}
