package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// upstreams swaps in a policy whose ports lead outside as said, and what rules are given.
func (m *meshOf) upstreams(ports string, rules ...string) {
	m.t.Helper()
	m.objects = nil
	m.object("apiVersion: sluice.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: site, namespace: default}\nspec:\n  to: {hosts: [site.example.com], ports: [" + ports + "]}\n")
	for _, rule := range rules {
		m.object("apiVersion: config.istio.io/v1alpha2\nkind: RouteRule\nmetadata: {name: r, namespace: default}\nspec:\n  " + rule + "\n")
	}
	m.allow()
}

// What the workload asks for in the clear on port 80 leaves over TLS to port 443, so that no
// redirect is needed; Host names the port that is reached, and route rules see it as ever.
func TestAnHTTPPortLeadsToHTTPSOutside(t *testing.T) {
	n := newFakeNet(t)
	n.site("site.example.com", "93.184.216.34", 443, n.overTLS(tellHead, "site.example.com"))
	n.site("site.example.com", "93.184.216.34", 8080, tellHead)
	m := newMesh(t, n)
	for _, x := range []struct {
		upstream, request, routes string
		want                      string
	}{
		{"{port: 443, protocol: https}", get("site.example.com", "/a"), "", "GET /a HTTP/1.1\nHost: site.example.com\n"},
		{"{port: 443, protocol: https}", get("site.example.com:80", "/a"), "", "GET /a HTTP/1.1\nhost: site.example.com\n"},
		{"{port: 443, protocol: https}", "GET /a HTTP/1.0\r\n\r\n", "", "host: site.example.com\n"},
		{"{port: 8080, protocol: http}", get("site.example.com", "/a"), "", "GET /a HTTP/1.1\nhost: site.example.com:8080\n"},
		{"{port: 443, protocol: https}", get("site.example.com:80", "/a"), "rewrite: {uri: /b}", "GET /b HTTP/1.1\nhost: site.example.com\n"},
		{"{port: 443, protocol: https}", get("site.example.com:80", "/a"), "appendHeaders: {x-a: b}", "GET /a HTTP/1.1\nhost: site.example.com\nx-a: b\n"},
	} {
		port := "{port: 80, protocol: http, upstream: " + x.upstream + "}"
		if x.routes == "" {
			m.upstreams(port)
		} else {
			m.upstreams(port, "destination: {service: site.example.com}\n  "+x.routes)
		}
		resp, got, f := m.recorded(m.dial("site.example.com", 80), x.request)
		if resp.StatusCode != 200 || !strings.Contains(got, x.want) || f.Port != 80 {
			t.Errorf("%s, %q: %s\n%s\nrecorded %+v", x.upstream, x.request, resp.Status, got, f)
		}
	}
}

// A program that asked by http, was redirected to https and followed works as it did, and
// nobody is redirected any more; one that speaks TLS of its own does too.
func TestWhatWasRedirectedToHTTPSBeforeWorksUnchanged(t *testing.T) {
	n := newFakeNet(t)
	n.site("site.example.com", "93.184.216.34", 80, serving(func(r *http.Request, _ string) string {
		return "HTTP/1.1 301 Moved Permanently\r\nlocation: https://" + r.Host + r.RequestURI + "\r\ncontent-length: 0\r\n\r\n"
	}))
	n.site("site.example.com", "93.184.216.34", 443, n.overTLS(serving(func(r *http.Request, body string) string {
		return "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 7\r\n\r\nby TLS\n"
	}), "site.example.com"))
	m := newMesh(t, n)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(n.pem))
	redirected := 0
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(_ context.Context, _, to string) (net.Conn, error) {
				if strings.HasSuffix(to, ":443") {
					return m.dial("site.example.com", 443), nil
				}
				return m.dial("site.example.com", 80), nil
			},
			TLSClientConfig: &tls.Config{RootCAs: roots},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { redirected++; return nil },
	}
	for _, x := range []struct {
		ports, url string
		redirected int
	}{
		{"{port: 80, protocol: http}, {port: 443, protocol: https}", "http://site.example.com/a", 1}, // as it was
		{"{port: 80, protocol: http, upstream: {port: 443, protocol: https}}, {port: 443, protocol: https}", "http://site.example.com/a", 0},
		{"{port: 80, protocol: http, upstream: {port: 443, protocol: https}}, {port: 443, protocol: https}", "https://site.example.com/a", 0},
		{"{port: 80, protocol: http, upstream: {port: 443, protocol: https}}", "http://site.example.com/a", 0},
	} {
		m.upstreams(x.ports)
		redirected = 0
		resp, err := client.Get(x.url)
		if err != nil {
			t.Errorf("%s, %s: %v", x.ports, x.url, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || string(body) != "by TLS\n" || redirected != x.redirected {
			t.Errorf("%s, %s: %s %q after %d redirects, %v", x.ports, x.url, resp.Status, body, redirected, err)
		}
	}
}

// Where a port leads may change: the next request on a connection goes by the new rule.
func TestTheNextRequestGoesWhereItsPortLeadsThen(t *testing.T) {
	n := newFakeNet(t)
	n.site("site.example.com", "93.184.216.34", 443, n.overTLS(tellHead, "site.example.com"))
	n.site("site.example.com", "93.184.216.34", 8080, tellHead)
	n.site("site.example.com", "93.184.216.34", 80, tellHead)
	m := newMesh(t, n)
	m.upstreams("{port: 80, protocol: http}")
	conn := m.dial("site.example.com", 80)
	answers := bufio.NewReader(conn)
	for _, x := range []struct{ upstream, host string }{
		{"", "Host: site.example.com\n"}, {", upstream: {port: 8080, protocol: http}", "host: site.example.com:8080\n"},
		{", upstream: {port: 443, protocol: https}", "Host: site.example.com\n"}, {", upstream: {port: 8080, protocol: http}", "host: site.example.com:8080\n"}, {"", "Host: site.example.com\n"},
	} {
		m.upstreams("{port: 80, protocol: http" + x.upstream + "}")
		resp := exchange(t, conn, answers, get("site.example.com", "/a"))
		if got := read(t, resp.Body); resp.StatusCode != 200 || !strings.Contains(got, x.host) {
			t.Errorf("%s: %s\n%s", x.upstream, resp.Status, got)
		}
	}
}

// A route rule leads to a host by the rule of that host, and so by the port that it leads to;
// a copy too.
func TestARouteRuleLeadsByWhereThePortOfItsHostLeads(t *testing.T) {
	n := newFakeNet(t)
	got := make(chan string, 1)
	n.site("site.example.com", "93.184.216.34", 443, n.overTLS(heads(got), "site.example.com"))
	n.site("old.example.com", "93.184.216.35", 80, tellHead)
	m := newMesh(t, n)
	for spec, status := range map[string]int{"route: [{destination: {service: site.example.com}}]": 418, "mirror: {service: site.example.com}": 200} {
		m.upstreams("{port: 80, protocol: http, upstream: {port: 443, protocol: https}}", "destination: {service: old.example.com}\n  "+spec)
		m.allow(rules(t, "old.example.com:80")...)
		resp, _ := sends(t, m.dial("old.example.com", 80), get("old.example.com", "/a"))
		if resp.StatusCode != status {
			t.Errorf("%s: %s", spec, resp.Status)
		}
		if asked := <-got; asked != `GET site.example.com /a ""` {
			t.Errorf("%s: the host got %s", spec, asked)
		}
	}
}
