package http1_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
)

// copiesTo keeps what a mirror gets.
type copiesTo chan string

func (c copiesTo) Mirror(out exchange.Message) { c <- string(out) }

// A mirror gets each request once as it was sent, whether it was all there or came in
// pieces; not what is too long, asks for another protocol or signs in.
func TestAMirrorGetsEachRequestOnce(t *testing.T) {
	for name, x := range map[string]struct {
		pieces []string // of the request
		want   string   // end of the copy; "" none comes
	}{
		"without a body":     {[]string{"GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n"}, "GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n"},
		"with one":           {[]string{"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc"}, "Content-Length: 3\r\n\r\nabc"},
		"in pieces":          {[]string{"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "2\r\nde\r\n", "0\r\n\r\n"}, "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"},
		"of 40 KiB":          {[]string{"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 40960\r\n\r\n", strings.Repeat("a", 40<<10)}, strings.Repeat("a", 40<<10)},
		"that is too long":   {[]string{"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 70000\r\n\r\n", strings.Repeat("a", 70000)}, ""},
		"that signs in":      {[]string{"GET /a HTTP/1.1\r\nHost: a.example\r\nAuthorization: NTLM abc\r\n\r\n"}, ""},
		"for a WebSocket":    {[]string{"GET /a HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"}, ""},
		"without an upgrade": {[]string{"GET /b HTTP/1.1\r\nHost: a.example\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"}, "GET /b HTTP/1.1\r\nHost: a.example\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			copies := make(copiesTo, 9)
			f := newFixture(t, func(c *originConn) {
				for {
					head := strings.ToLower(c.head())
					switch {
					case strings.Contains(head, "chunked"):
						for c.line() != "0\r\n" {
						}
						c.line()
					case strings.Contains(head, "content-length: "):
						var n int
						_, length, _ := strings.Cut(head, "content-length: ")
						fmt.Sscanf(length, "%d", &n)
						c.bytes(n)
					}
					c.send("%s", hello)
				}
			}, options{direction: func(f *fixture, x *exchange.Request) exchange.Direction {
				return exchange.Direction{Upstream: f.pool, Mirror: copies, AllowUpgrade: true}
			}})
			c := f.client()
			for i, piece := range x.pieces {
				if i > 0 {
					eventually(t, "the piece before is on its way", func() bool { return f.origin.count() == 1 })
				}
				c.send("%s", piece)
			}
			c.want(hello)
			f.outcome()
			select {
			case got := <-copies:
				if x.want == "" || !strings.HasSuffix(got, x.want) {
					t.Errorf("copied %.300q", got)
				}
			default:
				if x.want != "" {
					t.Error("nothing was copied")
				}
			}
			if len(copies) > 0 {
				t.Error("it was copied twice")
			}
		})
	}
}

// What a Direction says of the answer's head stands in the upstream's answer, in a Reply
// and in what the engine says of a failure.
func TestADirectionEditsTheAnswersHead(t *testing.T) {
	edits := &exchange.AnswerEdits{Set: []exchange.Field{{Name: "x-a", Value: "ours"}}, Append: []exchange.Field{{Name: "vary", Value: "origin"}}}
	f := newFixture(t, func(c *originConn) {
		for {
			if strings.Contains(c.head(), "/cut") {
				c.Close()
				return
			}
			c.send("HTTP/1.1 200 OK\r\nX-A: theirs\r\nVary: accept\r\nContent-Length: 2\r\n\r\nok")
		}
	}, options{direction: func(f *fixture, x *exchange.Request) exchange.Direction {
		if x.Path == "/reply" {
			return exchange.Direction{Answer: edits, Reply: &exchange.Reply{Status: 418, Header: []exchange.Field{{Name: "x-a", Value: "before"}}}}
		}
		return exchange.Direction{Upstream: f.pool, Answer: edits}
	}})
	for path, want := range map[string]string{"/": "200", "/reply": "418", "/cut": "502"} {
		head := f.client().send("GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", path).head()
		if status(head) != want || strings.Count(strings.ToLower(head), "x-a: ") != 1 || !strings.Contains(head, "\r\nx-a: ours\r\n") || !strings.Contains(head, "\r\nvary: origin\r\n") {
			t.Errorf("%s: %q", path, head)
		}
		if kept := strings.Contains(head, "Vary: accept"); kept != (path == "/") {
			t.Errorf("%s: %q", path, head)
		}
	}
}

func TestAnEditOfAnAnswerThatCannotBeMadeIsNotMade(t *testing.T) {
	for _, field := range []exchange.Field{{Name: "content-length", Value: "1"}, {Name: "a b", Value: "1"}, {Name: "a", Value: "b\r\nc: d"}} {
		f := newFixture(t, answering(hello), options{direction: func(f *fixture, x *exchange.Request) exchange.Direction {
			return exchange.Direction{Upstream: f.pool, Answer: &exchange.AnswerEdits{Set: []exchange.Field{field}}}
		}})
		if head := f.client().send(get).head(); status(head) != "500" {
			t.Errorf("%v: %q", field, head)
		}
	}
}

// A client that ends its side ends a decision that is for it alone, and no other.
func TestTheEndOfAClientsSideEndsWhatSaysSo(t *testing.T) {
	for _, until := range []bool{true, false} {
		waiting, decided := make(chan struct{}, 1), make(chan struct{})
		var now clock
		f := newFixture(t, answering(hello), options{now: now.read, direction: func(f *fixture, x *exchange.Request) exchange.Direction {
			return exchange.Direction{UntilFIN: until, Later: func(ctx context.Context) exchange.Direction {
				waiting <- struct{}{}
				select {
				case <-ctx.Done():
				case <-decided:
				}
				return exchange.Direction{Upstream: f.pool}
			}}
		}})
		c := f.client().send(get)
		<-waiting
		c.CloseWrite()
		if until {
			eventually(t, "the connection ends", func() bool {
				now.advance(time.Second / 100)
				f.server.Sweep()
				return f.server.Count() == 0
			})
		} else {
			for range 500 {
				now.advance(time.Second / 100)
				f.server.Sweep()
			}
			close(decided)
			c.want(hello)
		}
		if o := f.outcome(); (reason(o) == refusal.ClientGone) != until || (f.origin.count() == 0) != until {
			t.Errorf("until its end: %v: %+v", until, o)
		}
	}
}

// What is sent away is answered to nobody: the connection serves the next where the answer
// ended, and is closed where it did not.
func TestWhatIsSentAwayLeavesItsConnectionToOthers(t *testing.T) {
	for name, x := range map[string]struct {
		answer string
		status int
		reason refusal.Reason
		reused bool
	}{
		"a length":         {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "", true},
		"chunks":           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "", true},
		"after others":     {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", 500, "", true},
		"204":              {"HTTP/1.1 204 No Content\r\n\r\n", 204, "", true},
		"the end":          {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall that there is", 200, "", false},
		"too much":         {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more", 200, "", false},
		"too long":         {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nok", 200, "", false},
		"an endless body":  {"HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("a", 5<<20), 200, "", false},
		"endless chunks":   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("400\r\n"+strings.Repeat("a", 1<<10)+"\r\n", 5<<10), 200, "", false},
		"a sign-in":        {"HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n", 401, "", false},
		"no answer":        {"SSH-2.0-x\r\n", 0, refusal.UpstreamProtocol, false},
		"another protocol": {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 101, refusal.UpstreamProtocol, false},
		"a cut-off":        {"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok", 200, refusal.UpstreamReset, false},
		"nothing":          {"", 0, refusal.UpstreamReset, false},
		"a head too large": {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 20<<10) + "\r\n\r\n", 200, refusal.UpstreamProtocol, false},
		"a bad chunk":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 200, refusal.UpstreamProtocol, false},
		"others for ever":  {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 99), 100, refusal.UpstreamProtocol, false},
	} {
		t.Run(name, func(t *testing.T) {
			ends := !x.reused
			o := newOrigin(t, func(c *originConn) {
				for {
					c.head()
					c.send("%s", x.answer)
					if ends {
						c.CloseWrite()
						c.rest()
						return
					}
				}
			})
			defer o.close()
			pool, err := upstream.NewPool(upstream.Config{Dial: dialTo(o.address()), Allowance: allowance(9)})
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close(true)
			for range 2 {
				status, at, err := http1.SendAway(t.Context(), pool, exchange.Message("GET / HTTP/1.1\r\nhost: a\r\n\r\n"))
				var got refusal.Reason
				if err != nil {
					got = refusal.Of(err).Reason
				}
				if status != x.status || got != x.reason || at.String() != o.address() {
					t.Errorf("%d, %v from %v", status, err, at)
				}
			}
			if n := o.count(); (n == 1) != x.reused {
				t.Errorf("%d connections", n)
			}
		})
	}
}

func TestWhatIsSentAwayEndsWithItsTime(t *testing.T) {
	ctx, over := context.WithCancel(t.Context())
	o := newOrigin(t, func(c *originConn) {
		c.head()
		over()
		c.rest()
	})
	defer o.close()
	pool, err := upstream.NewPool(upstream.Config{Dial: dialTo(o.address()), Allowance: allowance(9)})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close(true)
	if _, _, err := http1.SendAway(ctx, pool, exchange.Message("GET / HTTP/1.1\r\nhost: a\r\n\r\n")); refusal.Of(err).Reason != refusal.UpstreamTimeout {
		t.Errorf("%v", err)
	}
	if s := pool.Stats(); s.Busy+s.Idle != 0 {
		t.Errorf("%+v", s)
	}
}

// said is a Stream that says something, in pieces.
type said struct {
	exchange.Stream
	left  []byte
	piece int
	reuse bool
}

func (s *said) Exchange(_ exchange.Message, in []byte) (int, error) {
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	n := copy(in, s.left[:min(len(s.left), s.piece)])
	s.left = s.left[n:]
	return n, nil
}
func (s *said) Abort()             {}
func (s *said) Release(reuse bool) { s.reuse = reuse }

// FuzzAnswersForNobody holds that what is read of an answer does not depend on the pieces
// in which it came.
func FuzzAnswersForNobody(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 500 No\r\n\r\nab", "HTTP/1.1 204 No\r\n\r\nHTTP/1.1", "x",
	} {
		f.Add([]byte(s), 1)
	}
	f.Fuzz(func(t *testing.T, answer []byte, piece int) {
		if piece <= 0 || len(answer) > 14<<10 {
			return
		}
		status, reason, _ := http1.ReadAway(&said{left: answer, piece: len(answer) + 1})
		again, reasonAgain, _ := http1.ReadAway(&said{left: answer, piece: piece})
		if status != again || reason != reasonAgain {
			t.Errorf("at once %d %s, in pieces of %d: %d %s", status, reason, piece, again, reasonAgain)
		}
	})
}
