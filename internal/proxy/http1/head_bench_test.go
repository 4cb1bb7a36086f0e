package http1

import (
	"strings"
	"testing"

	"sluice.dev/sluice/internal/proxy/exchange"
)

// BenchmarkReadAndBuild is all that the engine does with a request in user
// space: parse it and write what the upstream gets.
func BenchmarkReadAndBuild(b *testing.B) {
	const text = "GET /v2/things?x=1 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: wrk\r\nAccept: */*\r\nX-One: 1\r\nX-Two: 22222222\r\nConnection: keep-alive\r\n\r\n"
	d := fuzzConn()
	d.w = copy(d.scratch.in, text)
	direction := &exchange.Direction{Append: []exchange.Field{{Name: "x-forwarded-for", Value: "192.0.2.1"}}}
	b.ReportAllocs()
	for b.Loop() {
		d.request, d.r = request{}, 0
		if ready, bad := d.ready(); !ready || bad != fine {
			b.Fatal(causeTable[bad].text)
		}
		d.describe(d.head)
		if out, bad := d.buildRequest(direction); bad != fine || len(out) == 0 {
			b.Fatal("nothing was built")
		}
	}
}

// BenchmarkReadLongHead is a browser's request: cookies make up most of it.
func BenchmarkReadLongHead(b *testing.B) {
	text := []byte("GET / HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: " + strings.Repeat("Mozilla/5.0 ", 10) +
		"\r\nAccept: text/html,application/xhtml+xml;q=0.9\r\nCookie: " + strings.Repeat("session=0123456789abcdef; ", 60) + "\r\n\r\n")
	h := new(head)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if n, f := h.parseRequest(text, 32<<10); n == 0 || f != fine {
			b.Fatal(causeTable[f].text)
		}
	}
}

func BenchmarkReadAnswer(b *testing.B) {
	answer := []byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 20:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\nConnection: keep-alive\r\n\r\n")
	h := new(head)
	out := make([]byte, 0, 1024)
	for b.Loop() {
		if n, f := h.parseResponse(answer, 32<<10); n == 0 || f != fine {
			b.Fatal(causeTable[f].text)
		}
		out = h.appendStatus(out[:0])
	}
}
