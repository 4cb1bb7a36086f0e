package http1_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/refusal"
)

// later directs each request by a decision that needs time.
func later(decide func(ctx context.Context, f *fixture, x *exchange.Request) exchange.Direction) func(*fixture, *exchange.Request) exchange.Direction {
	return func(f *fixture, x *exchange.Request) exchange.Direction {
		return exchange.Direction{ID: 0xabc, Later: func(ctx context.Context) exchange.Direction { return decide(ctx, f, x) }}
	}
}

func TestADecisionMayTakeItsTime(t *testing.T) {
	large := strings.Repeat("a", 100<<10)
	bodies := map[string]string{"Content-Length: 3\r\n": "abc", "transfer-encoding: chunked\r\n": "3\r\nabc\r\n0\r\n\r\n", "Content-Length: 102400\r\n": large}
	origin := func(c *originConn) {
		for {
			head := c.head()
			for framing, body := range bodies {
				if strings.Contains(head, framing) {
					c.want(body)
				}
			}
			c.send("%s", hello)
		}
	}
	for name, request := range map[string]string{
		"without a body":   "GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n",
		"with a body":      "POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc",
		"in chunks":        "POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"with a long body": "POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 102400\r\n\r\n" + large,
	} {
		t.Run(name, func(t *testing.T) {
			asked, decided := make(chan string, 1), make(chan struct{})
			f := newFixture(t, origin, options{direction: func(f *fixture, x *exchange.Request) exchange.Direction {
				if x.Path != "/a" {
					return exchange.Direction{Upstream: f.pool}
				}
				return later(func(_ context.Context, f *fixture, x *exchange.Request) exchange.Direction {
					asked <- x.Host + x.Path
					<-decided
					return exchange.Direction{Upstream: f.pool}
				})(f, x)
			}})
			c := f.client()
			go c.send("%s", request+get) // what follows waits its turn
			if got := <-asked; got != "a.example/a" {
				t.Errorf("asked about %q", got)
			}
			f.client().send(get).want(hello) // nobody else waits
			if o := f.outcome(); o.Status != 200 {
				t.Errorf("outcome %+v", o)
			}
			close(decided)
			c.want(hello).want(hello)
			for _, sent := range []int{len(request), len(get)} {
				if o := f.outcome(); o.Failure != nil || o.Status != 200 || o.Sent != int64(sent) {
					t.Errorf("outcome %+v, want %d bytes sent", o, sent)
				}
			}
		})
	}
}

func TestALateDecisionMayBeAnyOther(t *testing.T) {
	t.Run("a reply", func(t *testing.T) {
		f := newFixture(t, answering(hello), options{direction: later(func(context.Context, *fixture, *exchange.Request) exchange.Direction {
			return exchange.Direction{Reply: &exchange.Reply{Reason: refusal.NoRule}}
		})})
		c := f.client()
		for range 2 { // the connection goes on
			c.send(get)
			if head := c.head(); status(head) != "403" || !strings.Contains(head, "\r\nx-sluice-id: 0000000000000abc\r\n") {
				t.Errorf("answered %q", head)
			}
			c.want("Sluice denied this request: " + refusal.NoRule.Text() + "\nreason: no-rule\nid: 0000000000000abc\n")
		}
		if f.origin.count() != 0 {
			t.Error("a request that was answered here reached the upstream")
		}
	})
	t.Run("a relay", func(t *testing.T) {
		f := newFixture(t, upgrading, options{direction: later(func(_ context.Context, f *fixture, x *exchange.Request) exchange.Direction {
			return allowingUpgrades(f, x)
		})})
		c := f.client().send(upgrade).want(switched)
		c.send("hello").want("HELLO")
		c.CloseWrite()
		c.want("bye")
	})
	t.Run("a relay that is not allowed", func(t *testing.T) {
		f := newFixture(t, func(c *originConn) {
			if head := c.head(); strings.Contains(strings.ToLower(head), "upgrade") {
				t.Errorf("the upstream got %q", head)
			}
			c.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			c.rest()
		}, options{direction: later(func(_ context.Context, f *fixture, x *exchange.Request) exchange.Direction {
			return exchange.Direction{Upstream: f.pool}
		})})
		if head := f.client().send(upgrade).head(); status(head) != "502" {
			t.Errorf("answered %q", head)
		}
	})
}

func TestWhatEndsAnExchangeEndsItsDecision(t *testing.T) {
	waiting := make(chan struct{}, 1)
	untilEnd := later(func(ctx context.Context, f *fixture, x *exchange.Request) exchange.Direction {
		waiting <- struct{}{}
		<-ctx.Done()
		return exchange.Direction{Upstream: f.pool} // too late
	})
	t.Run("its client", func(t *testing.T) {
		var now clock
		f := newFixture(t, answering(hello), options{limits: http1.Limits{HeaderTimeout: 50 * time.Millisecond}, now: now.read, direction: untilEnd})
		c := f.client().send(get)
		<-waiting
		c.SetLinger(0)
		c.Close()
		eventually(t, "the connection ends", func() bool {
			now.advance(time.Second / 100)
			return f.server.Count() == 0
		})
		if o := f.outcome(); reason(o) != refusal.ClientGone || f.origin.count() != 0 {
			t.Errorf("outcome %+v", o)
		}
	})
	t.Run("its connection", func(t *testing.T) {
		f := newFixture(t, answering(hello), options{direction: untilEnd})
		c := f.client().send(get)
		<-waiting
		f.cancel()
		if got, _ := io.ReadAll(c.r); len(got) != 0 {
			t.Errorf("got %q", got)
		}
		if o := f.outcome(); reason(o) != refusal.Withdrawn || f.origin.count() != 0 {
			t.Errorf("outcome %+v", o)
		}
	})
	for name, tc := range map[string]struct{ timeout, ends time.Duration }{
		"the engine's time-out": {0, shortLimits.AnswerTimeout},
		"a time-out of its own": {40 * time.Millisecond, 40 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			var now clock
			f := newFixture(t, answering(hello), options{limits: shortLimits, now: now.read, direction: func(f *fixture, x *exchange.Request) exchange.Direction {
				direction := untilEnd(f, x)
				direction.Timeout = tc.timeout
				return direction
			}})
			c := f.client().send(get)
			<-waiting
			now.advance(tc.ends - 1)
			f.server.Sweep()
			if !f.server.InPhase(http1.Waiting) {
				t.Error("it ended before its time")
			}
			now.advance(1)
			f.server.Sweep()
			if head := c.head(); status(head) != "504" || !strings.Contains(head, "\r\nx-sluice-reason: decision-timeout\r\nx-sluice-id: 0000000000000abc\r\n") {
				t.Errorf("answered %q", head)
			}
			if got := c.line(); got != "The decision about the request did not come in time.\n" {
				t.Errorf("told %q", got)
			}
			if o := f.outcome(); reason(o) != refusal.DecisionTimeout || f.origin.count() != 0 {
				t.Errorf("outcome %+v", o)
			}
		})
	}
}
