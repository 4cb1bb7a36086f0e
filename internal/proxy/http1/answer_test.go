package http1_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"sluice.dev/sluice/internal/refusal"
)

const get = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"

func TestAnswersAreForwarded(t *testing.T) {
	long := strings.Repeat("a", 100<<10)
	var many strings.Builder // chunks of all sizes
	var data strings.Builder
	for i := range 400 {
		piece := strings.Repeat(string(rune('a'+i%26)), i+1)
		fmt.Fprintf(&many, "%x;ext=%d\r\n%s\r\n", len(piece), i, piece)
		data.WriteString(piece)
	}
	cases := []struct {
		name, request, answer string
		head, body            string // what the client gets; body decoded
		again                 bool   // the client connection serves another request
		reused                bool   // and the upstream connection too
	}{
		{"a length", get, "HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 3\r\n\r\nabc",
			"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 3\r\n\r\n", "abc", true, true},
		{"a length of nothing", get, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "", true, true},
		{"a long body", get, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(long), long),
			fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(long)), long, true, true},
		{"a status without a reason", get, "HTTP/1.1 999\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 999 \r\nContent-Length: 0\r\n\r\n", "", true, true},
		{"no fields", get, "HTTP/1.1 204 \r\n\r\n", "HTTP/1.1 204 \r\n\r\n", "", true, true},
		{"fields for one hop", get, "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nKeep-Alive: 5\r\nX-Hop: 1\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true, true},
		{"an upstream that closes", get, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
			"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "abc", true, false},
		{"an upstream of HTTP/1.0", get, "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
			"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "abc", true, false},
		{"a body until the close", get, "HTTP/1.1 200 OK\r\n\r\nabc",
			"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", "abc", false, false},
		{"a long body until the close", get, "HTTP/1.0 200 OK\r\n\r\n" + long,
			"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", long, false, false},
		{"chunks", get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\n\r\n",
			"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "4\r\nabcd\r\n0\r\n\r\n", true, true},
		{"chunks with blanks", get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3  \r\nabc\r\n1\t; a = \"b\" ; c\r\nd\r\n0 \r\n\r\n",
			"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "4\r\nabcd\r\n0\r\n\r\n", true, true},
		{"chunks of nothing", get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "0\r\n\r\n", true, true},
		{"chunks with trailers", get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\nConnection: x-u\r\nX-U: 1\r\n\r\n",
			"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n", true, true},
		{"chunks with long trailers", get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: " + long[:8000] + "\r\n\r\n",
			"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "3\r\nabc\r\n0\r\nX-T: " + long[:8000] + "\r\n\r\n", true, true},
		{"HEAD with a length", "HEAD / HTTP/1.1\r\nHost: a.example\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n", "", true, true},
		{"HEAD with chunks", "HEAD / HTTP/1.1\r\nHost: a.example\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
			"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "", true, true},
		{"204 with a length", get, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 204 No Content\r\n\r\n", "", true, true},
		{"304 with a length", get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 300\r\n\r\n",
			"HTTP/1.1 304 Not Modified\r\nContent-Length: 300\r\n\r\n", "", true, true},
		{"more: a body after HEAD", "HEAD / HTTP/1.1\r\nHost: a.example\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
			"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "", true, false},
		{"more: a body after 204", get, "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc",
			"HTTP/1.1 204 No Content\r\n\r\n", "", true, false},
		{"more: pieces after 204", get, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			"HTTP/1.1 204 No Content\r\n\r\n", "", true, false},
		{"more: a body after 304", get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\nabc",
			"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", "", true, false},
		{"more than was announced", get, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "abc", true, false},
		{"more after the last chunk", get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
			"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "0\r\n\r\n", true, false},
		{"interim answers", get, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\n\r\nHTTP/1.1 102 \r\nContent-Length: 3\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
			"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "HTTP/1.1 102 \r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", true, true},
		{"interim answers to HTTP/1.0", "GET / HTTP/1.0\r\nHost: a.example\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
			"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nconnection: close\r\n\r\n", "abc", false, true},
		{"HTTP/1.0 that stays", "GET / HTTP/1.0\r\nHost: a.example\r\nConnection: Keep-Alive\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
			"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nconnection: keep-alive\r\n\r\n", "abc", true, true},
		{"HTTP/1.0 and chunks", "GET / HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\nX: y\r\n\r\n",
			"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", "abcdef", false, true},
		{"HTTP/1.1 that closes", "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
			"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nconnection: close\r\n\r\n", "abc", false, true},
		{"a head of many kilobytes", get, "HTTP/1.1 200 OK\r\nX-A: " + long[:30<<10] + "\r\nContent-Length: 3\r\n\r\nabc",
			"HTTP/1.1 200 OK\r\nX-A: " + long[:30<<10] + "\r\nContent-Length: 3\r\n\r\n", "abc", true, true},
	}
	for _, tc := range cases {
		for _, step := range []int{len(tc.answer), 7, 1} {
			if step < len(tc.answer)/2000 {
				continue // byte by byte takes too long there
			}
			if strings.HasPrefix(tc.name, "more") && step < len(tc.answer) {
				continue // what comes after Put is seen by Take, or by the sweep
			}
			t.Run(fmt.Sprintf("%s, %d bytes at a time", tc.name, step), func(t *testing.T) {
				f := newFixture(t, func(c *originConn) {
					for c.number == 1 || !tc.reused {
						c.head()
						for rest := tc.answer; rest != ""; rest = rest[min(step, len(rest)):] {
							c.send("%s", rest[:min(step, len(rest))])
						}
						if !tc.reused {
							return
						}
					}
				}, options{})
				c := f.client()
				c.t = t
				for range 2 {
					c.send("%s", tc.request)
					if head := c.head(); head != tc.head {
						t.Fatalf("head %.300q, want %.300q", head, tc.head)
					}
					if strings.Contains(tc.name, "chunk") && !strings.Contains(tc.request, "/1.0") {
						wantChunked(t, c, tc.body)
					} else {
						c.want(tc.body)
					}
					if o := f.outcome(); o.Failure != nil || o.Received == 0 || o.Sent != int64(len(tc.request)) {
						t.Errorf("outcome %+v", o)
					}
					if !tc.again {
						c.wantEnd()
						return
					}
				}
				if n := f.origin.count(); n != 1 && tc.reused {
					t.Errorf("%d upstream connections, want one", n)
				}
			})
		}
	}
	t.Run("many chunks", func(t *testing.T) {
		f := newFixture(t, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+many.String()+"0\r\n\r\n"), options{})
		c := f.client()
		for range 3 {
			c.send(get)
			c.head()
			wantChunked(t, c, "X\r\n"+data.String()+"\r\n0\r\n\r\n")
		}
	})
}

// wantChunked reads a chunked body of any division; want is one of them.
func wantChunked(t *testing.T, c *client, want string) {
	t.Helper()
	if want == "" {
		return
	}
	decode := func(line func() string, bytes func(int) string) (data, trailers string) {
		for {
			var size int
			text := line()
			if text == "X\r\n" { // the test's own, of all that there is
				size = strings.Index(want, "\r\n0\r\n") - 3
			} else if _, err := fmt.Sscanf(text, "%x\r\n", &size); err != nil {
				t.Fatalf("size line %q: %v", text, err)
			}
			if size == 0 {
				break
			}
			data += bytes(size)
			if end := bytes(2); end != "\r\n" {
				t.Fatalf("a chunk ends in %q", end)
			}
		}
		for {
			text := line()
			if text == "\r\n" {
				return data, trailers
			}
			trailers += text
		}
	}
	gotData, gotTrailers := decode(func() string {
		s, err := c.r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %q: %v", s, err)
		}
		return s
	}, c.bytes)
	rest := want
	wantData, wantTrailers := decode(func() (s string) {
		n := strings.Index(rest, "\n") + 1
		s, rest = rest[:n], rest[n:]
		return s
	}, func(n int) (s string) {
		s, rest = rest[:n], rest[n:]
		return s
	})
	if gotData != wantData || gotTrailers != wantTrailers {
		t.Fatalf("got %.200q with trailers %q, want %.200q with %q", gotData, gotTrailers, wantData, wantTrailers)
	}
}

func TestAnswersThatAreNoneBecome502(t *testing.T) {
	for name, answer := range map[string]string{
		"length and chunks":                   "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":                         "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
		"a list of lengths":                   "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc",
		"another coding":                      "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		"chunks in HTTP/1.0":                  "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"bare LF":                             "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		"bare LF in a field":                  "HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n",
		"a folded line":                       "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
		"a space before the colon":            "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
		"NUL":                                 "HTTP/1.1 200 OK\r\nX: \x00\r\nContent-Length: 0\r\n\r\n",
		"a bare CR":                           "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
		"a status of two digits":              "HTTP/1.1 20 OK\r\n\r\n",
		"a status of four digits":             "HTTP/1.1 2000 OK\r\n\r\n",
		"a status below 100":                  "HTTP/1.1 099 OK\r\n\r\n",
		"HTTP/2":                              "HTTP/2.0 200 OK\r\n\r\n",
		"garbage":                             "\x15\x03\x01\x00\x02\x02\x16\n",
		"not HTTP":                            "SSH-2.0-OpenSSH\r\n",
		"too long a head":                     "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 40<<10) + "\r\n\r\n",
		"a head without end":                  "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 40<<10),
		"a switch that nobody wanted":         "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
		"too many interim answers":            strings.Repeat("HTTP/1.1 102 \r\n\r\n", 17) + hello,
		"an interim answer with a body":       "HTTP/1.1 102 Processing\r\nContent-Length: 3\r\n\r\nabc" + hello,
		"a signed length":                     "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
		"a negative length":                   "HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc",
		"a length with a leading zero":        "HTTP/1.1 200 OK\r\nContent-Length: 03\r\n\r\nabc",
		"an empty length":                     "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nabc",
		"chunked, identity":                   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
		"xchunked":                            "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"chunked twice":                       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a length under another name":         "HTTP/1.1 200 OK\r\nContent_Length: 3\r\nContent-Length: 3\r\n\r\nabc",
		"a trailer that would say the length": "HTTP/1.1 200 OK\r\nTrailer: content-length\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a name without a value":              "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 3\r\n\r\nabc",
		"a reason with a control":             "HTTP/1.1 200 O\x00K\r\nContent-Length: 3\r\n\r\nabc",
		"no space after the status":           "HTTP/1.1 200OK\r\nContent-Length: 3\r\n\r\nabc",
		"Connection names a length":           "HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\nabc",
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, answering(answer), options{})
			c := f.client()
			c.t = t
			c.send(get)
			head := c.head()
			for status(head) == "102" {
				head = c.head()
			}
			if status(head) != "502" || !strings.Contains(head, "\r\nx-sluice-reason: upstream-protocol\r\n") {
				t.Errorf("answered %.200q", head)
			}
			if o := f.outcome(); reason(o) != refusal.UpstreamProtocol || o.Status != 502 {
				t.Errorf("outcome %+v", o)
			}
			if s := f.pool.Stats(); s.Idle+s.Busy != 0 {
				t.Errorf("the upstream connection was kept: %+v", s)
			}
		})
	}
}

func TestAnAnswerThatBreaksOffIsCutOffHereToo(t *testing.T) {
	for name, tc := range map[string]struct {
		answer  string
		failure refusal.Reason
	}{
		"in its length":     {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", refusal.UpstreamReset},
		"in a chunk":        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", refusal.UpstreamReset},
		"between chunks":    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", refusal.UpstreamReset},
		"in its trailers":   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n", refusal.UpstreamReset},
		"by a bad chunk":    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n", refusal.UpstreamProtocol},
		"by a bad trailer":  {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 1\r\n\r\n", refusal.UpstreamProtocol},
		"by a long trailer": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + strings.Repeat("a", 9<<10), refusal.UpstreamProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *originConn) {
				c.head()
				// The head first, so that it has been sent on when the rest fails.
				at := strings.Index(tc.answer, "\r\n\r\n") + 4
				c.send("%s", tc.answer[:at])
				c.send("%s", tc.answer[at:])
			}, options{})
			c := f.client().send(get)
			c.t = t
			var body strings.Builder
			b := make([]byte, 4096)
			for {
				n, err := c.r.Read(b)
				body.Write(b[:n])
				if err != nil {
					break
				}
			}
			if strings.HasSuffix(body.String(), "0\r\n\r\n") {
				t.Errorf("the client must take it that the answer was whole: %q", body.String())
			}
			if o := f.outcome(); reason(o) != tc.failure {
				t.Errorf("outcome %+v, want %s", o, tc.failure)
			}
		})
	}
}

// Where the end of the connection is the end of the body, one that broke off must not
// look whole.
func TestAnAnswerWithoutAFrameThatBreaksOffIsAReset(t *testing.T) {
	for name, tc := range map[string]struct{ request, answer, rest string }{
		"chunks to HTTP/1.0":        {"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", ""},
		"a bad chunk to HTTP/1.0":   {"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "xyz\r\n"},
		"a body up to the very end": {get, "HTTP/1.1 200 OK\r\n\r\nabc", "reset"},
	} {
		t.Run(name, func(t *testing.T) {
			arrived := make(chan struct{})
			f := newFixture(t, func(c *originConn) {
				c.head()
				c.send("%s", tc.answer)
				<-arrived
				if tc.rest == "reset" {
					c.SetLinger(0)
					c.Close()
					return
				}
				c.send("%s", tc.rest)
			}, options{})
			c := f.client().send("%s", tc.request)
			c.t = t
			c.head()
			c.want("abc")
			close(arrived)
			if got, err := io.ReadAll(c.r); !errors.Is(err, syscall.ECONNRESET) || len(got) > 0 {
				t.Errorf("got %q, %v, want a reset", got, err)
			}
			if o := f.outcome(); o.Failure == nil {
				t.Errorf("outcome %+v", o)
			}
		})
	}
}
