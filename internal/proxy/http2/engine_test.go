package http2_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// echo answers with what it was asked.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("x-version", r.Proto)
	w.Header().Set("x-host", r.Host)
	w.Header().Set("x-cookie", r.Header.Get("cookie"))
	w.Header().Set("trailer", "x-trailer")
	http.NewResponseController(w).EnableFullDuplex() // of HTTP/1.1
	n, err := io.Copy(w, r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("x-trailer", fmt.Sprint(n))
})

var versions = map[string]upstream.Versions{"HTTP/1.1": upstream.HTTP11, "HTTP/2.0": upstream.HTTP2}

// Whatever the server speaks, a client of HTTP/2 gets its answer, with body and trailers.
func TestARequestPassesWithBodyAndTrailers(t *testing.T) {
	for proto, version := range versions {
		for _, size := range []int{0, 1, 1000, 70_000, 300_000} {
			for _, length := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, %d bytes, length %v", proto, size, length), func(t *testing.T) {
					f := newFixture(t, version, echo, http2.Limits{})
					c := f.client()
					for range 3 {
						sent := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
						var body io.Reader = bytes.NewReader(sent)
						if !length {
							body = io.MultiReader(body)
						}
						r, err := http.NewRequest("POST", "http://service.example/path?query", body)
						if err != nil {
							t.Fatal(err)
						}
						r.Header["Cookie"] = []string{"a=1; b=2"}
						resp, err := c.Do(r)
						if err != nil {
							t.Fatal(err)
						}
						got, err := io.ReadAll(resp.Body)
						if err != nil || !bytes.Equal(got, sent) {
							t.Fatalf("%d bytes, %v", len(got), err)
						}
						if resp.Proto != "HTTP/2.0" || resp.StatusCode != 200 || resp.Header.Get("x-version") != proto || resp.Header.Get("x-host") != "service.example" || resp.Header.Get("x-cookie") != "a=1; b=2" {
							t.Errorf("%s %s %v", resp.Proto, resp.Status, resp.Header)
						}
						if size > 0 && resp.Trailer.Get("x-trailer") != fmt.Sprint(size) {
							t.Errorf("trailers %v", resp.Trailer)
						}
					}
				})
			}
		}
	}
}

// Many requests go side by side over one connection on each side.
func TestManyRequestsGoSideBySide(t *testing.T) {
	f := newFixture(t, upstream.HTTP2, echo, http2.Limits{})
	c := f.client()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for j := range 10 {
				text := fmt.Sprint(i, "-", j, strings.Repeat("x", i*j))
				resp, err := c.Post("http://a.example/", "text/plain", strings.NewReader(text))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				if err != nil || string(got) != text {
					t.Errorf("%.200q, %v; want %.20q", got, err, text)
				}
			}
		})
	}
	all.Wait()
	if s := f.pool.Stats(); s.Idle+s.Busy > 2 {
		t.Errorf("%+v", s)
	}
}

// A client of HTTP/1.1 is answered by a server that speaks HTTP/2 alone, trailers included.
func TestAClientOfHTTP11ReachesAServerOfHTTP2(t *testing.T) {
	f := newFixture(t, upstream.HTTP2, echo, http2.Limits{})
	c := &http.Client{Transport: new(http.Transport), Timeout: patience}
	defer c.CloseIdleConnections()
	for _, size := range []int{0, 1, 70_000} {
		sent := strings.Repeat("x", size)
		resp, err := c.Post("http://"+f.address+"/", "text/plain", io.MultiReader(strings.NewReader(sent)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || string(got) != sent || resp.Proto != "HTTP/1.1" || resp.Header.Get("x-version") != "HTTP/2.0" || resp.Trailer.Get("x-trailer") != fmt.Sprint(size) {
			t.Errorf("%d bytes of %d, %s, %v, trailers %v, %v", len(got), size, resp.Proto, resp.Header, resp.Trailer, err)
		}
	}
}

// An extended CONNECT is a handshake of WebSocket to a server of HTTP/1.1, and then bytes both
// ways; a server that does not answer the handshake's key is not believed.
func TestExtendedConnectReachesAServerOfHTTP11(t *testing.T) {
	const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	for _, wrong := range []bool{false, true} {
		f := newFixture(t, upstream.HTTP11, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sum := sha1.Sum([]byte(r.Header.Get("sec-websocket-key") + guid))
			accept := base64.StdEncoding.EncodeToString(sum[:])
			if wrong {
				accept = base64.StdEncoding.EncodeToString(make([]byte, 20))
			}
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Accept: %s\r\n\r\n", r.Header.Get("upgrade"), accept)
			rw.Flush()
			io.Copy(c, rw)
		}), http2.Limits{})
		p := f.peer(t)
		p.begin(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a.example", ":path", "/chat", "sec-websocket-version", "13")
		if wrong {
			p.reset(1, xhttp2.ErrCodeInternal)
			continue
		}
		if status := p.answer(1); status != "200" {
			t.Fatalf("status %s", status)
		}
		p.framer.WriteData(1, false, []byte("hello"))
		p.framer.WriteData(1, true, nil)
		var got []byte
		p.until("the echo", func(f xhttp2.Frame) bool {
			d, ok := f.(*xhttp2.DataFrame)
			if ok {
				got = append(got, d.Data()...)
			}
			return ok && d.StreamEnded()
		})
		if string(got) != "hello" {
			t.Errorf("it got %q", got)
		}
	}
}
