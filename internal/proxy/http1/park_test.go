package http1_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// asleep waits until so many connections are parked.
func (f *fixture) asleep(n int) {
	f.t.Helper()
	eventually(f.t, "they are parked", func() bool { return f.server.Asleep() == n })
}

func TestAConnectionWhoseRequestsFollowEachOtherKeepsItsGoroutine(t *testing.T) {
	var now clock // which stands still: no request is late
	f := newFixture(t, answering(hello), options{now: now.read})
	c := f.client()
	c.send(get).want(hello)
	f.asleep(1)
	c.send(get).want(hello)
	f.asleep(0)
	waits := func() bool {
		return http1.Parked("http1.(*Server).Serve") == 0 && http1.Parked("http1.(*conn).resume") == 1
	}
	eventually(t, "it waits on its goroutine", waits)
	c.send(get).want(hello)
	eventually(t, "and again", waits)

	f.server.Sweep() // sees that it waits
	now.advance(2 * time.Second)
	f.server.Sweep()
	f.asleep(1) // it was quiet
	now.advance(time.Second)
	c.send(get).want(hello)
	f.asleep(1) // for it was asleep for long
}

// A call that comes as a request does must not end the reading of its body.
func TestAConnectionThatIsCalledAsItsRequestComesServesIt(t *testing.T) {
	var now clock
	f := newFixture(t, func(c *originConn) {
		for {
			if head := c.head(); strings.HasPrefix(head, "POST") {
				c.bytes(100000)
			}
			c.send("%s", hello)
		}
	}, options{now: now.read})
	c := f.client()
	c.send(get).want(hello)
	f.asleep(1)
	c.send(get).want(hello)
	eventually(t, "it waits on its goroutine", func() bool { return http1.Parked("http1.(*conn).resume") == 1 })
	half := strings.Repeat("a", 50000)
	for range 20 {
		f.server.Call() // turns the wait into one that is called, and its deadline passes
		c.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000\r\n\r\n%s", half)
		f.server.Call()
		c.send("%s", half).want(hello)
	}
	if got := f.server.Count(); got != 1 {
		t.Errorf("%d connections, want one", got)
	}
}

func TestWhatIsParkedEndsByItsTimeOutAndByShutdown(t *testing.T) {
	var now clock
	f := newFixture(t, answering(hello), options{limits: shortLimits, now: now.read})
	c := f.client()
	c.send(get).want(hello)
	f.asleep(1)
	now.advance(time.Second)
	c.wantEnd()
	eventually(t, "it is gone", func() bool { return f.server.Count() == 0 })

	c = f.client()
	c.send(get).want(hello)
	f.asleep(1)
	if err := f.server.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	c.wantEnd()
}

// A failure that is told outside of the callback is written as a body is: what comes after
// is a wait for a request all the same.
func TestWhatIsParkedAfterAFailureIsIdle(t *testing.T) {
	for name, end := range map[string]func(f *fixture, now *clock) error{
		"drain": func(f *fixture, _ *clock) error {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			return f.server.Shutdown(ctx)
		},
		"in favour of another": func(f *fixture, now *clock) error {
			now.advance(time.Second)
			if !f.server.CloseIdle() {
				return errors.New("there is none that is idle")
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			var now clock
			refusing := upstream.Config{Dial: func(context.Context) (*net.TCPConn, error) { return nil, syscall.ECONNREFUSED }}
			f := newFixture(t, answering(hello), options{now: now.read, pool: refusing, direction: func(f *fixture, _ *exchange.Request) exchange.Direction {
				return exchange.Direction{Later: func(context.Context) exchange.Direction { return exchange.Direction{Upstream: f.pool} }}
			}})
			c := f.client()
			c.send(get)
			f.asleep(1)
			if o := f.outcome(); o.Failure == nil {
				t.Fatal("the request did not fail")
			}
			if err := end(f, &now); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestItIsSaidOnceThatManyConnectionsHaveCome(t *testing.T) {
	const many = http1.SettledAfter
	for _, x := range []struct {
		looks []uint32
		want  int
	}{
		{[]uint32{many - 1, many - 1, many - 1}, 0},
		{[]uint32{many, 2 * many, 3 * many}, 0}, // they still come
		{[]uint32{many, many, many, many + 1, many + 1}, 1},
		{[]uint32{many, many, 2*many - 1, 2*many - 1, 2 * many, 2 * many}, 2},
	} {
		if got := http1.Settles(x.looks...); got != x.want {
			t.Errorf("%v: said %d times, want %d", x.looks, got, x.want)
		}
	}
	said := make(chan int, 10)
	f := newFixture(t, answering(hello), options{limits: shortLimits, now: new(clock).read, settled: func() { said <- 0 }})
	for range many {
		f.client().send(get).want(hello)
	}
	f.asleep(many)
	<-said
}
