package http2_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
)

// peer speaks frames with the proxy, as a client that keeps to nothing.
type peer struct {
	t      *testing.T
	conn   net.Conn
	framer *xhttp2.Framer
	hpack  *hpack.Encoder
	block  bytes.Buffer
}

func (f *fixture) peer(t *testing.T, settings ...xhttp2.Setting) *peer {
	t.Helper()
	c, err := net.Dial("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	p := &peer{t: t, conn: c, framer: xhttp2.NewFramer(c, c)}
	p.framer.AllowIllegalWrites = true
	p.hpack = hpack.NewEncoder(&p.block)
	p.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	io.WriteString(c, xhttp2.ClientPreface)
	p.framer.WriteSettings(settings...)
	return p
}

// head is a field block: names and values.
func (p *peer) head(fields ...string) []byte {
	p.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return p.block.Bytes()
}

func (p *peer) get(id uint32, more ...string) {
	p.begin(id, true, append([]string{":method", "GET", ":scheme", "http", ":authority", "a.example", ":path", "/"}, more...)...)
}

func (p *peer) begin(id uint32, end bool, fields ...string) {
	p.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: p.head(fields...), EndStream: end, EndHeaders: true})
}

// until reads frames until take returns true.
func (p *peer) until(what string, take func(xhttp2.Frame) bool) {
	p.t.Helper()
	for {
		f, err := p.framer.ReadFrame()
		if err != nil {
			p.t.Fatalf("%s: %v", what, err)
		}
		if take(f) {
			return
		}
	}
}

// reset reads until a stream is reset, and wants that code.
func (p *peer) reset(id uint32, want xhttp2.ErrCode) {
	p.t.Helper()
	p.until(fmt.Sprintf("stream %d is reset", id), func(f xhttp2.Frame) bool {
		switch f := f.(type) {
		case *xhttp2.RSTStreamFrame:
			if f.StreamID == id && f.ErrCode != want {
				p.t.Errorf("stream %d is reset by %v, want %v", id, f.ErrCode, want)
			}
			return f.StreamID == id
		case *xhttp2.GoAwayFrame:
			p.t.Fatalf("GOAWAY %v %s", f.ErrCode, f.DebugData())
		}
		return false
	})
}

// ends reads until the connection ends, and wants that code.
func (p *peer) ends(want xhttp2.ErrCode) {
	p.t.Helper()
	p.until("the connection ends", func(f xhttp2.Frame) bool {
		if f, ok := f.(*xhttp2.GoAwayFrame); ok {
			if f.ErrCode != want {
				p.t.Errorf("it ends by %v %s, want %v", f.ErrCode, f.DebugData(), want)
			}
			return true
		}
		return false
	})
}

// answer reads until the head of a stream's answer, and returns its status.
func (p *peer) answer(id uint32) (status string) {
	p.t.Helper()
	p.until(fmt.Sprintf("the answer of stream %d", id), func(f xhttp2.Frame) bool {
		switch f := f.(type) {
		case *xhttp2.MetaHeadersFrame:
			status = f.PseudoValue("status")
			return f.StreamID == id
		case *xhttp2.GoAwayFrame:
			p.t.Fatalf("GOAWAY %v %s", f.ErrCode, f.DebugData())
		}
		return false
	})
	return status
}

// What asks for nothing of use, again and again, ends its connection and no other.
func TestAFloodEndsItsConnectionAlone(t *testing.T) {
	for _, x := range []struct {
		what string
		want xhttp2.ErrCode
		each func(p *peer, i int) error
	}{
		{"PING", xhttp2.ErrCodeEnhanceYourCalm, func(p *peer, _ int) error { return p.framer.WritePing(false, [8]byte{}) }},
		{"SETTINGS", xhttp2.ErrCodeEnhanceYourCalm, func(p *peer, _ int) error { return p.framer.WriteSettings() }},
		{"PRIORITY", xhttp2.ErrCodeEnhanceYourCalm, func(p *peer, _ int) error { return p.framer.WritePriority(1, xhttp2.PriorityParam{}) }},
		{"WINDOW_UPDATE", xhttp2.ErrCodeEnhanceYourCalm, func(p *peer, _ int) error { return p.framer.WriteWindowUpdate(0, 1) }},
		{"unknown frames", xhttp2.ErrCodeEnhanceYourCalm, func(p *peer, _ int) error { return p.framer.WriteRawFrame(99, 0, 0, nil) }},
		{"empty DATA", xhttp2.ErrCodeEnhanceYourCalm, func(p *peer, i int) error {
			if i == 0 {
				p.begin(1, false, ":method", "POST", ":scheme", "http", ":authority", "a.example", ":path", "/slow")
			}
			return p.framer.WriteData(1, false, nil)
		}},
		{"CONTINUATION", xhttp2.ErrCodeEnhanceYourCalm, func(p *peer, i int) error {
			if i == 0 {
				return p.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: p.head(":method", "GET")})
			}
			return p.framer.WriteContinuation(1, false, p.head("x", "y"))
		}},
		{"rapid reset", xhttp2.ErrCodeEnhanceYourCalm, func(p *peer, i int) error {
			p.get(uint32(2*i + 1))
			return p.framer.WriteRSTStream(uint32(2*i+1), xhttp2.ErrCodeCancel)
		}},
		{"resets by our own refusals", xhttp2.ErrCodeEnhanceYourCalm, func(p *peer, i int) error {
			p.get(uint32(2*i+1), "connection", "close")
			return nil
		}},
	} {
		t.Run(x.what, func(t *testing.T) {
			f := newFixture(t, upstream.HTTP11, echo, http2.Limits{})
			p := f.peer(t)
			go func() {
				for i := 0; i < 100_000 && x.each(p, i) == nil; i++ {
				}
			}()
			p.ends(x.want)
			if got := f.peer(t); true {
				got.get(1)
				if status := got.answer(1); status != "200" {
					t.Errorf("a neighbour gets %s", status)
				}
			}
		})
	}
}

