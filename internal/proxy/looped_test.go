package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/internal/record"
)

// What an event loop serves and what goroutines serve ends alike, and has the same record.
func TestAnEventLoopCarriesAsGoroutinesDo(t *testing.T) {
	const host = "www.example.com"
	long := strings.Repeat("0123456789abcdef", 40<<10)
	secure := func(m *meshOf, over net.Conn) *tls.Conn {
		roots := x509.NewCertPool()
		roots.AddCert(m.net.ca)
		c := tls.Client(over, &tls.Config{ServerName: host, RootCAs: roots})
		c.SetDeadline(time.Now().Add(patience))
		return c
	}
	echoed := func(m *meshOf, over net.Conn, text string) error {
		c := secure(m, over)
		defer c.Close()
		if err := c.Handshake(); err != nil {
			return err
		}
		go io.WriteString(c, text)
		got := make([]byte, len(text))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
			return fmt.Errorf("%d bytes came back otherwise, %v", len(text), err)
		}
		return nil
	}
	reset := func(c net.Conn) error {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			return fmt.Errorf("it ended by %v, want a reset", err)
		}
		return nil
	}
	for _, x := range []struct {
		what   string
		do     func(m *meshOf, c *client) error
		begins bool // the loop connects
		either bool // it may, where all comes before it looks
	}{
		{"a short one", func(m *meshOf, c *client) error { return echoed(m, c, "ping") }, true, false},
		{"a long one", func(m *meshOf, c *client) error { return echoed(m, c, long) }, true, false},
		{"a hello in pieces of a byte", func(m *meshOf, c *client) error { return echoed(m, pieces{c}, "ping") }, false, true},
		{"another name", func(m *meshOf, c *client) error {
			if err := tls.Client(c, &tls.Config{ServerName: "www.example.org", InsecureSkipVerify: true}).Handshake(); err == nil {
				return errors.New("it passes")
			}
			return nil
		}, false, false},
		{"no TLS", func(m *meshOf, c *client) error {
			io.WriteString(c, "\x00\x01\x02\x03")
			return reset(c)
		}, false, false},
		{"a client that leaves amid its hello", func(m *meshOf, c *client) error {
			c.Write([]byte{0x16, 3, 1, 1, 0, 1})
			c.CloseWrite()
			io.Copy(io.Discard, c)
			return nil
		}, false, false},
		{"a rule that is withdrawn", func(m *meshOf, c *client) error {
			over := secure(m, c)
			if err := over.Handshake(); err != nil {
				return err
			}
			m.allow()
			return reset(c)
		}, true, false},
		{"rules that are stale", func(m *meshOf, c *client) error {
			over := secure(m, c)
			if err := over.Handshake(); err != nil {
				return err
			}
			m.turnStale()
			return reset(c)
		}, true, false},
		{"a server that is gone", func(m *meshOf, c *client) error {
			m.net.leads(host, "93.184.215.15", syscall.ECONNREFUSED)
			if secure(m, c).Handshake() == nil {
				return errors.New("it passes")
			}
			return nil
		}, false, false},
	} {
		t.Run(x.what, func(t *testing.T) {
			var records []record.Record
			for _, looped := range []bool{false, true} {
				n := newFakeNet(t)
				n.looped = looped
				n.site(host, "93.184.215.15", 443, n.overTLS(echo, host))
				m := newMesh(t, n, rule(t, host))
				if err := echoed(m, m.dial(host, 443), "first"); err != nil { // proves the server
					t.Fatal(err)
				}
				m.lastFlow()
				if err := x.do(m, m.dial(host, 443)); err != nil {
					t.Fatalf("looped %t: %v", looped, err)
				}
				m.closed(2)
				records = append(records, m.lastFlow())
				if began := n.begun.Load() > 0; !x.either && began != (looped && x.begins) {
					t.Errorf("looped %t: %d connections were begun by a loop", looped, n.begun.Load())
				}
			}
			if a, b := outcome(records[0]), outcome(records[1]); a != b {
				t.Errorf("by a goroutine: %s\nby a loop:      %s", a, b)
			}
		})
	}
}

// outcome is what of a record does not differ from one run to the next.
func outcome(r record.Record) string {
	return fmt.Sprintf("%v %v %v %v %v %q %q %v %v, rule %s, upstream %s, some bytes %t %t, %s", r.Direction, r.Verdict, r.Reason, r.Treatment, r.Sniffed, r.SNI, r.Dialled, r.Port, r.Workload,
		r.Rule, r.Upstream, r.Sent > 0, r.Received > 0, r.Detail)
}

// pieces sends what is written a byte at a time.
type pieces struct{ *client }

func (p pieces) Write(b []byte) (n int, err error) {
	for i := range b {
		if _, err := p.client.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// Each connection of a loop counts among those of its workload, both ways, and is listed as
// open, for as long as it lives.
func TestWhatALoopServesIsCountedAndListed(t *testing.T) {
	const host = "www.example.com"
	n := newFakeNet(t)
	n.looped = true
	n.site(host, "93.184.215.15", 443, n.overTLS(echo, host))
	m := newMesh(t, n, rule(t, host))
	roots := x509.NewCertPool()
	roots.AddCert(n.ca)
	shake := func() *tls.Conn {
		c := tls.Client(m.dial(host, 443), &tls.Config{ServerName: host, RootCAs: roots})
		c.SetDeadline(time.Now().Add(patience))
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	shake().Close() // the server has proved itself
	m.lastFlow()
	open, down := m.workload.portion.up, m.workload.portion.down
	until(t, "the first has left", func() bool { return down.Used() == 0 && open.Used() == 0 })
	const many = 20
	conns := make([]*tls.Conn, many)
	for i := range conns {
		conns[i] = shake()
	}
	if open.Used() != many || down.Used() != many || n.begun.Load() != many {
		t.Errorf("%d upstream, %d of the workload, %d begun", open.Used(), down.Used(), n.begun.Load())
	}
	live := m.proxy.Live(100, record.Filter{})
	if len(live) != many || live[0].Received == 0 {
		t.Errorf("%d are listed as open: %+v", len(live), live)
	}
	for _, c := range conns {
		c.NetConn().(*client).Close()
	}
	until(t, "all is given back", func() bool { return open.Used() == 0 && down.Used() == 0 })
}
