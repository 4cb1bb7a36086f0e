package sniff

import (
	"strings"
	"testing"

	"sluice.dev/sluice/internal/policy"
)

func TestRequestLines(t *testing.T) {
	long := strings.Repeat("a", MaxRequestLine)
	cases := []struct {
		bytes string
		kind  policy.Sniffed
		more  bool
		http2 bool
	}{
		{"GET / HTTP/1.1\r\n", policy.HTTP, false, false},
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /", policy.HTTP, false, false},
		{"GET http://a.example/ HTTP/1.0\r\n", policy.HTTP, false, false},
		{"CONNECT a.example:443 HTTP/1.1\r\n", policy.HTTP, false, false},
		{"M-SEARCH * HTTP/1.1\r\n", policy.HTTP, false, false},
		{"get / HTTP/1.1\r\n", policy.HTTP, false, false},
		{"gEt / HTTP/1.1\r\n", policy.HTTP, false, false},
		{"cOnNeCt a:443 HTTP/1.1\r\n", policy.HTTP, false, false},
		{"GET / http/1.1\r\n", policy.HTTP, false, false},                        // to Jetty
		{strings.Repeat("A", 40) + " / HTTP/1.1\r\n", policy.HTTP, false, false}, // to Go and nginx
		{long, policy.HTTP, false, false},
		{"\r\nGET / HTTP/1.1\r\n", policy.HTTP, false, false},
		{"\r\n\r\nGET / HTTP/1.1\r\n", policy.HTTP, false, false},
		// What the strict engine has to refuse must reach it.
		{"GET / HTTP/1.1\n", policy.HTTP, false, false},
		{"GET  /\tHTTP/1.1 \r\n", policy.HTTP, false, false},
		{"GET / HTTP/9.9\r\n", policy.HTTP, false, false},
		{"GET /" + long, policy.HTTP, false, false},
		{"\r\n\r\n\r\nGET / HTTP/1.1\r\n", policy.HTTP, false, false},

		{"G", policy.Opaque, true, false},
		{"GET", policy.Opaque, true, false},
		{"GET ", policy.HTTP, true, false},
		{"GET / HTTP/1.1\r", policy.HTTP, true, false},
		{"BREW /pot HT", policy.Opaque, true, false},
		{"\r\n", policy.Opaque, true, false},

		{"GET /\r\n", policy.Opaque, false, false}, // HTTP/0.9
		{"EHLO mail.example\r\n", policy.Opaque, false, false},
		{"SSH-2.0-OpenSSH_9.2\r\n", policy.Opaque, false, false},
		{"PING\r\n", policy.Opaque, false, false},
		{"*1\r\n$4\r\nPING\r\n", policy.Opaque, false, false},
		{"OPTIONS sip:a SIP/2.0\r\n", policy.Opaque, false, false},
		{"GET xHTTP/1.1\r\n", policy.Opaque, false, false},
		{"GET /\x00", policy.HTTP, true, false},
		{"GET /\x7f", policy.HTTP, true, false},
		{"GET /\rx", policy.HTTP, true, false},
		{" GET / HTTP/1.1\r\n", policy.Opaque, false, false},
		{strings.Repeat("A", 40), policy.Opaque, true, false},
		{strings.Repeat("A", 40) + "\r\n", policy.Opaque, false, false},
		{"GE\xc3\xa4T / HTTP/1.1\r\n", policy.Opaque, false, false},

		{preface, policy.HTTP, false, true},
		{preface + "\x00\x00\x00\x04", policy.HTTP, false, true},
		{preface[:20], policy.HTTP, true, true},
		{"PRI * HTTP/1.1\r\n", policy.HTTP, false, false},
		{"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", policy.HTTP, false, false},
	}
	for _, c := range cases {
		r, need := Parse([]byte(c.bytes))
		if r.Kind != c.kind || need != 0 != c.more || r.HTTP2 != c.http2 || r.Err != nil {
			t.Errorf("%.40q: %+v, need %d; want kind %v, more %v, HTTP/2 %v", c.bytes, r, need, c.kind, c.more, c.http2)
		}
		if int(need) > MaxHello || need != 0 && int(need) <= len(c.bytes) {
			t.Errorf("%.40q: needs %d", c.bytes, need)
		}
	}
}

// FuzzRequestLine holds that a decision never changes with more bytes, and that
// the search is bounded.
func FuzzRequestLine(f *testing.F) {
	for _, s := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", preface, "EHLO a\r\n", "\r\nGET / HTTP/1.1\n", "GET /" + strings.Repeat("a", MaxRequestLine)} {
		f.Add([]byte(s), 3)
	}
	f.Add([]byte("0 \x10 HTTP/\n"), 7)
	f.Add([]byte("GET /\x10 HTTP/1.1\n"), 7)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		if len(b) > 0 && b[0]&0x80 != 0 || len(b) > 0 && b[0] == recordHandshake {
			return
		}
		whole, need := Parse(b)
		if need != 0 && len(b) > MaxRequestLine+maxLineEnds {
			t.Fatalf("after %d bytes it needs %d", len(b), need)
		}
		if cut < 0 || cut > len(b) {
			return
		}
		part, partNeed := Parse(b[:cut])
		if partNeed == 0 && (part.Kind != whole.Kind || part.HTTP2 != whole.HTTP2 || need != 0) {
			t.Fatalf("%q is %+v, then %q is %+v", b[:cut], part, b, whole)
		}
	})
}
