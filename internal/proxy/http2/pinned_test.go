package http2_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// A client may begin its next stream once it has read the end of one, however late the proxy is
// with its record.
func TestAStreamThatHasEndedIsNotInTheWayOfTheNext(t *testing.T) {
	f := newFixture(t, upstream.HTTP11, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), http2.Limits{MaxStreams: 1})
	hold := make(chan struct{})
	defer close(hold)
	f.mu.Lock()
	f.hold = hold
	f.mu.Unlock()
	p := f.peer(t)
	for id := uint32(1); id < 9; id += 2 {
		p.get(id)
		if status := p.answer(id); status != "200" {
			t.Fatalf("stream %d: %s", id, status)
		}
	}
}

// A server that does not end a stream, though its answer is whole, does not hold the connection
// for it.
func TestAStreamWhoseAnswerIsWholeIsEndedWhereItsServerDoesNot(t *testing.T) {
	var now atomic.Int64
	c, p := newClientAt(t, http2.Limits{}, func() time.Duration { return time.Duration(now.Load()) })
	st := c.Take()
	if err := st.Send(exchange.Message("GET / HTTP/1.1\r\nhost: a.example\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	id := p.request()
	p.begin(id, false, ":status", "200", "content-length", "2")
	p.framer.WriteData(id, false, []byte("ab"))
	p.taken()
	b := make([]byte, 1000)
	if n, err := st.Exchange(nil, b); err != nil || string(b[:n]) != "HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nab" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	st.Release(true)
	now.Add(int64(10 * time.Second))
	c.Check()
	if _, idle := c.Idle(); idle {
		t.Error("its end is not waited for")
	}
	now.Add(1)
	c.Check()
	p.reset(id, xhttp2.ErrCodeCancel)
	if _, idle := c.Idle(); !idle {
		t.Error("it holds the connection")
	}
	p.framer.WriteData(id, true, nil) // it is late, and no fault
	p.taken()
}

// A request whose body is under way is sent once more where its server has not begun with it,
// and nothing of the body was read.
func TestARequestWithABodyIsSentOnceMoreWhereItsServerHasNotBegun(t *testing.T) {
	f := newFixture(t, upstream.HTTP2, nil, http2.Limits{})
	c := f.peer(t)
	c.begin(1, false, ":method", "POST", ":scheme", "http", ":authority", "a.example", ":path", "/")
	server := func() *peer {
		conn, err := f.origin.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return serverOn(t, conn)
	}
	f.origin.SetDeadline(time.Now().Add(patience))
	s := server()
	s.framer.WriteRSTStream(s.request(), xhttp2.ErrCodeRefusedStream)
	s = server() // that one may have had too many
	second := s.request()
	c.framer.WriteData(1, true, []byte("abc"))
	s.until("its body", func(fr xhttp2.Frame) bool {
		d, ok := fr.(*xhttp2.DataFrame)
		return ok && d.StreamID == second && string(d.Data()) == "abc"
	})
	s.begin(second, true, ":status", "204")
	if status := c.answer(1); status != "204" {
		t.Errorf("it is answered %s", status)
	}
}
