package upstream

import (
	"io"
	"net"
	"testing"
	"time"
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
