package http1_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
)

func TestWhatIsWithdrawnEnds(t *testing.T) {
	waits := func(c *originConn) { c.head(); c.rest() }
	t.Run("an exchange, with its pool", func(t *testing.T) {
		f := newFixture(t, waits, options{})
		c := f.client().send(get)
		eventually(t, "the request is under way", func() bool { return f.pool.Stats().Busy == 1 })
		f.pool.Close(true)
		if head := c.head(); status(head) != "503" || !strings.Contains(head, "x-sluice-reason: withdrawn\r\n") {
			t.Errorf("answered %q", head)
		}
		c.line()
		c.want("reason: withdrawn\n")
		c.send(get)
		if head := c.head(); status(head) != "503" {
			t.Errorf("answered %q", head)
		}
	})
	t.Run("an answer under way, with its pool", func(t *testing.T) {
		f := newFixture(t, func(c *originConn) {
			c.head()
			c.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
			c.rest()
		}, options{})
		c := f.client().send(get)
		c.head()
		c.want("abc")
		f.pool.Close(true)
		if got, _ := io.ReadAll(c.r); len(got) != 0 {
			t.Errorf("got %q", got)
		}
		if o := f.outcome(); reason(o) != refusal.Withdrawn {
			t.Errorf("outcome %+v", o)
		}
	})
	t.Run("idle connections, by their context", func(t *testing.T) {
		f := newFixture(t, answering(hello), options{})
		c := f.client().send(get).want(hello)
		f.cancel()
		io.Copy(io.Discard, c.r)
	})
	t.Run("busy connections, by their context", func(t *testing.T) {
		f := newFixture(t, waits, options{})
		c := f.client().send(get)
		eventually(t, "the request is under way", func() bool { return f.pool.Stats().Busy == 1 })
		f.cancel()
		if got, _ := io.ReadAll(c.r); len(got) != 0 {
			t.Errorf("got %q", got)
		}
		if o := f.outcome(); reason(o) != refusal.Withdrawn {
			t.Errorf("outcome %+v", o)
		}
	})
	t.Run("connections that are being dialled, by their context", func(t *testing.T) {
		dialling := make(chan struct{})
		f := newFixture(t, waits, options{pool: upstream.Config{Dial: func(ctx context.Context) (*net.TCPConn, error) {
			close(dialling)
			<-ctx.Done()
			return nil, ctx.Err()
		}}})
		c := f.client().send(get)
		<-dialling
		f.cancel()
		if got, _ := io.ReadAll(c.r); len(got) != 0 {
			t.Errorf("got %q", got)
		}
		if o := f.outcome(); reason(o) != refusal.Withdrawn {
			t.Errorf("outcome %+v", o)
		}
	})
	t.Run("an upgraded connection, by its context", func(t *testing.T) {
		f := newFixture(t, upgrading, options{direction: allowingUpgrades})
		c := f.client().send(upgrade).want(switched)
		f.cancel()
		io.Copy(io.Discard, c.r)
		if o := f.outcome(); reason(o) != refusal.Withdrawn || !o.Upgraded {
			t.Errorf("outcome %+v", o)
		}
	})
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	release := make(chan struct{})
	f := newFixture(t, func(c *originConn) {
		c.head()
		<-release
		c.send(hello)
		c.rest()
	}, options{})
	idle := f.client()
	busy := f.client().send(get)
	eventually(t, "both are served", func() bool { return f.server.Count() == 2 && f.pool.Stats().Busy == 1 })
	ended := make(chan error)
	go func() { ended <- f.server.Shutdown(context.Background()) }()
	idle.wantEnd()
	close(release)
	busy.want("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
	busy.wantEnd()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got, _ := io.ReadAll(f.client().r); !strings.HasPrefix(string(got), "HTTP/1.1 503 Service Unavailable\r\n") || !strings.Contains(string(got), "x-sluice-reason: stopping\r\n") {
		t.Errorf("got %q", got)
	}
}

func TestConnectionsHaveABound(t *testing.T) {
	f := newFixture(t, answering(hello), options{limits: http1.Limits{MaxConnections: 2}})
	first, second := f.client(), f.client()
	for range 2 {
		first.send(get).want(hello)
		second.send(get).want(hello)
	}
	if got := f.client().rest(); !strings.HasPrefix(got, "HTTP/1.1 503 Service Unavailable\r\n") || !strings.Contains(got, "x-sluice-reason: overflow\r\n") {
		t.Errorf("got %q", got)
	}
	first.Close()
	eventually(t, "there is room", func() bool { return f.server.Count() == 1 })
	f.client().send(get).want(hello)
}

func (c *client) wantEndOrReset() {
	if b, _ := io.ReadAll(c.r); len(b) != 0 {
		c.t.Errorf("got %q", b)
	}
}

func TestShutdownCutsOffWhatDoesNotFinish(t *testing.T) {
	f := newFixture(t, func(c *originConn) { c.head(); c.rest() }, options{})
	c := f.client().send(get)
	eventually(t, "the request is under way", func() bool { return f.pool.Stats().Busy == 1 })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.server.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: %v", err)
	}
	c.wantEndOrReset()
}