// A peer that asks for answers and reads none has its connection ended, with what is held for
// it bounded.
func TestAPeerThatReadsNothingIsNotAnsweredForEver(t *testing.T) {
	f := newFixture(t, upstream.HTTP11, echo, http2.Limits{})
	p := f.peer(t)
	for i := 0; ; i++ {
		if i == 20_000_000 {
			t.Fatal("it goes on")
		}
		if err := p.framer.WritePing(false, [8]byte{}); err != nil {
			return
		}
	}
}

// What is malformed ends its stream, and the connection goes on.
func TestAMalformedRequestIsReset(t *testing.T) {
	f := newFixture(t, upstream.HTTP11, echo, http2.Limits{})
	p := f.peer(t)
	id := uint32(1)
	get := []string{":method", "GET", ":scheme", "http", ":authority", "a.example", ":path", "/"}
	with := func(more ...string) []string { return append(get[:len(get):len(get)], more...) }
	for what, fields := range map[string][]string{
		"an upper-case name":              with("X-A", "1"),
		"a connection field":              with("connection", "x"),
		"transfer-encoding":               with("transfer-encoding", "chunked"),
		"upgrade":                         with("upgrade", "websocket"),
		"te other than trailers":          with("te", "gzip"),
		"a pseudo-field behind a field":   append([]string{"a", "b"}, get...),
		"a pseudo-field twice":            append([]string{":path", "/other"}, get...),
		"an unknown pseudo-field":         append([]string{":x", "y"}, get...),
		"a pseudo-field of answers":       append([]string{":status", "200"}, get...),
		"no method":                       get[2:],
		"no path":                         get[:6],
		"an empty path":                   append(get[:6:6], ":path", ""),
		"a path without a slash":          append(get[:6:6], ":path", "x"),
		"a space in the path":             append(get[:6:6], ":path", "/a b"),
		"a fragment":                      append(get[:6:6], ":path", "/a#b"),
		"a line end in a value":           with("x", "a\r\nhost: evil"),
		"a NUL in a value":                with("x", "a\x00b"),
		"a blank before a value":          with("x", " a"),
		"a line end in the authority":     {":method", "GET", ":scheme", "http", ":authority", "a\r\nb", ":path", "/"},
		"user information":                {":method", "GET", ":scheme", "http", ":authority", "u@a.example", ":path", "/"},
		"another host than the authority": with("host", "b.example"),
		"two hosts":                       with("host", "a.example", "host", "a.example"),
		"two lengths":                     with("content-length", "0", "content-length", "0"),
		"a length without a body":         with("content-length", "5"),
		"a length that is no number":      with("content-length", "+5"),
		"another scheme":                  {":method", "GET", ":scheme", "ftp", ":authority", "a.example", ":path", "/"},
		"a space in the method":           {":method", "GET /x", ":scheme", "http", ":authority", "a.example", ":path", "/"},
		"CONNECT with a path":             {":method", "CONNECT", ":authority", "a.example:1", ":path", "/"},
		"a protocol without CONNECT":      with(":protocol", "websocket"),
		"an extended CONNECT of a length": {":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a.example", ":path", "/", "content-length", "0"},
	} {
		t.Run(what, func(t *testing.T) {
			p.t = t
			p.begin(id, true, fields...)
			p.reset(id, xhttp2.ErrCodeProtocol)
			id += 2
		})
	}
	p.t = t
	p.get(id)
	if status := p.answer(id); status != "200" {
		t.Errorf("the next gets %s", status)
	}
}

// Bodies have the length that was said, or their stream is reset.
func TestABodyOfAnotherLengthIsReset(t *testing.T) {
	f := newFixture(t, upstream.HTTP11, echo, http2.Limits{})
	for _, body := range []string{"", "1234", "123456"} {
		p := f.peer(t)
		p.begin(1, false, ":method", "POST", ":scheme", "http", ":authority", "a.example", ":path", "/", "content-length", "5")
		p.framer.WriteData(1, true, []byte(body))
		p.reset(1, xhttp2.ErrCodeProtocol)
	}
}

