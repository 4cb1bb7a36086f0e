package http1_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/refusal"
)

// status returns the code of a head.
func status(head string) string {
	if len(head) < 12 {
		return head
	}
	return head[9:12]
}

func TestAmbiguousRequestsAreRefusedAndTheConnectionEnds(t *testing.T) {
	const host = "Host: a.example\r\n"
	many := strings.Repeat("X-A: b\r\n", 128)
	cases := []struct {
		name    string
		request string
		status  string
		reason  string
	}{
		{"both length and chunked", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"both chunked and length", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"two lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "400", "request-malformed"},
		{"a list of lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3, 3\r\n\r\nabc", "400", "request-malformed"},
		{"a signed length", "POST / HTTP/1.1\r\n" + host + "Content-Length: +3\r\n\r\nabc", "400", "request-malformed"},
		{"a negative length", "POST / HTTP/1.1\r\n" + host + "Content-Length: -3\r\n\r\nabc", "400", "request-malformed"},
		{"a length in hexadecimal", "POST / HTTP/1.1\r\n" + host + "Content-Length: 0x3\r\n\r\nabc", "400", "request-malformed"},
		{"a length with a space in it", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3 3\r\n\r\nabc", "400", "request-malformed"},
		{"an empty length", "POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n\r\n", "400", "request-malformed"},
		{"a length beyond all bounds", "POST / HTTP/1.1\r\n" + host + "Content-Length: 9999999999999999999\r\n\r\n", "400", "request-malformed"},
		{"a list of lengths without a space", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5,5\r\n\r\nabc", "400", "request-malformed"},
		{"a length with a leading zero", "POST / HTTP/1.1\r\n" + host + "Content-Length: 03\r\n\r\nabc", "400", "request-malformed"},
		{"a length that is zeros", "POST / HTTP/1.1\r\n" + host + "Content-Length: 00\r\n\r\nabc", "400", "request-malformed"},
		{"a length with a decimal point", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3.0\r\n\r\nabc", "400", "request-malformed"},
		{"a length in quotes", "POST / HTTP/1.1\r\n" + host + "Content-Length: \"3\"\r\n\r\nabc", "400", "request-malformed"},
		{"a length with a form feed", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\x0c\r\n\r\nabc", "400", "request-malformed"},
		{"a length under another name", "POST / HTTP/1.1\r\n" + host + "Content_Length: 3\r\n\r\nabc", "400", "request-malformed"},
		{"a length of one word", "POST / HTTP/1.1\r\n" + host + "ContentLength: 3\r\n\r\nabc", "400", "request-malformed"},
		{"a length with two dashes", "POST / HTTP/1.1\r\n" + host + "content--length: 3\r\n\r\nabc", "400", "request-malformed"},
		{"a length with a dash at its end", "POST / HTTP/1.1\r\n" + host + "Content-Length-: 3\r\n\r\nabc", "400", "request-malformed"},
		{"a length with an underscore before it", "POST / HTTP/1.1\r\n" + host + "_CONTENT_LENGTH: 3\r\n\r\nabc", "400", "request-malformed"},
		{"a coding with an underscore", "POST / HTTP/1.1\r\n" + host + "Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"a coding with three dashes", "POST / HTTP/1.1\r\n" + host + "Transfer---Encoding: chunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"a coding with both", "POST / HTTP/1.1\r\n" + host + "transfer-_encoding: chunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"a coding with one elsewhere", "POST / HTTP/1.1\r\n" + host + "trans_fer-encoding: chunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"such a coding in the trailers", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\nTransfer---Encoding: chunked\r\n\r\n", "400", "request-malformed"},
		{"a coding other than chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"identity", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: identity\r\n\r\n", "400", "request-malformed"},
		{"chunked with a vertical tab", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"chunked twice", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"chunked in HTTP/1.0", "POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"chunked, identity", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"identity, chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"chunked twice in one", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"an empty element and chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: , chunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"xchunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"chunked with a parameter", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"chunked in quotes", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"chunked in two lines", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunk\r\n ed\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"no coding", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding:\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"no coding and chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"a coding before a space and a colon", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"a coding under another name", "POST / HTTP/1.1\r\n" + host + "Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"a trailer that would say the length", "POST / HTTP/1.1\r\n" + host + "Trailer: x, content-length\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"bare LF after the request line", "GET / HTTP/1.1\n" + host + "\r\n", "400", "request-malformed"},
		{"bare LF after a field", "GET / HTTP/1.1\r\nHost: a.example\n\r\n", "400", "request-malformed"},
		{"bare LF at the end", "GET / HTTP/1.1\r\n" + host + "\n", "400", "request-malformed"},
		{"bare CR in a value", "GET / HTTP/1.1\r\n" + host + "X: a\rb\r\n\r\n", "400", "request-malformed"},
		{"NUL in a value", "GET / HTTP/1.1\r\n" + host + "X: a\x00b\r\n\r\n", "400", "request-malformed"},
		{"DEL in a value", "GET / HTTP/1.1\r\n" + host + "X: a\x7fb\r\n\r\n", "400", "request-malformed"},
		{"a folded line", "GET / HTTP/1.1\r\n" + host + "X: a\r\n b\r\n\r\n", "400", "request-malformed"},
		{"a space before the colon", "GET / HTTP/1.1\r\nHost : a.example\r\n\r\n", "400", "request-malformed"},
		{"a space before the first field", "GET / HTTP/1.1\r\n Host: a.example\r\n\r\n", "400", "request-malformed"},
		{"a name with a space", "GET / HTTP/1.1\r\n" + host + "X Y: a\r\n\r\n", "400", "request-malformed"},
		{"no name", "GET / HTTP/1.1\r\n" + host + ": a\r\n\r\n", "400", "request-malformed"},
		{"no colon", "GET / HTTP/1.1\r\n" + host + "XY\r\n\r\n", "400", "request-malformed"},
		{"two hosts", "GET / HTTP/1.1\r\n" + host + host + "\r\n", "400", "request-malformed"},
		{"no host", "GET / HTTP/1.1\r\n\r\n", "400", "request-malformed"},
		{"an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "400", "request-malformed"},
		{"a host with a user", "GET / HTTP/1.1\r\nHost: b@a.example\r\n\r\n", "400", "request-malformed"},
		{"a host with a slash", "GET / HTTP/1.1\r\nHost: a.example/b\r\n\r\n", "400", "request-malformed"},
		{"a list of hosts by tab", "GET / HTTP/1.1\r\nHost: a.example\tb.example\r\n\r\n", "400", "request-malformed"},
		{"no host in HTTP/1.0, and none known", "GET / HTTP/1.0\r\n\r\n", "403", "no-host"},
		{"absolute-form of another host", "GET http://b.example/ HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"absolute-form of another port", "GET http://a.example:81/ HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"absolute-form of another port than the scheme's", "GET http://a.example:81/ HTTP/1.1\r\nHost: a.example:80\r\n\r\n", "400", "request-malformed"},
		{"absolute-form of the other scheme's port", "GET https://a.example:80/ HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"absolute-form without a host", "GET http:///x HTTP/1.0\r\n\r\n", "400", "request-malformed"},
		{"absolute-form without a host and with one", "GET http:///x HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"absolute-form of a port alone", "GET http://:80/ HTTP/1.0\r\n\r\n", "400", "request-malformed"},
		{"absolute-form with a user in HTTP/1.0", "GET http://b@a.example/ HTTP/1.0\r\n\r\n", "400", "request-malformed"},
		{"absolute-form in HTTP/1.1 alone", "GET http://a.example/ HTTP/1.1\r\n\r\n", "400", "request-malformed"},
		{"a port without a host", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", "400", "request-malformed"},
		{"a colon for a host", "GET / HTTP/1.1\r\nHost: :\r\n\r\n", "400", "request-malformed"},
		{"absolute-form with a user", "GET http://b@a.example/ HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"absolute-form of another scheme", "GET ftp://a.example/ HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"authority-form", "GET a.example:80 HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"asterisk-form without OPTIONS", "GET * HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"two spaces before the target", "GET  / HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"two spaces after the target", "GET /  HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"a tab in the request line", "GET\t/ HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"a space in the target", "GET /a b HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"a fragment in the target", "GET /a#b HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"a byte beyond ASCII in the target", "GET /\xc3\xa4 HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"broken percent-encoding in the path", "GET /a%2 HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"no target", "GET HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"HTTP/0.9", "GET /\r\n\r\n", "400", "request-malformed"},
		{"two empty lines first", "\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"a method that is not a token", "G(T / HTTP/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"a version in lower case", "GET / http/1.1\r\n" + host + "\r\n", "400", "request-malformed"},
		{"a version with two digits", "GET / HTTP/1.10\r\n" + host + "\r\n", "400", "request-malformed"},
		{"garbage", "\x16\x03\x01\x02\x00\x01\x00\n\r\n\r\n", "400", "request-malformed"},
		{"Connection names Host", "GET / HTTP/1.1\r\n" + host + "Connection: host\r\n\r\n", "400", "request-malformed"},
		{"Connection names Expect", "POST / HTTP/1.1\r\n" + host + "Connection: expect\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", "400", "request-malformed"},
		{"Connection names Content-Type", "POST / HTTP/1.1\r\n" + host + "Connection: content-type\r\nContent-Length: 0\r\n\r\n", "400", "request-malformed"},
		{"Connection names Content-Length", "POST / HTTP/1.1\r\n" + host + "Connection: close, Content-Length\r\nContent-Length: 0\r\n\r\n", "400", "request-malformed"},
		{"Connection names Transfer-Encoding", "POST / HTTP/1.1\r\n" + host + "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", "request-malformed"},
		{"Connection names Authorization", "GET / HTTP/1.1\r\n" + host + "Connection: authorization\r\n\r\n", "400", "request-malformed"},
		{"Connection with an option that is not a token", "GET / HTTP/1.1\r\n" + host + "Connection: a b\r\n\r\n", "400", "request-malformed"},
		{"a chunk size with a sign", chunked("+3\r\nabc\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"a chunk size with 0x", chunked("0x3\r\nabc\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"no chunk size", chunked("\r\nabc\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"a chunk size after a space", chunked(" 3\r\nabc\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"a chunk size before a space", chunked("3 \r\nabc\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"a chunk size beyond all bounds", chunked("ffffffffffffffff\r\nabc\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"an overlong chunk size", chunked("0000000000000003\r\nabc\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"a chunk with bare LF", chunked("3\nabc\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"a chunk that is longer than it says", chunked("3\r\nabcd\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"a chunk that ends in LF", chunked("3\r\nabc\n0\r\n\r\n"), "400", "request-malformed"},
		{"a chunk extension with a control", chunked("3;a\x00\r\nabc\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"a chunk extension with bare LF", chunked("3;a\nabc\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"a chunk extension with bare CR", chunked("3;a\rb\r\nabc\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"a chunk extension in quotes with a line end", chunked("3;a=\"\r\n\"\r\nabc\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"a chunk size and a comma", chunked("3,3\r\nabc\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"a negative chunk size", chunked("-3\r\nabc\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"a chunk size that wraps to three", chunked("10000000000000003\r\nabc\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"a chunk size with an underscore", chunked("0_3\r\nabc\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"a chunk extension beyond all bounds", chunked("3;" + strings.Repeat("a", 300) + "\r\nabc\r\n0\r\n\r\n"), "400", "request-malformed"},
		{"a last chunk with bare LF", chunked("0\r\n\n"), "400", "request-malformed"},
		{"a trailer that is not a field", chunked("0\r\nX\r\n\r\n"), "400", "request-malformed"},
		{"a trailer with a length", chunked("0\r\nContent-Length: 3\r\n\r\n"), "400", "request-malformed"},
		{"a trailer with a host", chunked("0\r\nHost: b.example\r\n\r\n"), "400", "request-malformed"},
		{"a trailer with a coding", chunked("0\r\nTransfer-Encoding: chunked\r\n\r\n"), "400", "request-malformed"},
		{"a trailer with trailers", chunked("0\r\nTrailer: X\r\n\r\n"), "400", "request-malformed"},
		{"a trailer with an expectation", chunked("0\r\nExpect: 100-continue\r\n\r\n"), "400", "request-malformed"},
		{"a trailer with a type", chunked("0\r\nContent-Type: a/b\r\n\r\n"), "400", "request-malformed"},
		{"a trailer that ends in LF", chunked("0\r\nX: y\n\r\n"), "400", "request-malformed"},
		{"a trailer with bare CR", chunked("0\r\nX: y\rz\r\n\r\n"), "400", "request-malformed"},
		{"a trailer that is folded", chunked("0\r\nX: y\r\n z\r\n\r\n"), "400", "request-malformed"},
		{"a trailer that drops another", chunked("0\r\nConnection: host\r\n\r\n"), "400", "request-malformed"},
		{"trailers beyond all bounds", chunked("0\r\nX: " + strings.Repeat("a", 9000) + "\r\n\r\n"), "400", "request-malformed"},
		{"CONNECT", "CONNECT a.example:443 HTTP/1.1\r\n" + host + "\r\n", "501", "connect-not-supported"},
		{"TRACE", "TRACE / HTTP/1.1\r\n" + host + "\r\n", "405", "trace-refused"},
		{"HTTP/1.2", "GET / HTTP/1.2\r\n" + host + "\r\n", "505", "version-not-supported"},
		{"HTTP/2.0", "GET / HTTP/2.0\r\n" + host + "\r\n", "505", "version-not-supported"},
		{"another expectation", "POST / HTTP/1.1\r\n" + host + "Expect: 200-ok\r\nContent-Length: 3\r\n\r\nabc", "417", "expectation-unknown"},
		{"an expectation and another", "POST / HTTP/1.1\r\n" + host + "Expect: 100-continue, x\r\nContent-Length: 3\r\n\r\nabc", "417", "expectation-unknown"},
		{"an expectation, and another line", "POST / HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nExpect: x\r\nContent-Length: 3\r\n\r\nabc", "417", "expectation-unknown"},
		{"an expectation with an argument", "POST / HTTP/1.1\r\n" + host + "Expect: 100-continue=1\r\nContent-Length: 3\r\n\r\nabc", "417", "expectation-unknown"},
		{"an empty expectation", "POST / HTTP/1.1\r\n" + host + "Expect:\r\nContent-Length: 3\r\n\r\nabc", "417", "expectation-unknown"},
		{"a head beyond all bounds", "GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", 33<<10) + "\r\n\r\n", "431", "headers-too-large"},
		{"a request line beyond all bounds", "GET /" + strings.Repeat("a", 33<<10) + " HTTP/1.1\r\n" + host + "\r\n", "431", "headers-too-large"},
		{"a field without end", "GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", 40<<10), "431", "headers-too-large"},
		{"too many fields", "GET / HTTP/1.1\r\n" + host + many + "\r\n", "431", "headers-too-large"},
		{"too large a body by its length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 1048577\r\n\r\n", "413", "request-too-large"},
	}
	reached := func(c *originConn) {
		head := c.head()
		t.Errorf("the upstream got %q", head)
	}
	f := newFixture(t, reached, options{limits: http1.Limits{MaxBodyBytes: 1 << 20}})
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := f.client()
			c.t = t
			c.send("%s", tc.request)
			head := c.head()
			if status(head) != tc.status || !strings.Contains(head, "\r\nx-sluice-reason: "+tc.reason+"\r\n") {
				t.Errorf("answered %q, want %s %s", head, tc.status, tc.reason)
			}
			if !strings.Contains(head, "\r\nserver: sluice\r\n") || !strings.Contains(head, "\r\nconnection: close\r\n") {
				t.Errorf("answered %q, want it from sluice, and the last one", head)
			}
			c.rest()
		})
	}
	if n := f.origin.count(); n != 0 {
		t.Errorf("%d connections to the upstream, want none", n)
	}
}

func chunked(body string) string {
	return "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n" + body
}

func TestARequestIsForwardedWithoutWhatIsForOneHop(t *testing.T) {
	cases := []struct {
		name, request, forwarded string
	}{
		{"plain", "GET /a?b HTTP/1.1\r\nHost: a.example\r\nX-A: 1\r\n\r\n",
			"GET /a?b HTTP/1.1\r\nHost: a.example\r\nX-A: 1\r\nx-added: 1\r\n\r\n"},
		{"HTTP/1.0 becomes 1.1", "GET / HTTP/1.0\r\nHost: a.example\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a.example\r\nx-added: 1\r\n\r\n"},
		{"spelling and obs-text are kept", "get /%7e HTTP/1.1\r\nhOsT:a.example  \r\nX-A:\t\xe4 \r\n\r\n",
			"get /%7e HTTP/1.1\r\nhOsT:a.example  \r\nX-A:\t\xe4 \r\nx-added: 1\r\n\r\n"},
		{"absolute-form", "GET http://A.example:80/x?y HTTP/1.1\r\nHost: a.example:80\r\n\r\n",
			"GET /x?y HTTP/1.1\r\nHost: a.example:80\r\nx-added: 1\r\n\r\n"},
		{"absolute-form with the scheme's port", "GET http://A.example:80/x HTTP/1.1\r\nHost: a.example\r\n\r\n",
			"GET /x HTTP/1.1\r\nhost: A.example:80\r\nx-added: 1\r\n\r\n"},
		{"absolute-form without the scheme's port", "GET https://a.example/x HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
			"GET /x HTTP/1.1\r\nHost: a.example:443\r\nx-added: 1\r\n\r\n"},
		{"absolute-form with an empty port", "GET http://a.example:/x HTTP/1.1\r\nHost: a.example\r\n\r\n",
			"GET /x HTTP/1.1\r\nHost: a.example\r\nx-added: 1\r\n\r\n"},
		{"absolute-form of HTTP/1.0 without Host", "GET http://a.example:8080/x HTTP/1.0\r\nX-A: 1\r\n\r\n",
			"GET /x HTTP/1.1\r\nhost: a.example:8080\r\nX-A: 1\r\nx-added: 1\r\n\r\n"},
		{"absolute-form of an IPv6 address", "GET http://[2001:db8::1]:80 HTTP/1.1\r\nHost: [2001:DB8::1]\r\n\r\n",
			"GET / HTTP/1.1\r\nhost: [2001:db8::1]:80\r\nx-added: 1\r\n\r\n"},
		{"an empty port", "GET / HTTP/1.1\r\nHost: a.example:\r\nX-A: 1\r\n\r\n",
			"GET / HTTP/1.1\r\nhost: a.example\r\nX-A: 1\r\nx-added: 1\r\n\r\n"},
		{"an empty line first", "\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a.example\r\nx-added: 1\r\n\r\n"},
		{"names that are nothing but like a length", "GET / HTTP/1.1\r\nHost: a.example\r\nContent-Lengths: 3\r\nX-Content-Length: 3\r\nContent-Len: 3\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a.example\r\nContent-Lengths: 3\r\nX-Content-Length: 3\r\nContent-Len: 3\r\nx-added: 1\r\n\r\n"},
		{"what may be taken for what the Director drops", "GET / HTTP/1.1\r\nHost: a.example\r\nX_Drop: 1\r\nx-_DROP: 2\r\nXDrop: 3\r\nX-Drop-: 4\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a.example\r\nXDrop: 3\r\nX-Drop-: 4\r\nx-added: 1\r\n\r\n"},
		{"absolute-form without a path", "GET http://a.example?y HTTP/1.1\r\nHost: a.example\r\n\r\n",
			"GET /?y HTTP/1.1\r\nHost: a.example\r\nx-added: 1\r\n\r\n"},
		{"absolute-form of https", "GET https://a.example HTTP/1.1\r\nHost: a.example\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a.example\r\nx-added: 1\r\n\r\n"},
		{"OPTIONS of the server", "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n",
			"OPTIONS * HTTP/1.1\r\nHost: a.example\r\nx-added: 1\r\n\r\n"},
		{"OPTIONS of the server in absolute-form", "OPTIONS http://a.example HTTP/1.1\r\nHost: a.example\r\n\r\n",
			"OPTIONS * HTTP/1.1\r\nHost: a.example\r\nx-added: 1\r\n\r\n"},
		{"fields for one hop", "GET / HTTP/1.1\r\nConnection: keep-alive, X-Hop, x-hop2\r\nKeep-Alive: 1\r\nHost: a.example\r\nProxy-Connection: x\r\nTE: trailers\r\nX-Hop: 1\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nProxy-Authorization: x\r\nX-A: 1\r\nX-Hop2: 1\r\nX-B: 1\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a.example\r\nX-A: 1\r\nX-B: 1\r\nx-added: 1\r\n\r\n"},
		{"an upgrade that is not allowed", "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a.example\r\nx-added: 1\r\n\r\n"},
		{"what the Director drops", "GET / HTTP/1.1\r\nHost: a.example\r\nX-Drop: 1\r\nx-drop: 2\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a.example\r\nx-added: 1\r\n\r\n"},
		{"a body", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc",
			"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nx-added: 1\r\n\r\nabc"},
		{"a body in chunks", "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n00a\r\n0123456789\r\n0;z\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: a.example\r\nx-added: 1\r\ntransfer-encoding: chunked\r\n\r\nd\r\nabc0123456789\r\n0\r\n\r\n"},
		{"trailers", "POST / HTTP/1.1\r\nHost: a.example\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: 1\r\nKeep-Alive: 1\r\nX-U: 2\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: a.example\r\nTrailer: X-T\r\nx-added: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n"},
		{"an expectation with its body", "POST / HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
			"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nx-added: 1\r\n\r\nabc"},
		{"a head of many kilobytes", "GET / HTTP/1.1\r\nHost: a.example\r\nX-A: " + strings.Repeat("a", 30<<10) + "\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a.example\r\nX-A: " + strings.Repeat("a", 30<<10) + "\r\nx-added: 1\r\n\r\n"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got := make(chan string, 1)
			f := newFixture(t, func(c *originConn) {
				b := make([]byte, len(tc.forwarded))
				for n := 0; n < len(b); {
					m, err := c.r.Read(b[n:])
					if err != nil {
						break
					}
					n += m
				}
				got <- string(b)
				c.send("%s", hello)
				c.rest()
			}, options{direction: func(f *fixture, x *exchange.Request) exchange.Direction {
				return exchange.Direction{Upstream: f.pool, Remove: []string{"x-drop"}, Append: []exchange.Field{{Name: "x-added", Value: "1"}}}
			}})
			c := f.client()
			c.t = t
			c.send("%s", tc.request)
			if head := c.head(); status(head) != "200" {
				t.Fatalf("answered %q", head)
			}
			c.want("hello")
			if g := <-got; g != tc.forwarded {
				t.Errorf("the upstream got\n%q, want\n%q", g, tc.forwarded)
			}
		})
	}
}

func TestADirectionEditsTheFields(t *testing.T) {
	got := make(chan string, 1)
	f := newFixture(t, func(c *originConn) { got <- c.head(); c.send("%s", hello); c.rest() }, options{direction: func(f *fixture, x *exchange.Request) exchange.Direction {
		return exchange.Direction{
			Upstream: f.pool,
			Remove:   []string{"x-gone", "cookie", "x-never"},
			Set:      []exchange.Field{{Name: "x-set", Value: "new"}, {Name: "content-type", Value: "text/plain"}, {Name: "x-empty", Value: ""}},
			Append:   []exchange.Field{{Name: "x-more", Value: "2"}, {Name: "x-set", Value: "too"}},
		}
	}})
	c := f.client().send("GET / HTTP/1.1\r\nX-Gone: 1\r\nHost: a.example\r\nX-SET: old\r\nX-More: 1\r\nContent-Type: text/html\r\nx-gone: 2\r\nx-set: older\r\nCookie: a\r\nX-Kept: 1\r\n\r\n")
	c.want(hello)
	want := "GET / HTTP/1.1\r\nHost: a.example\r\nX-More: 1\r\nX-Kept: 1\r\nx-set: new\r\ncontent-type: text/plain\r\nx-empty: \r\nx-more: 2\r\nx-set: too\r\n\r\n"
	if g := <-got; g != want {
		t.Errorf("the upstream got\n%q, want\n%q", g, want)
	}
}

func TestTheHostCanBeRewritten(t *testing.T) {
	for _, request := range []string{
		"GET / HTTP/1.1\r\nX-A: 1\r\nHost: a.example\r\n\r\n",
		"GET / HTTP/1.0\r\nConnection: keep-alive\r\nX-A: 1\r\n\r\n",
	} {
		f := newFixture(t, func(c *originConn) {
			if head := c.head(); head != "GET / HTTP/1.1\r\nhost: b.example\r\nX-A: 1\r\n\r\n" {
				t.Errorf("the upstream got %q", head)
			}
			c.send("%s", hello)
			c.rest()
		}, options{direction: func(f *fixture, x *exchange.Request) exchange.Direction {
			return exchange.Direction{Upstream: f.pool, SetHost: "b.example"}
		}})
		c := f.client().send("%s", request)
		if head := c.head(); status(head) != "200" {
			t.Errorf("answered %q", head)
		}
	}
}

func TestADirectionThatCannotBeFollowedIsAFailureOfOurs(t *testing.T) {
	for name, dir := range map[string]func(f *fixture) exchange.Direction{
		"a Direction without Upstream, Reply and Later": func(f *fixture) exchange.Direction { return exchange.Direction{} },
		"a Direction with Upstream and Reply": func(f *fixture) exchange.Direction {
			return exchange.Direction{Upstream: f.pool, Reply: new(exchange.Reply)}
		},
		"a SetHost that is not an authority": func(f *fixture) exchange.Direction {
			return exchange.Direction{Upstream: f.pool, SetHost: "a b"}
		},
		"a SetTarget that is not a path": func(f *fixture) exchange.Direction {
			return exchange.Direction{Upstream: f.pool, SetTarget: "/a b"}
		},
		"a CutTarget beyond the target": func(f *fixture) exchange.Direction {
			return exchange.Direction{Upstream: f.pool, SetTarget: "/a", CutTarget: 2}
		},
		"a SetTarget of more than 4 KiB": func(f *fixture) exchange.Direction {
			return exchange.Direction{Upstream: f.pool, SetTarget: "/" + strings.Repeat("a", exchange.MaxTargetBytes)}
		},
		"a value of the field \"x\" with a control byte": func(f *fixture) exchange.Direction {
			return exchange.Direction{Upstream: f.pool, Append: []exchange.Field{{Name: "x", Value: "1\r\ny: 2"}}}
		},
		"Set or Append of the field \"x y\"": func(f *fixture) exchange.Direction {
			return exchange.Direction{Upstream: f.pool, Append: []exchange.Field{{Name: "x y", Value: "1"}}}
		},
		"Set or Append of the field \"content-length\"": func(f *fixture) exchange.Direction {
			return exchange.Direction{Upstream: f.pool, Set: []exchange.Field{{Name: "content-length", Value: "1"}}}
		},
		"Remove of the field \"host\"": func(f *fixture) exchange.Direction {
			return exchange.Direction{Upstream: f.pool, Remove: []string{"host"}}
		},
		"fields to add of more than 8 KiB": func(f *fixture) exchange.Direction {
			return exchange.Direction{Upstream: f.pool, Set: []exchange.Field{{Name: "x", Value: strings.Repeat("a", 4<<10)}}, Append: []exchange.Field{{Name: "y", Value: strings.Repeat("a", 4<<10)}}}
		},
		"a Reply with the status 100": func(f *fixture) exchange.Direction {
			return exchange.Direction{Reply: &exchange.Reply{Status: 100}}
		},
		"a Reply with the field \"connection\"": func(f *fixture) exchange.Direction {
			return exchange.Direction{Reply: &exchange.Reply{Status: 200, Header: []exchange.Field{{Name: "connection", Value: "close"}}}}
		},
		"a Direction with Later from a Later": func(f *fixture) exchange.Direction {
			later := func(context.Context) exchange.Direction { return exchange.Direction{} }
			return exchange.Direction{Later: func(context.Context) exchange.Direction { return exchange.Direction{Later: later} }}
		},
		"a Direction with Later and more": func(f *fixture) exchange.Direction {
			return exchange.Direction{Upstream: f.pool, Later: func(context.Context) exchange.Direction { return exchange.Direction{} }}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, answering(hello), options{direction: func(f *fixture, x *exchange.Request) exchange.Direction { return dir(f) }})
			c := f.client().send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
			if head := c.head(); status(head) != "500" || !strings.Contains(head, "x-sluice-reason: internal\r\n") {
				t.Errorf("answered %q", head)
			}
			if got, want := c.line(), "The proxy could not follow its own decision: "+name+".\n"; got != want {
				t.Errorf("told %q, want %q", got, want)
			}
			if o := f.outcome(); reason(o) != refusal.Internal || o.Status != 500 {
				t.Errorf("outcome %+v", o)
			}
		})
	}
}

func TestRepliesOfTheDirector(t *testing.T) {
	reply := exchange.Reply{Reason: refusal.NoRule, Message: "No rule allows \"x\"."}
	f := newFixture(t, answering(hello), options{direction: func(f *fixture, x *exchange.Request) exchange.Direction {
		return exchange.Direction{Reply: &reply, ID: 0xabc}
	}})
	const head = "HTTP/1.1 403 Forbidden\r\nserver: sluice\r\ncontent-type: %s\r\ncontent-length: %d\r\nx-sluice-reason: no-rule\r\nx-sluice-id: 0000000000000abc\r\n\r\n"
	const text = "Sluice denied this request: No rule allows \"x\".\nreason: no-rule\nid: 0000000000000abc\n"
	const object = `{"error":"denied","status":403,"reason":"no-rule","id":"0000000000000abc","message":"No rule allows \"x\"."}` + "\n"
	asText := fmt.Sprintf(head, "text/plain; charset=utf-8", len(text))
	asJSON := fmt.Sprintf(head, "application/json", len(object))
	c := f.client()
	for range 2 { // the connection goes on
		c.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").want(asText + text)
		c.send("GET / HTTP/1.1\r\nHost: a.example\r\nAccept: text/html, application/json\r\n\r\n").want(asText + text)
		c.send("GET / HTTP/1.1\r\nHost: a.example\r\nAccept: application/json, */*\r\n\r\n").want(asJSON + object)
		c.send("HEAD / HTTP/1.1\r\nHost: a.example\r\n\r\n").want(asText)
		c.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc").want(asText + text)
		c.send("%s", chunked("3\r\nabc\r\n0\r\n\r\n")).want(asText + text)
	}
	// A body that is not all there is not waited for.
	c.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1000000\r\n\r\nabc")
	if got := c.head(); status(got) != "403" || !strings.Contains(got, "\r\nconnection: close\r\n") {
		t.Errorf("answered %q", got)
	}
	c.want(text)
	c.wantEnd()
	if f.origin.count() != 0 {
		t.Error("a request that was answered here reached the upstream")
	}
}

func TestHTTP2ByPriorKnowledgeIsToldToUseHTTP1(t *testing.T) {
	f := newFixture(t, answering(hello), options{})
	c := f.client().send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	settings := c.bytes(9)
	if settings != "\x00\x00\x00\x04\x00\x00\x00\x00\x00" {
		t.Errorf("settings %q", settings)
	}
	goaway := c.bytes(17)
	if goaway[3] != 7 || goaway[16] != 0xd {
		t.Errorf("goaway %q", goaway)
	}
	c.want("HTTP/2 is taken as the first thing on a connection alone, and not while the proxy is ending; use HTTP/1.1.")
	if got := c.bytes(0); got != "" || int(goaway[2]) != 8+len("HTTP/2 is taken as the first thing on a connection alone, and not while the proxy is ending; use HTTP/1.1.") {
		t.Errorf("the frame's length is %d", goaway[2])
	}
	c.CloseWrite()
	c.wantEnd()
}
