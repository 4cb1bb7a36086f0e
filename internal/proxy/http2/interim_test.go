package http2_test

import (
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http2"
)

// DATA before the final head of an answer is malformed, empty or not, and ends its stream.
func TestDataBeforeTheFinalHeadIsMalformed(t *testing.T) {
	for _, interim := range []bool{false, true} {
		for _, body := range []string{"", "early"} {
			c, p := newClient(t, http2.Limits{})
			st := c.Take()
			if err := st.Send(exchange.Message("GET / HTTP/1.1\r\nhost: a.example\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			id := p.request()
			if interim {
				p.begin(id, false, ":status", "103")
			}
			p.framer.WriteData(id, true, []byte(body))
			p.reset(id, xhttp2.ErrCodeProtocol)
			if n, err := st.Exchange(nil, make([]byte, 100)); err == nil {
				t.Errorf("interim %v, %q: it reads %d bytes", interim, body, n)
			}
			st.Release(false)
		}
	}
}