// A few bytes that stand for many fields are held as what they are, and refused past the
// bound on a head.
func TestFieldsThatGrowByTheTableAreRefused(t *testing.T) {
	f := newFixture(t, upstream.HTTP11, echo, http2.Limits{})
	p := f.peer(t)
	p.get(1, "x-bomb", strings.Repeat("b", 3000))
	p.answer(1)
	many := make([]string, 0, 240)
	for range 120 {
		many = append(many, "x-bomb", strings.Repeat("b", 3000))
	}
	p.get(3, many...)
	if size := p.block.Len(); size > 1000 {
		t.Fatalf("the block has %d bytes: it does not try the table", size)
	}
	if status := p.answer(3); status != "431" {
		t.Errorf("status %s", status)
	}
	o := <-f.refused
	if o.Failure.Reason != refusal.HeadersTooLarge {
		t.Errorf("recorded: %+v", o.Failure)
	}
	p.get(5)
	if status := p.answer(5); status != "200" {
		t.Errorf("the next gets %s", status)
	}
}

// More streams than the limit are refused, and those that were reset count until their
// exchange has ended.
func TestStreamsBeyondTheLimitAreRefused(t *testing.T) {
	hold := make(chan struct{})
	var here atomic.Int32
	f := newFixture(t, upstream.HTTP11, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { here.Add(1); <-hold }), http2.Limits{MaxStreams: 3})
	defer close(hold)
	p := f.peer(t)
	for i := range 3 {
		p.get(uint32(2*i + 1))
	}
	p.get(7)
	p.reset(7, xhttp2.ErrCodeRefusedStream)
}

// More than the windows is an error, of the stream or of the connection.
func TestDataBeyondTheWindowIsRefused(t *testing.T) {
	hold := make(chan struct{})
	f := newFixture(t, upstream.HTTP11, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-hold }), http2.Limits{})
	defer close(hold)
	f.directs(func(x *exchange.Request) exchange.Direction {
		return exchange.Direction{Later: func(ctx context.Context) exchange.Direction {
			<-ctx.Done()
			return exchange.Direction{Reply: &exchange.Reply{Reason: refusal.ClientGone}}
		}}
	})
	p := f.peer(t)
	p.begin(1, false, ":method", "POST", ":scheme", "http", ":authority", "a.example", ":path", "/")
	for range 8 {
		p.framer.WriteData(1, false, make([]byte, 16<<10))
	}
	p.reset(1, xhttp2.ErrCodeFlowControl)
}

// A server that does not read stops its client, and a client that does not read its server:
// nobody in between holds what they send.
func TestWhoDoesNotReadStopsWhoSends(t *testing.T) {
	for proto, version := range versions {
		t.Run(proto, func(t *testing.T) {
			hold := make(chan struct{})
			sent := make(chan int64, 1)
			f := newFixture(t, version, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/read-nothing" {
					<-hold
					return
				}
				http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * time.Second))
				var n int64
				for n < 64<<20 {
					m, err := w.Write(make([]byte, 16<<10))
					n += int64(m)
					if err != nil {
						break
					}
				}
				sent <- n
			}), http2.Limits{})
			defer close(hold)
			p := f.peer(t)
			p.get(1) // its window is 64 KiB, and never grows
			if n := <-sent; n > 16<<20 {
				t.Errorf("the server could send %d bytes", n)
			}
			var taken atomic.Int64
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, "POST", "http://a.example/read-nothing", readerFunc(func(b []byte) (int, error) {
				taken.Add(int64(len(b)))
				return len(b), nil
			}))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.client().Do(r); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it ends with %v", err)
			}
			if n := taken.Load(); n > 16<<20 {
				t.Errorf("the client could send %d bytes", n)
			}
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// A window of one byte lets one byte pass.
func TestAWindowOfOneByteLetsOneBytePass(t *testing.T) {
	f := newFixture(t, upstream.HTTP11, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }), http2.Limits{})
	p := f.peer(t, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1})
	p.get(1)
	var got []byte
	p.until("the body", func(fr xhttp2.Frame) bool {
		d, ok := fr.(*xhttp2.DataFrame)
		if !ok {
			return false
		}
		if len(d.Data()) > 1 {
			t.Errorf("%q in one frame", d.Data())
		}
		got = append(got, d.Data()...)
		p.framer.WriteWindowUpdate(1, 1)
		return d.StreamEnded()
	})
	if string(got) != "hello" {
		t.Errorf("it got %q", got)
	}
}

// A shutdown lets what is under way finish, and nothing new begin.
func TestAShutdownLetsStreamsFinish(t *testing.T) {
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
	p.ends(xhttp2.ErrCodeNo)
	close(hold)
	if status := p.answer(1); status != "200" {
		t.Errorf("it gets %s", status)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The connection that has carried nothing for longest makes way for another, with a GOAWAY.
func TestAnIdleConnectionMakesWay(t *testing.T) {
	f := newFixture(t, upstream.HTTP11, echo, http2.Limits{})
	if f.two.CloseIdle() {
		t.Error("there is none, and one was closed")
	}
	p := f.peer(t)
	p.get(1)
	p.answer(1)
	for !f.two.CloseIdle() { // once it is idle for long enough
		time.Sleep(time.Millisecond)
	}
	p.ends(xhttp2.ErrCodeNo)
}
