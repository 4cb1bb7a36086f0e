package http2_test

import (
	"net/http"
	"sync/atomic"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// What a client says behind a change of protocols that was not made is not a request: the
// server is never asked it, and an answer of success, which would open the tunnel, is none.
func TestWhatFollowsARefusedExtendedConnectIsNotARequest(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusForbidden} {
		for _, early := range []bool{false, true} {
			var admin atomic.Int32
			hold := make(chan struct{})
			f := newFixture(t, upstream.HTTP11, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/admin" {
					admin.Add(1)
					return
				}
				<-hold
				w.Header().Set("content-length", "0")
				w.WriteHeader(status)
			}), http2.Limits{})
			p := f.peer(t)
			smuggled := []byte("POST /admin HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0\r\n\r\n")
			p.begin(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a.example", ":path", "/chat", "sec-websocket-version", "13")
			if early {
				p.framer.WriteData(1, false, smuggled)
				p.taken()
			}
			close(hold)
			if !early {
				<-f.done
				p.framer.WriteData(1, false, smuggled)
			}
			want := xhttp2.ErrCodeInternal
			if status == http.StatusForbidden {
				want = xhttp2.ErrCodeNo
				if got := p.answer(1); got != "403" {
					t.Errorf("it gets %s", got)
				}
			}
			p.until("the stream is reset", func(fr xhttp2.Frame) bool {
				if h, ok := fr.(*xhttp2.MetaHeadersFrame); ok {
					t.Fatalf("%d, early %v: it gets %s", status, early, h.PseudoValue("status"))
				}
				reset, ok := fr.(*xhttp2.RSTStreamFrame)
				if ok && reset.ErrCode != want {
					t.Errorf("%d, early %v: it is reset by %v", status, early, reset.ErrCode)
				}
				return ok
			})
			if admin.Load() > 0 {
				t.Errorf("%d, early %v: the server was asked what follows", status, early)
			}
		}
	}
}
