package http2_test

import (
	"testing"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http2"
)

// Who aborts an exchange late, after it was given back, does not end another's.
func TestALateAbortEndsNobodyElsesExchange(t *testing.T) {
	c, p := newClient(t, http2.Limits{})
	ask := func(st *http2.Stream) {
		t.Helper()
		if err := st.Send(exchange.Message("GET / HTTP/1.1\r\nhost: a.example\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		p.begin(p.request(), true, ":status", "204")
		b := make([]byte, 1000)
		n, err := st.Exchange(nil, b)
		if err != nil || string(b[:n]) != "HTTP/1.1 204 \r\n\r\n" {
			t.Fatalf("%q, %v", b[:n], err)
		}
	}
	first := c.Take()
	ask(first)
	first.Release(false)
	second := c.Take()
	first.Abort()
	ask(second)
	second.Release(true)
	third := c.Take()
	if third != second {
		t.Error("a stream whose exchange was read to its end is not used again")
	}
	ask(third)
	third.Release(true)
}
