package upstream

import (
	"context"
	"io"
	"net"
	"testing"

	"sluice.dev/sluice/internal/proxy/share"
)

// Whoever ends a workload has back at once what its connections of HTTP/2 held, though they
// live beyond their exchanges, and beyond the pools that were closed before.
func TestSessionsGiveBackWhatTheyHoldBeforeTheWorkloadIsGone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.WriteString(c, "\x00\x00\x00\x04\x00\x00\x00\x00\x00") // SETTINGS, and nothing else
				io.Copy(io.Discard, c)
			}()
		}
	}()
	stock := share.NewStock(share.Config{Units: 10, Alone: true})
	open := stock.Join(0, nil)
	sessions := new(Sessions)
	newPool := func() *Pool {
		p, err := NewPool(Config{Versions: HTTP2, Allowance: Allowance{Open: open, Handshakes: open, Sessions: sessions}, Dial: func(ctx context.Context) (*net.TCPConn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
			if err != nil {
				return nil, err
			}
			return c.(*net.TCPConn), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	idle, busy, later := newPool(), newPool(), newPool()
	st, err := idle.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st.Release(false)
	if _, err := busy.Dial(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := stock.Used(); n != 2 {
		t.Errorf("%d are held, want 2", n)
	}
	idle.Close(false) // its server does not end its side
	busy.Close(false) // the stream goes on
	sessions.Close()
	if n := stock.Used(); n != 0 {
		t.Errorf("%d are held still", n)
	}
	if _, err := later.Dial(t.Context()); err == nil {
		t.Error("another connection was opened")
	}
	if n := stock.Used(); n != 0 {
		t.Errorf("%d are held by one that was not to be", n)
	}
	later.Close(true)
}
