package http1_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

// inProcess is an Upstream without a connection: it takes each request's parts and
// answers with them, as an Upstream of another version of HTTP would.
type inProcess struct {
	mu       sync.Mutex
	open     int
	released []bool // whether each may be used again
}

func (u *inProcess) Take() exchange.Stream { return nil }

func (u *inProcess) Dial(context.Context) (exchange.Stream, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.open++
	s := &inProcessStream{of: u, aborted: make(chan struct{})}
	s.read, s.write = io.Pipe()
	return s, nil
}

type inProcessStream struct {
	of      *inProcess
	read    *io.PipeReader // the answer
	write   *io.PipeWriter
	body    strings.Builder
	aborted chan struct{}
	once    sync.Once
}

// serve answers with what the request was.
func (s *inProcessStream) serve(m exchange.Message) {
	var fields []string
	length := 0
	for name, value := range m.Fields {
		fields = append(fields, strings.ToLower(name)+"="+value)
		if strings.EqualFold(name, "content-length") {
			fmt.Sscan(value, &length)
		}
	}
	said := fmt.Sprintf("%s %s %s", m.Method(), m.Target(), strings.Join(fields, " "))
	s.body.Write(m.Body())
	if s.body.Len() == length {
		s.answer(said)
	}
}

func (s *inProcessStream) answer(said string) {
	go fmt.Fprintf(s.write, "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", len(said), said)
}

func (s *inProcessStream) Exchange(out exchange.Message, in []byte) (int, error) {
	if len(out) > 0 {
		s.serve(out)
	}
	n, err := s.read.Read(in)
	select {
	case <-s.aborted:
		return 0, os.ErrDeadlineExceeded
	default:
		return n, err
	}
}

func (s *inProcessStream) Send(out exchange.Message) error { s.serve(out); return nil }

func (s *inProcessStream) Write(b []byte) (int, error) {
	s.body.Write(b)
	if strings.HasSuffix(s.body.String(), "end") {
		s.answer(fmt.Sprintf("%d bytes", s.body.Len()))
	}
	return len(b), nil
}

func (s *inProcessStream) CloseWrite() error { return nil }

func (s *inProcessStream) Abort() {
	s.once.Do(func() { close(s.aborted); s.write.Close() })
}

func (s *inProcessStream) Release(reuse bool) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.of.open--
	s.of.released = append(s.of.released, reuse)
	s.read.Close()
}

func (s *inProcessStream) Keep()       {}
func (s *inProcessStream) Again() bool { return true }

func (s *inProcessStream) Remote() netip.AddrPort { return netip.MustParseAddrPort("192.0.2.1:80") }
func (s *inProcessStream) Reused() bool           { return false }

func TestAnUpstreamNeedsNoConnection(t *testing.T) {
	u := new(inProcess)
	f := newFixture(t, answering(hello), options{direction: func(_ *fixture, x *exchange.Request) exchange.Direction {
		return exchange.Direction{Upstream: u, Append: []exchange.Field{{Name: "x-added", Value: "1"}}}
	}})
	c := f.client()
	says := func(text string) {
		t.Helper()
		c.want(fmt.Sprintf("HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", len(text), text))
		if o := f.outcome(); o.Failure != nil || o.Upstream != netip.MustParseAddrPort("192.0.2.1:80") || o.Reused {
			t.Errorf("outcome %+v", o)
		}
	}
	c.send("GET /a?b=c HTTP/1.1\r\nHOST: a.example\r\nX-A:  1 \r\nConnection: x-b\r\nX-B: 2\r\n\r\n")
	says("GET /a?b=c host=a.example x-a=1 x-added=1")
	c.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc")
	says("POST / host=a.example content-length=3 x-added=1")
	c.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000\r\n\r\n%send", strings.Repeat("a", 100000-3))
	says("100000 bytes")
	u.mu.Lock()
	if u.open != 0 || fmt.Sprint(u.released) != "[true true true]" {
		t.Errorf("%d streams are open, released %v", u.open, u.released)
	}
	u.mu.Unlock()

	// It never answers: the connection's end aborts it.
	c.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000\r\n\r\nabc")
	eventually(t, "the request is under way", func() bool { u.mu.Lock(); defer u.mu.Unlock(); return u.open == 1 })
	f.cancel()
	if o := f.outcome(); reason(o) != refusal.Withdrawn {
		t.Errorf("outcome %+v", o)
	}
}
