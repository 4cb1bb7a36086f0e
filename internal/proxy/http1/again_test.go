package http1_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

// retrier tries again until so many attempts were made.
type retrier struct {
	each  time.Duration
	most  int
	wait  time.Duration
	asked chan exchange.Attempt
}

func (r *retrier) AttemptTimeout() time.Duration { return r.each }

func (r *retrier) Again(a exchange.Attempt) (time.Duration, bool) {
	r.asked <- a
	return r.wait, a.Number < r.most && (a.Failure != nil || a.Status >= 500)
}

func newRetrier(most int) *retrier {
	return &retrier{most: most, asked: make(chan exchange.Attempt, 16)}
}

const unavailable = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nno\n"

// A request is sent again, as it was, after an answer that its Retrier does not take, and
// nothing of that answer reaches the client.
func TestARequestIsSentAgainWithItsBody(t *testing.T) {
	for name, body := range map[string]string{
		"of a length": "Content-Length: 5\r\n\r\nhello",
		"in chunks":   "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			retry, n := newRetrier(3), atomic.Int64{}
			var first atomic.Value
			f := newFixture(t, func(c *originConn) {
				for {
					head := c.head()
					if head == "" {
						return
					}
					got := head
					if strings.Contains(head, "chunked") {
						for range 5 {
							got += c.line()
						}
					} else {
						got += c.bytes(5)
					}
					if before := first.Swap(got); before != nil && before != got {
						t.Errorf("the upstream got %q and then %q", before, got)
					}
					if n.Add(1) < 3 {
						c.send("%s", "HTTP/1.1 103 Early Hints\r\n\r\n"+unavailable)
						continue
					}
					c.send("%s", hello)
				}
			}, options{direction: func(f *fixture, x *exchange.Request) exchange.Direction {
				return exchange.Direction{Upstream: f.pool, Retry: retry, Append: []exchange.Field{{Name: "x", Value: "1"}}}
			}})
			c := f.client().send("POST / HTTP/1.1\r\nHost: a.example\r\n%s", body)
			head := c.head()
			for status(head) == "103" {
				head = c.head()
			}
			if status(head) != "200" {
				t.Errorf("answered %q", head)
			}
			if o := f.outcome(); o.Attempts != 3 || o.Status != 200 || o.Failure != nil {
				t.Errorf("outcome %+v", o)
			}
		})
	}
}

// A failure before the head of an answer is tried again; after it, half an answer is cut.
func TestWhatFailsBeforeItsAnswerIsTriedAgain(t *testing.T) {
	retry, n := newRetrier(2), atomic.Int64{}
	f := newFixture(t, func(c *originConn) {
		c.head()
		if n.Add(1) == 1 {
			return // reset, or closed
		}
		c.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
	}, options{direction: func(f *fixture, x *exchange.Request) exchange.Direction {
		return exchange.Direction{Upstream: f.pool, Retry: retry}
	}})
	c := f.client().send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n")
	if got := c.rest(); !strings.HasSuffix(got, "\r\n\r\nhalf") {
		t.Errorf("the client got %q", got)
	}
	if o := f.outcome(); o.Attempts != 2 || reason(o) != refusal.UpstreamReset || o.Status != 200 {
		t.Errorf("outcome %+v", o)
	}
	if a := <-retry.asked; a.Failure == nil || a.Failure.Reason != refusal.UpstreamReset || a.Number != 1 {
		t.Errorf("asked about %+v", a)
	}
	if a := <-retry.asked; a.Status != 200 || a.Number != 2 {
		t.Errorf("asked about %+v", a)
	}
}

