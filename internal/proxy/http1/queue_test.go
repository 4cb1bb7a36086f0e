package http1_test

import (
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// crowded is a fixture whose workload may have so many upstream connections, all of which
// are busy, and what lets their requests be answered.
func crowded(t *testing.T, connections int, wait time.Duration) (f *fixture, answer chan struct{}, open *share.Member) {
	t.Helper()
	open = share.NewStock(share.Config{Units: connections, Alone: true}).Join(0, nil)
	open.SetWait(wait)
	answer = make(chan struct{})
	f = newFixture(t, func(c *originConn) {
		for {
			c.head()
			<-answer
			c.send(hello)
		}
	}, options{pool: upstream.Config{Allowance: upstream.Allowance{Open: open, Handshakes: open}}})
	for range connections {
		f.client().send(get)
	}
	eventually(t, "the requests are under way", func() bool { return f.pool.Stats().Busy == connections })
	return f, answer, open
}

func TestARequestThatGetsNoUpstreamConnectionInTimeIsAnOverflow(t *testing.T) {
	f, answer, _ := crowded(t, 2, 50*time.Millisecond)
	defer close(answer)
	c := f.client().send(get)
	if head := c.head(); status(head) != "503" || !strings.Contains(head, "x-sluice-reason: overflow\r\n") {
		t.Errorf("answered %q", head)
	}
}

func TestARequestWaitsForAnUpstreamConnectionAndIsAnswered(t *testing.T) {
	f, answer, open := crowded(t, 2, time.Hour)
	c := f.client().send(get)
	eventually(t, "it waits", open.Wanted)
	close(answer)
	if head := c.head(); status(head) != "200" {
		t.Errorf("answered %q", head)
	}
	if n := f.origin.count(); n != 2 {
		t.Errorf("%d connections were made: it was not given one that was answered", n)
	}
}

func TestAClientThatLeavesTheQueueTakesNoConnection(t *testing.T) {
	f, answer, open := crowded(t, 1, time.Hour)
	defer close(answer)
	c := f.client().send(get)
	eventually(t, "it waits", open.Wanted)
	c.SetLinger(0)
	c.Close()
	eventually(t, "it waits no longer", func() bool { return !open.Wanted() })
}

// The connection that is idle for longest makes room; one that is not answered yet, has
// not asked yet or asked a moment ago stays.
func TestTheConnectionThatIsIdleForLongestIsClosed(t *testing.T) {
	var clock clock
	answer := make(chan struct{})
	defer close(answer)
	f := newFixture(t, func(c *originConn) {
		if strings.Contains(c.head(), "/slow") {
			<-answer
			return
		}
		c.send(hello)
	}, options{now: clock.read})
	asked := func() *client { return f.client().send(get).want(hello) }
	isIdle := func(n int) func() bool { return func() bool { return f.server.Idle() == n } }
	first := asked()
	eventually(t, "the first is idle", isIdle(1))
	clock.advance(time.Second)
	second := asked()
	eventually(t, "the second is idle", isIdle(2))
	f.client().send("GET /slow HTTP/1.1\r\nHost: a.example\r\n\r\n")
	f.client()
	eventually(t, "the others are there", func() bool { return f.server.Count() == 4 && f.pool.Stats().Busy == 1 })
	if !f.server.CloseIdle() {
		t.Fatal("none is closed")
	}
	first.wantEnd()
	if f.server.CloseIdle() {
		t.Error("one is closed that was answered a moment ago")
	}
	clock.advance(http1.IdleLeast)
	if !f.server.CloseIdle() {
		t.Error("one that is idle by now stays")
	}
	second.wantEnd()
	if f.server.CloseIdle() || f.server.Count() != 2 {
		t.Error("one is closed that is not idle")
	}
}
