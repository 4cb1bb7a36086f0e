package http2_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// Over TLS the server chooses by ALPN which version is spoken with it.
func TestTheServerChoosesTheVersionByALPN(t *testing.T) {
	for _, x := range []struct {
		two      bool
		versions upstream.Versions
		want     string // "": it is refused
	}{
		{true, upstream.Either, "HTTP/2.0"},
		{false, upstream.Either, "HTTP/1.1"},
		{true, upstream.HTTP2, "HTTP/2.0"},
		{false, upstream.HTTP2, ""},
		{true, upstream.HTTP11, "HTTP/1.1"},
	} {
		behind := httptest.NewUnstartedServer(echo)
		behind.EnableHTTP2 = x.two
		behind.StartTLS()
		defer behind.Close()
		roots := x509.NewCertPool()
		roots.AddCert(behind.Certificate())
		open := share.NewStock(share.Config{Units: 100, Alone: true}).Join(0, nil)
		pool, err := upstream.NewPool(upstream.Config{
			Versions: x.versions, TLS: &tls.Config{ServerName: "example.com", RootCAs: roots}, Allowance: upstream.Allowance{Open: open, Handshakes: open},
			Dial: func(ctx context.Context) (*net.TCPConn, error) {
				var d net.Dialer
				c, err := d.DialContext(ctx, "tcp", behind.Listener.Addr().String())
				if err != nil {
					return nil, err
				}
				return c.(*net.TCPConn), nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close(true)
		f := newFixture(t, upstream.HTTP11, nil, http2.Limits{})
		f.directs(func(*exchange.Request) exchange.Direction { return exchange.Direction{Upstream: pool, Explain: true} })
		c := f.client()
		for range 3 {
			resp, err := c.Get("http://example.com/")
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			switch {
			case x.want == "" && resp.StatusCode == 502:
			case x.want == "" || resp.StatusCode != http.StatusOK || resp.Header.Get("x-version") != x.want:
				t.Errorf("a server of HTTP/2: %v, %v: %s, %s, %q", x.two, x.versions, resp.Status, resp.Header.Get("x-version"), body)
			}
		}
	}
}
