package proxy

import (
	"io"
	"net"
	"testing"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// A connection that moves nothing for longer than its port says is ended, whoever was to
// speak.
func TestAConnectionIsIdleForAsLongAsItsPortSays(t *testing.T) {
	n := newFakeNet(t)
	n.site("db.example.com", "93.184.216.34", 5000, func(c net.Conn) {
		io.WriteString(c, "hi")
		echo(c)
	})
	n.site("mixed.example.com", "93.184.216.35", 5001, echo)
	idle := func(text string, timeout time.Duration) policy.Rule {
		r := rule(t, text)
		r.Ports[0].IdleTimeout = timeout
		return r
	}
	const short = 20 * time.Millisecond
	m := newMesh(t, n)
	for _, x := range []struct {
		what, name  string
		port        uint16
		says, hears string
	}{
		{"a client that says nothing where the server speaks first", "db.example.com", 5000, "", "hi"},
		{"a client that has said something", "db.example.com", 5000, "ping", "hiping"},
		{"a client beside rules on names", "mixed.example.com", 5001, "\x01ing", "\x01ing"},
	} {
		t.Run(x.what, func(t *testing.T) {
			rules := func(timeout time.Duration) []policy.Rule {
				return []policy.Rule{idle("db.example.com:5000", timeout), idle("mixed.example.com:5001/tcp", timeout), rule(t, "*.example.com:5001/https")}
			}
			open := func() net.Conn {
				c := m.dial(x.name, x.port)
				c.SetDeadline(time.Now().Add(patience))
				io.WriteString(c, x.says)
				return c
			}
			m.allow(rules(time.Hour)...)
			long := open()
			if _, err := io.ReadFull(long, make([]byte, len(x.hears))); err != nil {
				t.Fatal(err)
			}
			m.allow(rules(short)...) // for those that begin from now on
			before := m.ring.Added()
			ends(t, open()) // whatever it has heard by then: a busy machine is idle too
			m.closed(before + 1)
			if f := m.lastFlow(); f.Verdict != record.Failed || f.Reason != refusal.UpstreamTimeout {
				t.Errorf("the record says %+v", f)
			}
			if m.ring.Added() != before+1 {
				t.Error("the one that began before has ended")
			}
			long.Close()
			m.closed(before + 2)
		})
	}
}
