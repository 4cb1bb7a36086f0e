package upstream

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/share"
)

// A pool that was closed looks after its connections of HTTP/2 until the last one has ended: a
// server that is late ends with its connection, though nothing new begins.
func TestAClosedPoolStillEndsAConnectionThatIsLate(t *testing.T) {
	begun := make(chan struct{})
	address := server(t, func(c net.Conn) {
		io.WriteString(c, "\x00\x00\x00\x04\x00\x00\x00\x00\x00") // SETTINGS
		<-begun
		io.WriteString(c, "\x00\x00\x01\x01\x00\x00\x00\x00\x01\x88") // HEADERS whose block does not end
		io.Copy(io.Discard, c)
	})
	var runs, aborted atomic.Bool
	var seconds atomic.Int64
	stock := share.NewStock(share.Config{Units: 10, Alone: true})
	open := stock.Join(0, nil)
	sessions := new(Sessions)
	p, err := NewPool(Config{Versions: HTTP2, Allowance: Allowance{Open: open, Handshakes: open, Sessions: sessions}, Dial: dialTo(address), IdleTimeout: 20 * time.Millisecond, Now: func() time.Duration {
		if runs.Load() {
			return time.Duration(seconds.Add(1)) * time.Second
		}
		return 0
	}})
	if err != nil {
		t.Fatal(err)
	}
	st, err := p.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Send(exchange.Message("GET / HTTP/1.1\r\nhost: a.example\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	close(begun)
	p.Close(false)
	runs.Store(true)
	after := time.AfterFunc(patience, func() { aborted.Store(true); st.Abort() })
	defer after.Stop()
	if n, err := st.Exchange(nil, make([]byte, 100)); err == nil || aborted.Load() {
		t.Errorf("%d bytes, %v, aborted %v", n, err, aborted.Load())
	}
	st.Release(false)
	sessions.living.Wait()
	if n := stock.Used(); n != 0 {
		t.Errorf("%d are held still", n)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sweeper != nil {
		t.Error("it still looks after connections, and has none")
	}
}
