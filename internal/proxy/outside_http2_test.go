package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// Rules for one port of a host, in both forms.
var portForms = map[string]string{
	"EgressRule":   "apiVersion: config.istio.io/v1alpha2\nkind: EgressRule\nmetadata: {name: site, namespace: default}\nspec: {destination: {service: %s}, ports: [{port: %d, protocol: %s}]}\n",
	"EgressPolicy": "apiVersion: sluice.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: site, namespace: default}\nspec: {to: {hosts: [%s], ports: [{port: %d, protocol: %s}]}}\n",
}

// opens swaps in rules as YAML, as the only ones.
func (m *meshOf) opens(rules ...string) {
	m.t.Helper()
	m.objects = nil
	for _, rule := range rules {
		m.object(rule)
	}
	m.allow()
}

// protoOf is in which version the server was spoken to that answers by tellRequest.
func protoOf(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	response, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Sprintf("%d %s", response.StatusCode, response.Header.Get("x-sluice-reason"))
	}
	proto, _, _ := strings.Cut(string(body), "\n")
	return proto
}

// A port outside that is http2 or grpc is spoken to in HTTP/2 by prior knowledge, whatever the
// client speaks, and takes nothing but requests in the clear.
func TestAPortOutsideThatIsHTTP2IsSpokenToInHTTP2(t *testing.T) {
	n := newFakeNet(t)
	n.site("site.example.com", "93.184.215.16", 80, httpSite(t, n, tellRequest))
	n.site("one.example.com", "93.184.215.17", 80, tellHead)
	m := newMesh(t, n)
	for form, text := range portForms {
		for protocol, want := range map[string]map[string]string{
			"http":  {"HTTP/1.1": "HTTP/1.1", "HTTP/2": "HTTP/2.0"},
			"http2": {"HTTP/1.1": "HTTP/2.0", "HTTP/2": "HTTP/2.0"},
			"grpc":  {"HTTP/1.1": "HTTP/2.0", "HTTP/2": "HTTP/2.0"},
		} {
			m.opens(fmt.Sprintf(text, "site.example.com", 80, protocol))
			for version := range versions {
				if got := protoOf(t, speaks(t, version, m.to("site.example.com", 80)), "http://site.example.com/"); got != want[version] {
					t.Errorf("%s, %s, a client of %s: %s", form, protocol, version, got)
				}
			}
			begun := time.Now()
			if _, err := m.getTLS("site.example.com", 80); err == nil {
				t.Errorf("%s, %s: TLS passed", form, protocol)
			}
			m.flowOf("TLS is denied", func(r *record.Record) bool {
				return r.Start.After(begun) && r.SNI != "" && r.Reason == refusal.ProtocolMismatch
			})
		}
		m.opens(fmt.Sprintf(text, "one.example.com", 80, "http2"))
		if got := protoOf(t, speaks(t, "HTTP/1.1", m.to("one.example.com", 80)), "http://one.example.com/"); got != "502 upstream-protocol" {
			t.Errorf("%s, a server of HTTP/1.1: %s", form, got)
		}
	}
}

