package http2_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// A stream that was under way when its client was told of the end is refused alone, with all
// its frames; and what the client was told of the last stream is never raised.
func TestAStreamAfterTheLastOneIsRefusedAlone(t *testing.T) {
	hold, begun := make(chan struct{}), make(chan struct{})
	f := newFixture(t, upstream.HTTP11, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-hold
		io.WriteString(w, "done")
	}), http2.Limits{})
	p := f.peer(t)
	p.get(1)
	<-begun
	done := make(chan error, 1)
	go func() { done <- f.two.Shutdown(context.Background()) }()
	p.until("the last stream is said", func(fr xhttp2.Frame) bool {
		g, ok := fr.(*xhttp2.GoAwayFrame)
		return ok && g.LastStreamID == 1
	})
	p.begin(3, false, ":method", "POST", ":scheme", "http", ":authority", "a.example", ":path", "/")
	p.framer.WriteData(3, true, []byte("12345"))
	p.reset(3, xhttp2.ErrCodeRefusedStream)
	close(hold)
	if status := p.answer(1); status != "200" {
		t.Errorf("it gets %s", status)
	}
	p.framer.WriteData(0, true, nil) // ends the connection, where it goes on still
	for {
		fr, err := p.framer.ReadFrame()
		if err != nil {
			break
		}
		if g, ok := fr.(*xhttp2.GoAwayFrame); ok && g.LastStreamID > 1 {
			t.Errorf("the last stream is %d afterwards", g.LastStreamID)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A request whose stream would begin after the end of a connection was said, by either side, is
// known not to have begun: it may be sent elsewhere.
func TestARequestAfterTheLastStreamHasNotBegun(t *testing.T) {
	for _, who := range []string{"the server", "the client"} {
		c, p := newClient(t, http2.Limits{IdleTimeout: time.Nanosecond})
		st := c.Take()
		if who == "the server" {
			p.framer.WriteGoAway(1<<31-1, xhttp2.ErrCodeNo, nil)
			p.taken()
		} else {
			c.Check() // it was idle for too long until a moment ago
		}
		if err := st.Send(exchange.Message("GET / HTTP/1.1\r\nhost: a.example\r\n\r\n")); !errors.Is(err, exchange.ErrNotBegun) {
			t.Errorf("after a GOAWAY of %s: %v", who, err)
		}
		st.Release(false)
	}
}
