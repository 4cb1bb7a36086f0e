package http2_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sluice.dev/sluice/internal/proxy/http2"
)

// newClient returns a connection of ours to a server that speaks frames by the test's hand.
func newClient(t *testing.T, limits http2.Limits) (*http2.Client, *peer) {
	t.Helper()
	start := time.Now()
	return newClientAt(t, limits, func() time.Duration { return time.Since(start) })
}

func newClientAt(t *testing.T, limits http2.Limits, now func() time.Duration) (*http2.Client, *peer) {
	t.Helper()
	l := listen(t)
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	c := http2.NewClient(conn, netip.AddrPort{}, limits, now, func() { close(ended) })
	t.Cleanup(func() {
		theirs.Close()
		c.Close(true)
		<-ended
	})
	p := serverOn(t, theirs)
	if err := c.Ready(context.Background()); err != nil {
		t.Fatal(err)
	}
	return c, p
}

// serverOn is the server's end of a connection.
func serverOn(t *testing.T, conn net.Conn) *peer {
	t.Helper()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(conn, make([]byte, len(xhttp2.ClientPreface))); err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, conn: conn, framer: xhttp2.NewFramer(conn, conn)}
	p.framer.AllowIllegalWrites = true
	p.hpack = hpack.NewEncoder(&p.block)
	p.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.framer.WriteSettings()
	return p
}

// taken waits until all that was said is taken.
func (p *peer) taken() {
	p.t.Helper()
	p.framer.WritePing(false, [8]byte{1})
	p.until("PING is answered", func(f xhttp2.Frame) bool {
		ping, ok := f.(*xhttp2.PingFrame)
		return ok && ping.IsAck()
	})
}

// request waits for the next request, and returns its stream.
func (p *peer) request() (id uint32) {
	p.t.Helper()
	p.until("a request", func(f xhttp2.Frame) bool {
		_, ok := f.(*xhttp2.MetaHeadersFrame)
		id = f.Header().StreamID
		return ok
	})
	return id
}