// Where such a port leads to https, HTTP/2 is asked for by ALPN, and what chooses another
// protocol is not spoken to at all.
func TestAPortThatIsHTTP2LeadsToHTTP2ByTLS(t *testing.T) {
	n := newFakeNet(t)
	n.site("site.example.com", "93.184.215.16", 443, httpSite(t, n, tellRequest, "site.example.com"))
	n.site("site.example.com", "93.184.215.16", 8080, httpSite(t, n, tellRequest))
	var asked atomic.Int32
	n.site("site.example.com", "93.184.215.16", 8443, n.overTLS(func(c net.Conn) {
		if n, _ := c.Read(make([]byte, 1)); n > 0 {
			asked.Add(1)
		}
	}, "site.example.com"))
	m := newMesh(t, n)
	for _, x := range []struct{ from, upstream, want string }{
		{"http2", "{port: 443, protocol: https}", "HTTP/2.0"},
		{"grpc", "{port: 443, protocol: https}", "HTTP/2.0"},
		{"grpc", "{port: 8080, protocol: http2}", "HTTP/2.0"},
		{"http", "{port: 443, protocol: https}", "HTTP/1.1"},
		{"http2", "{port: 8443, protocol: https}", "502 upstream-tls"},
	} {
		m.upstreams("{port: 80, protocol: " + x.from + ", upstream: " + x.upstream + "}")
		if got := protoOf(t, speaks(t, "HTTP/1.1", m.to("site.example.com", 80)), "http://site.example.com/"); got != x.want {
			t.Errorf("%s to %s: %s", x.from, x.upstream, got)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("a server without HTTP/2 got something to read %d times", n)
	}
}

// A rule that says another protocol than before counts for the next request of a connection,
// and no connection of before goes on beside it.
func TestAPortThatBecomesHTTP2IsSpokenToSoFromTheNextRequestOn(t *testing.T) {
	n := newFakeNet(t)
	n.site("site.example.com", "93.184.215.16", 80, httpSite(t, n, tellRequest))
	m := newMesh(t, n)
	c := speaks(t, "HTTP/1.1", m.to("site.example.com", 80))
	for i, x := range []struct{ protocol, want string }{{"http", "HTTP/1.1"}, {"http2", "HTTP/2.0"}, {"http", "HTTP/1.1"}} {
		m.opens(fmt.Sprintf(portForms["EgressPolicy"], "site.example.com", 80, x.protocol))
		for range 2 {
			if got := protoOf(t, c, "http://site.example.com/"); got != x.want {
				t.Errorf("%d, %s: %s", i, x.protocol, got)
			}
		}
	}
}

// What Istio 0.5 tried faults with: an abort on a rule of protocol http2; a delay too, and what
// a client of gRPC gets.
func TestFaultsOfARuleOfHTTP2AreInjected(t *testing.T) {
	n := newFakeNet(t)
	n.site("site.example.com", "93.184.215.16", 80, httpSite(t, n, tellRequest))
	n.site("grpc.example.com", "93.184.215.17", 50051, echoGRPC(t))
	m := newMesh(t, n)
	const routeRule = "apiVersion: config.istio.io/v1alpha2\nkind: RouteRule\nmetadata: {name: r, namespace: default}\nspec: {destination: {service: %s}, httpFault: {%s}}\n"
	const abort, delay = "abort: {percent: 100, httpStatus: 418}", "delay: {percent: 100, fixedDelay: 50ms}"
	for form, text := range portForms {
		for version := range versions {
			c := speaks(t, version, m.to("site.example.com", 80))
			m.opens(fmt.Sprintf(text, "site.example.com", 80, "http2"), fmt.Sprintf(routeRule, "site.example.com", abort))
			if got := protoOf(t, c, "http://site.example.com/"); !strings.HasPrefix(got, "418 ") {
				t.Errorf("%s, %s: %s", form, version, got)
			}
			m.opens(fmt.Sprintf(text, "site.example.com", 80, "http2"), fmt.Sprintf(routeRule, "site.example.com", delay))
			begun := time.Now()
			if got := protoOf(t, c, "http://site.example.com/"); got != "HTTP/2.0" || time.Since(begun) < 50*time.Millisecond {
				t.Errorf("%s, %s: %s after %v", form, version, got, time.Since(begun))
			}
		}
		m.opens(fmt.Sprintf(text, "grpc.example.com", 50051, "grpc"))
		c, got := m.grpcTo("grpc.example.com", 50051), new(wrapperspb.StringValue)
		if err := c.Invoke(inTime(t), "/t.T/Echo", message("a"), got); err != nil || got.Value != "a" {
			t.Errorf("%s: %q, %v", form, got.Value, err)
		}
		m.opens(fmt.Sprintf(text, "grpc.example.com", 50051, "grpc"), fmt.Sprintf(routeRule, "grpc.example.com", strings.Replace(abort, "418", "503", 1)))
		if err := c.Invoke(inTime(t), "/t.T/Echo", message("a"), got); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: aborted with 503, it is %v", form, err)
		}
	}
}