// A body that is not held is never sent twice, and what may become a relay neither.
func TestWhatIsNotHeldIsNotSentAgain(t *testing.T) {
	long := strings.Repeat("x", 64<<10)
	for name, request := range map[string]string{
		"a long body": fmt.Sprintf("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n%s", len(long), long),
		"an upgrade":  "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			retry := newRetrier(3)
			f := newFixture(t, func(c *originConn) {
				if head := c.head(); strings.HasPrefix(head, "POST") {
					c.bytes(len(long))
				}
				c.send("%s", unavailable)
				c.rest()
			}, options{direction: func(f *fixture, x *exchange.Request) exchange.Direction {
				return exchange.Direction{Upstream: f.pool, Retry: retry, AllowUpgrade: true}
			}})
			c := f.client()
			go c.send("%s", request)
			if head := c.head(); status(head) != "503" {
				t.Errorf("answered %q", head)
			}
			if o := f.outcome(); o.Attempts != 1 || len(retry.asked) != 0 {
				t.Errorf("outcome %+v, asked %d times", o, len(retry.asked))
			}
		})
	}
}

// An answer that does not come in time is a 504, for one attempt and for all, and the
// client's connection serves its next request.
func TestAnAnswerThatIsLateIsA504AndTheConnectionGoesOn(t *testing.T) {
	for name, dir := range map[string]exchange.Direction{
		"the whole":       {HeadTimeout: 50 * time.Millisecond},
		"of one attempt":  {HeadTimeout: time.Hour, Retry: &retrier{each: 30 * time.Millisecond, most: 2, asked: make(chan exchange.Attempt, 16)}},
		"between the two": {HeadTimeout: 50 * time.Millisecond, Retry: &retrier{each: 30 * time.Millisecond, most: 9, wait: time.Hour, asked: make(chan exchange.Attempt, 16)}},
	} {
		t.Run(name, func(t *testing.T) {
			var now clock
			f := newFixture(t, func(c *originConn) {
				for {
					head := c.head()
					switch {
					case head == "":
						return
					case strings.HasPrefix(head, "GET /slow"):
						now.advance(60 * time.Millisecond) // in which nothing comes
						c.rest()
						return
					}
					c.send("%s", hello)
				}
			}, options{now: now.read, direction: func(f *fixture, x *exchange.Request) exchange.Direction {
				d := dir
				d.Upstream, d.Explain = f.pool, true
				return d
			}})
			c := f.client()
			for range 2 {
				c.send("GET /slow HTTP/1.1\r\nHost: a.example\r\n\r\n")
				head := c.head()
				if status(head) != "504" || !strings.Contains(head, "x-sluice-reason: upstream-timeout\r\n") {
					t.Errorf("answered %q", head)
				}
				if said := c.line(); !strings.Contains(said, "no answer within") {
					t.Errorf("told %q", said)
				}
				c.line() // reason
				if o := f.outcome(); reason(o) != refusal.UpstreamTimeout || name == "of one attempt" && o.Attempts != 2 {
					t.Errorf("outcome %+v", o)
				}
				c.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
				if head := c.head(); status(head) != "200" {
					t.Errorf("the next one is answered %q", head)
				}
				c.want("hello")
				f.outcome()
			}
		})
	}
}

