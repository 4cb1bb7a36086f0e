package http2_test

import (
	"net/http"
	"sync/atomic"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"sluice.dev/sluice/internal/proxy/exchange"
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

// Extended CONNECT says what a GET without a body says. Any other request is sent as what it is,
// without its wish to change protocols, which no server has to heed.
func TestARequestOtherThanABareGETIsNoExtendedConnect(t *testing.T) {
	for _, x := range []struct{ head, body, method, protocol string }{
		{"GET /chat HTTP/1.1\r\n", "", "CONNECT", "foo"},
		{"GET /chat HTTP/1.1\r\ncontent-length: 0\r\n", "", "CONNECT", "foo"},
		{"GET /chat HTTP/1.1\r\ncontent-length: 2\r\n", "ab", "GET", ""},
		{"POST /chat HTTP/1.1\r\ncontent-length: 2\r\n", "ab", "POST", ""},
		{"POST /chat HTTP/1.1\r\ntransfer-encoding: chunked\r\n", "2\r\nab\r\n0\r\n\r\n", "POST", ""},
		{"DELETE /chat HTTP/1.1\r\n", "", "DELETE", ""},
	} {
		c, p := newClient(t, http2.Limits{})
		p.framer.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingEnableConnectProtocol, Val: 1})
		p.taken()
		st := c.Take()
		if err := st.Send(exchange.Message(x.head + "host: a.example\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n" + x.body)); err != nil {
			t.Fatal(err)
		}
		body, ended := "", false
		p.until("the request", func(fr xhttp2.Frame) bool {
			switch fr := fr.(type) {
			case *xhttp2.MetaHeadersFrame:
				if method, protocol := fr.PseudoValue("method"), fr.PseudoValue("protocol"); method != x.method || protocol != x.protocol {
					t.Errorf("%q: it is %s %s", x.head, method, protocol)
				}
				for _, field := range fr.RegularFields() {
					if x.protocol != "" && field.Name == "content-length" {
						t.Errorf("%q: an extended CONNECT with a Content-Length", x.head)
					}
				}
				ended = fr.StreamEnded()
				return ended || x.protocol != ""
			case *xhttp2.DataFrame:
				body += string(fr.Data())
				ended = fr.StreamEnded()
			}
			return ended
		})
		if want := x.protocol == ""; ended != want || want && len(x.body) > 0 && body != "ab" {
			t.Errorf("%q: body %q, ended %v", x.head, body, ended)
		}
		st.Release(false)
	}
}
