package http1_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
)

// steady is a client, the proxy and an origin that allocate nothing of their
// own: what is counted is the engine's.
func steady(t testing.TB, o options) (once func()) {
	body := strings.Repeat("x", 1024)
	answer := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 20:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n%s", len(body), body))
	request := []byte("GET /v2/things?x=1 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: wrk\r\nAccept: */*\r\nX-One: 1\r\nX-Two: 22222222\r\nConnection: keep-alive\r\n\r\n")
	f := newFixture(t, func(c *originConn) {
		b := make([]byte, 4096)
		for {
			n, err := c.TCPConn.Read(b)
			if err != nil {
				return
			}
			if n < 4 || string(b[n-4:n]) != "\r\n\r\n" {
				t.Errorf("the origin got half a request: %q", b[:n])
				return
			}
			if _, err := c.TCPConn.Write(answer); err != nil {
				return
			}
		}
	}, options{pool: o.pool, quiet: true, direction: func(f *fixture, x *exchange.Request) exchange.Direction {
		return exchange.Direction{Upstream: f.pool, Append: addedFields}
	}})
	c := f.client()
	c.SetDeadline(noDeadline)
	want := len(answer) - len("Connection: keep-alive\r\n")
	b := make([]byte, 4096)
	return func() {
		if _, err := c.TCPConn.Write(request); err != nil {
			t.Fatal(err)
		}
		readExactly(t, c.TCPConn, b, want)
	}
}

var addedFields = []exchange.Field{{Name: "x-forwarded-for", Value: "127.0.0.1"}}

func readExactly(t testing.TB, c *net.TCPConn, b []byte, want int) {
	for n := 0; n < want; {
		m, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		n += m
		if n > want {
			t.Fatalf("%d bytes of answer, want %d", n, want)
		}
	}
}

func TestASteadyRequestAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("under the race detector sync.Pool drops what it is given")
	}
	once := steady(t, options{})
	for range 10 {
		once()
	}
	if n := testing.AllocsPerRun(500, once); n != 0 {
		t.Errorf("%v allocations for a request, want none", n)
	}
}

func BenchmarkForward(b *testing.B) {
	once := steady(b, options{})
	once()
	b.ReportAllocs()
	b.SetBytes(1024)
	for b.Loop() {
		once()
	}
}

// BenchmarkForwardLong is an answer of a megabyte, its two ends included.
func BenchmarkForwardLong(b *testing.B) {
	const size = 1 << 20
	answer := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)))
	f := newFixture(b, func(c *originConn) {
		request := make([]byte, 4096)
		for {
			if _, err := c.TCPConn.Read(request); err != nil {
				return
			}
			if _, err := c.TCPConn.Write(answer); err != nil {
				return
			}
		}
	}, options{quiet: true})
	c := f.client()
	c.SetDeadline(noDeadline)
	into := make([]byte, 256<<10)
	b.ReportAllocs()
	b.SetBytes(size)
	for b.Loop() {
		c.send(get)
		for left := len(answer); left > 0; {
			n, err := c.TCPConn.Read(into)
			if err != nil {
				b.Fatal(err)
			}
			left -= n
		}
	}
}

var noDeadline time.Time