// The time is that to the answer's head: neither a long answer, nor a long request, nor a
// relay is ended by it.
func TestATimeOutEndsNoStream(t *testing.T) {
	const timeout = 50 * time.Millisecond
	var now clock
	pass := func() { // time, also for whoever looks at the machine's whether it is over
		now.advance(2 * timeout)
		time.Sleep(2 * timeout)
	}
	half, passed := make(chan struct{}), make(chan struct{})
	f := newFixture(t, func(c *originConn) {
		for { // a connection that ended after an answer could be taken before that is seen
			head := c.head()
			switch {
			case strings.HasPrefix(head, "GET /upgrade"):
				pass()
				c.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
				<-passed
				c.send("frame")
				return
			case strings.HasPrefix(head, "POST"):
				c.bytes(3)
				close(half)
				c.bytes(3)
				c.send("%s", hello)
			default:
				c.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
				<-passed
				c.send("event")
			}
		}
	}, options{now: now.read, direction: func(f *fixture, x *exchange.Request) exchange.Direction {
		return exchange.Direction{Upstream: f.pool, HeadTimeout: timeout, AllowUpgrade: true}
	}, patience: time.Millisecond})
	c := f.client().send("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
	c.head()
	pass()
	passed <- struct{}{}
	if got := c.rest(); got != "event" {
		t.Errorf("a long answer: %q", got)
	}
	c = f.client().send("GET /upgrade HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	if head := c.head(); status(head) != "101" {
		t.Errorf("a relay: %q", head)
	}
	pass()
	passed <- struct{}{}
	if got := c.rest(); got != "frame" {
		t.Errorf("a relay: %q", got)
	}
	c = f.client().send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 6\r\n\r\nabc")
	<-half
	pass()
	c.send("def")
	if head := c.head(); status(head) != "200" {
		t.Errorf("a long request: %q", head)
	}
}

// What signs a connection in is not sent again, and the connection goes to nobody else.
func TestASignedInRequestIsNotSentAgain(t *testing.T) {
	retry := newRetrier(3)
	f := newFixture(t, func(c *originConn) {
		for c.head() != "" {
			c.send("%s", unavailable)
		}
	}, options{direction: func(f *fixture, x *exchange.Request) exchange.Direction {
		dir := exchange.Direction{Upstream: f.pool}
		if x.Path == "/signs-in" {
			dir.Retry = retry
		}
		return dir
	}})
	first := f.client().send("GET /signs-in HTTP/1.1\r\nHost: a.example\r\nAuthorization: NTLM TlRM\r\n\r\n")
	if head := first.head(); status(head) != "503" {
		t.Errorf("answered %q", head)
	}
	if o := f.outcome(); o.Attempts != 1 || len(retry.asked) != 0 {
		t.Errorf("outcome %+v, asked %d times", o, len(retry.asked))
	}
	f.client().send(get).head() // another client
	f.outcome()
	if got := f.origin.count(); got != 2 {
		t.Errorf("%d upstream connections for two clients", got)
	}
}

// An answer that begins before the request is all there is not ended when the request is.
func TestATimeOutEndsNoAnswerThatBeganEarly(t *testing.T) {
	const timeout = 50 * time.Millisecond
	began, sent := make(chan struct{}), make(chan struct{})
	var now clock
	f := newFixture(t, func(c *originConn) {
		c.head()
		c.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
		<-sent
		c.bytes(64 << 10)
		now.advance(3 * timeout)
		time.Sleep(3 * timeout) // for who looks at the machine's time whether that is over
		c.send("event")
	}, options{now: now.read, direction: func(f *fixture, x *exchange.Request) exchange.Direction {
		return exchange.Direction{Upstream: f.pool, HeadTimeout: timeout}
	}, patience: time.Millisecond})
	c := f.client().send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n%s", 64<<10, strings.Repeat("x", 32<<10))
	go func() {
		<-began
		c.send("%s", strings.Repeat("x", 32<<10))
		close(sent)
	}()
	if head := c.head(); status(head) != "200" {
		t.Errorf("answered %q", head)
	}
	close(began)
	c.want("event")
}

// slowUpstream gives a connection only after a while.
type slowUpstream struct {
	exchange.Upstream
	wait time.Duration
}

func (s slowUpstream) Take() exchange.Stream {
	u := s.Upstream.Take()
	time.Sleep(s.wait)
	return u
}

// A time-out is kept that comes before there is a connection to end.
func TestATimeOutBeforeTheConnectionIsThereIsKept(t *testing.T) {
	const timeout = 30 * time.Millisecond
	f := newFixture(t, func(c *originConn) {
		for strings.HasPrefix(c.head(), "GET /first") {
			c.send("%s", hello)
		}
		c.rest()
	}, options{direction: func(f *fixture, x *exchange.Request) exchange.Direction {
		if x.Path == "/first" {
			return exchange.Direction{Upstream: f.pool}
		}
		return exchange.Direction{Upstream: slowUpstream{f.pool, 3 * timeout}, HeadTimeout: timeout}
	}})
	c := f.client().send("GET /first HTTP/1.1\r\nHost: a.example\r\n\r\n").want(hello)
	f.outcome()
	c.send("GET /late HTTP/1.1\r\nHost: a.example\r\n\r\n")
	if head := c.head(); status(head) != "504" {
		t.Errorf("answered %q", head)
	}
}
