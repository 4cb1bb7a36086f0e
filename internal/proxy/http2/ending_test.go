package http2_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// The end of an answer needs no window, even where the client has lowered it below zero.
func TestAnAnswerEndsWithAWindowBelowZero(t *testing.T) {
	hold := make(chan struct{})
	f := newFixture(t, upstream.HTTP11, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "0123456789")
		http.NewResponseController(w).Flush()
		<-hold
	}), http2.Limits{})
	p := f.peer(t, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 10})
	p.get(1)
	p.until("the body", func(fr xhttp2.Frame) bool {
		_, ok := fr.(*xhttp2.DataFrame)
		return ok
	})
	p.framer.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 0})
	p.taken()
	close(hold)
	p.until("the end", func(fr xhttp2.Frame) bool {
		d, ok := fr.(*xhttp2.DataFrame)
		if ok && !d.StreamEnded() {
			t.Fatal("a frame of DATA that is empty and ends nothing")
		}
		return ok
	})
}

// A request that its client ends only after it was answered is over then: the next takes its place.
func TestARequestThatEndsAfterItsAnswerMakesWay(t *testing.T) {
	for _, body := range []string{"", "12345"} {
		f := newFixture(t, upstream.HTTP11, echo, http2.Limits{MaxStreams: 1})
		p := f.peer(t)
		p.begin(1, false, ":method", "POST", ":scheme", "http", ":authority", "a.example", ":path", "/", "content-length", string('0'+rune(len(body))))
		if body != "" {
			p.framer.WriteData(1, false, []byte(body))
		}
		p.until("the answer", func(fr xhttp2.Frame) bool {
			h := fr.Header()
			return h.StreamID == 1 && h.Flags.Has(xhttp2.FlagDataEndStream) && (h.Type == xhttp2.FrameData || h.Type == xhttp2.FrameHeaders)
		})
		<-f.done
		p.framer.WriteData(1, true, nil)
		for id, answered := uint32(3), false; !answered; id += 2 {
			p.get(id)
			p.until("an answer", func(fr xhttp2.Frame) bool {
				switch fr := fr.(type) {
				case *xhttp2.MetaHeadersFrame:
					answered = fr.StreamID == id
				case *xhttp2.RSTStreamFrame:
					time.Sleep(20 * time.Millisecond) // the line of the first is at its end soon
					return true
				}
				return answered
			})
		}
	}
}

// An answer that came whole is read, although its server wants no more of the request.
func TestAnAnswerIsReadThatAResetFollows(t *testing.T) {
	c, p := newClient(t, http2.Limits{})
	st := c.Take()
	if err := st.Send(exchange.Message("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 5\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	id := p.request()
	p.begin(id, false, ":status", "403", "content-length", "2")
	p.framer.WriteData(id, true, []byte("no"))
	p.framer.WriteRSTStream(id, xhttp2.ErrCodeNo)
	p.taken()
	const want = "HTTP/1.1 403 \r\ncontent-length: 2\r\n\r\nno"
	b, n := make([]byte, 1000), 0
	for n < len(want) {
		m, err := st.Exchange(nil, b[n:])
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
	if string(b[:n]) != want {
		t.Errorf("it got %q", b[:n])
	}
	if _, err := st.Write([]byte("12345")); err == nil {
		t.Error("it sends on")
	}
	st.Release(false)
}

// An answer that ends with its connection, and of which a part could not be sent, ends by a
// reset: a plain end would look like the end of the body.
func TestAnAnswerThatCouldNotBeSentWholeDoesNotEndPlainly(t *testing.T) {
	f := newFixture(t, upstream.HTTP11, nil, http2.Limits{})
	server := http2.NewServer(http2.Config{Serve: func(_ context.Context, line *http2.Line, _ exchange.Director) {
		defer line.Close()
		if n, err := line.Read(make([]byte, 1000)); n == 0 {
			t.Error(err)
			return
		}
		if _, err := line.Write([]byte("HTTP/1.1 200 OK\r\n\r\npart")); err != nil {
			t.Error(err)
		}
		line.SetWriteDeadline(time.Unix(1, 0))
		if _, err := line.Write([]byte("rest")); err == nil {
			t.Error("the rest was sent")
		}
	}})
	l := listen(t)
	f.address = l.Addr().String()
	p := f.peer(t)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	f.serving.Go(func() { server.Serve(context.Background(), conn, nil, f) })
	t.Cleanup(func() { p.conn.Close() })
	p.get(1)
	p.until("the stream ends", func(fr xhttp2.Frame) bool {
		if d, ok := fr.(*xhttp2.DataFrame); ok && d.StreamEnded() {
			t.Fatal("it ends as if it were whole")
		}
		_, ok := fr.(*xhttp2.RSTStreamFrame)
		return ok
	})
}
