package upstream

import (
	"io"
	"net"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/share"
)

func TestAKeptConnectionIsItsKeepersAlone(t *testing.T) {
	p := newPool(t, Config{Dial: dialTo(server(t, echo)), IdleTimeout: time.Second, Now: stopped})
	c := mustDial(t, p)
	c.Keep()
	if p.Take() != nil {
		t.Error("another got it")
	}
	p.now = func() time.Duration { return time.Second - 1 }
	p.sweep()
	if !c.Again() || !c.Reused() {
		t.Fatal("its keeper did not get it")
	}
	b := make([]byte, 8)
	if n, err := c.Exchange([]byte("hello"), b); err != nil || string(b[:n]) != "hello" {
		t.Errorf("%q, %v", b[:n], err)
	}
	c.Keep()
	c.Release(false)
	if s := p.Stats(); s != (Stats{}) || p.kept != 0 {
		t.Errorf("%+v, %d kept", s, p.kept)
	}
}

func TestTheSweepClosesAKeptConnectionWhosePeerHasGone(t *testing.T) {
	p := newPool(t, Config{Dial: dialTo(server(t, func(net.Conn) {})), IdleTimeout: 40 * time.Millisecond, Now: stopped})
	c := mustDial(t, p)
	c.Keep()
	eventually(t, "the sweep closes it", func() bool { return p.Stats() == (Stats{}) })
	if c.Again() {
		t.Error("it can be used again")
	}
	c.Release(false) // as its keeper may
	if s := p.Stats(); s != (Stats{}) || p.kept != 0 {
		t.Errorf("%+v, %d kept", s, p.kept)
	}
}

func TestAPoolThatIsClosedKeepsNothing(t *testing.T) {
	for _, abort := range []bool{false, true} {
		ended := make(chan struct{})
		p := newPool(t, Config{Dial: dialTo(server(t, func(c net.Conn) { io.Copy(io.Discard, c); close(ended) }))})
		c := mustDial(t, p)
		c.Keep()
		p.Close(abort)
		<-ended
		if c.Again() {
			t.Error("it can be used again")
		}
		other := &Conn{pool: p, tcp: c.tcp}
		other.Keep() // what comes back after Close
		if p.kept != 0 {
			t.Errorf("%d kept", p.kept)
		}
	}
}

func TestAKeptConnectionThatIsNotUsedIsReclaimed(t *testing.T) {
	for name, reclaim := range map[string]func(*Pool){
		"by the sweep, in time": func(p *Pool) {
			p.now = func() time.Duration { return time.Hour }
			p.sweep()
		},
		"for who needs its unit": func(p *Pool) {
			p.now = func() time.Duration { return time.Hour / 2 }
			if d, ok := p.LongestIdle(); !ok || d != time.Hour/2 || !p.CloseLongestIdle() {
				t.Errorf("one is idle: %v, for %v", ok, d)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t, Config{Dial: dialTo(server(t, echo)), IdleTimeout: time.Hour, Now: stopped})
			c, busy, young := mustDial(t, p), mustDial(t, p), mustDial(t, p)
			c.Keep()
			p.now = func() time.Duration { return time.Hour / 4 }
			young.Keep()
			reclaim(p)
			if c.Again() {
				t.Error("it can be used again")
			}
			c.Release(false) // as its keeper may
			if !young.Again() || p.kept != 0 {
				t.Errorf("one that was used later is closed too, or %d are kept", p.kept)
			}
			young.Release(false)
			busy.Release(false)
			if s := p.Stats(); s != (Stats{}) || p.CloseLongestIdle() {
				t.Errorf("%+v, or one is idle still", s)
			}
		})
	}
}

// A connection that is kept is idle as one that was put: it does not keep others waiting for as
// long as its keeper likes.
func TestAKeptConnectionMakesWayForWhoWaitsAlready(t *testing.T) {
	a, b, of := circuitOf(t, 1, Config{Dial: dialTo(server(t, echo))})
	workloads, open := poolsOf(t, 1, 2)
	for name, x := range map[string]struct {
		keeps, waits *Pool
		of           *share.Member
	}{
		"for the same pool":       {a, a, of.connections},
		"for another pool":        {a, b, of.connections},
		"of the workload's":       {workloads[0], workloads[0], open},
		"of the workload's, else": {workloads[0], workloads[1], open},
	} {
		t.Run(name, func(t *testing.T) {
			c := mustDial(t, x.keeps)
			other := waiting(t, t.Context(), x.waits, x.of)
			c.Keep()
			select {
			case d := <-other:
				if d.err != nil || d.conn == c || c.Again() || x.of.Used() != 1 {
					t.Errorf("%v, or its keeper has it still, or %d are counted", d.err, x.of.Used())
				}
				d.conn.Release(false)
			case <-time.After(patience):
				t.Fatal("it waits for as long as the connection is kept")
			}
			c.Release(false) // as its keeper may
		})
	}
}

func TestAKeptConnectionEndsAfterSoManyExchangesToo(t *testing.T) {
	p := newPool(t, Config{Dial: dialTo(server(t, echo)), MaxExchanges: 2})
	c := mustDial(t, p)
	c.Keep()
	if !c.Again() {
		t.Fatal("it ends after one")
	}
	c.Keep()
	if c.Again() || p.Stats() != (Stats{}) {
		t.Errorf("it is used a third time: %+v", p.Stats())
	}
	c.Release(false)
}
