package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/record"
)

// limited is a policy that lets one request through to details at a time.
const limited = "apiVersion: config.istio.io/v1alpha2\nkind: DestinationPolicy\nmetadata: {name: one, namespace: default}\n" +
	"spec: {destination: {name: details}, circuitBreaker: {simpleCb: {httpMaxRequests: 1}}}\n"

// A request is counted while it is under way and no longer, whoever leads it to the service: the
// client that dialled it, or a route rule of a host outside.
func TestRequestsOneAfterAnotherDoNotAddUpUnderALimit(t *testing.T) {
	for _, dialled := range []string{toDetails, "old.example.com"} {
		n := newFakeNet(t)
		begun, answer := make(chan string, 9), make(chan string)
		m := newMesh(t, n)
		m.service("details", serving(func(r *http.Request, _ string) string {
			begun <- r.URL.Path
			return <-answer
		}))
		m.routed(rules(t, "old.example.com:9080/http"), "old.example.com|route: [{destination: {name: details}}]")
		m.object(limited)
		m.allow(rules(t, "old.example.com:9080/http")...)
		conn := m.dial(dialled, 9080)
		answers := bufio.NewReader(conn)
		for i := range 3 {
			path := fmt.Sprintf("/%d", i)
			fmt.Fprint(conn, get(dialled, path))
			if got := soon(t, dialled+path, begun); got != path {
				t.Fatalf("%s: the service got %s", dialled, got)
			}
			resp, _, f := m.recorded(m.dial(dialled, 9080), get(dialled, "/beside"))
			if resp.StatusCode != 503 || resp.Header.Get("x-sluice-reason") != "circuit-breaker" || f.Reason != "circuit-breaker" {
				t.Errorf("%s: a second request at a time: %s %s, recorded %s", dialled, resp.Status, resp.Header.Get("x-sluice-reason"), f.Reason)
			}
			answer <- "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
			if resp, err := http.ReadResponse(answers, nil); err != nil || resp.StatusCode != 200 {
				t.Fatalf("%s: %v %v", dialled, resp, err)
			}
			m.closed(uint64(2*i + 2)) // it is over once its record is closed
		}
	}
}

// soon returns what a server is to say of what reaches it.
func soon[T any](t *testing.T, what string, said <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-said:
	case <-time.After(patience):
		t.Fatalf("%s does not reach the server", what)
	}
	return v
}

// hostPolicy is a policy about hosts outside.
func hostPolicy(name, host, breaker string) string {
	return fmt.Sprintf("apiVersion: config.istio.io/v1alpha2\nkind: DestinationPolicy\nmetadata: {name: %s, namespace: default}\n"+
		"spec: {destination: {service: %q}, circuitBreaker: {simpleCb: {%s}}}\n", name, host, breaker)
}

// A policy about hosts outside bounds what is under way to each of them, whether the workload
// dialled it, a route rule changes something on the way there, or another's rule leads there.
func TestCallsToAHostOutsideAreBoundedHoweverTheyAreLedThere(t *testing.T) {
	for what, routes := range map[string][]string{
		"no route rule":                nil,
		"a route rule of the host":     {"good.example.com|appendHeaders: {a: b}"},
		"a rewrite":                    {"good.example.com|rewrite: {uri: /x}"},
		"a route rule of another host": {"old.example.com|route: [{destination: {service: good.example.com}}]"},
		"a route rule of a service":    {toDetails + "|route: [{destination: {service: good.example.com}}]"},
	} {
		n := newFakeNet(t)
		begun, answer := make(chan string, 9), make(chan string)
		n.site("good.example.com", "93.184.216.34", 9080, serving(func(r *http.Request, _ string) string {
			begun <- r.URL.Path
			return <-answer
		}))
		n.site("other.example.com", "93.184.216.35", 9080, tellHead)
		m := newMesh(t, n)
		m.service("details", tellHead)
		allow := rules(t, "old.example.com:9080/http", "good.example.com:9080/http", "other.example.com:9080/http")
		m.routed(allow, routes...)
		m.object(hostPolicy("any", "*.example.com", "httpMaxRequests: 1"))
		m.allow(allow...)
		dialled := "good.example.com"
		switch {
		case len(routes) > 0 && routes[0][:3] == "old":
			dialled = "old.example.com"
		case len(routes) > 0 && routes[0][:len(toDetails)] == toDetails:
			dialled = toDetails
		}
		conn := m.dial(dialled, 9080)
		answers := bufio.NewReader(conn)
		for i := range 2 {
			fmt.Fprint(conn, get(dialled, "/"))
			soon(t, what, begun)
			resp, _, f := m.recorded(m.dial(dialled, 9080), get(dialled, "/beside"))
			if resp.StatusCode != 503 || resp.Header.Get("x-sluice-reason") != "circuit-breaker" || f.Reason.Flag() != "UO" {
				t.Errorf("%s: a second request at a time: %s %s, recorded %s", what, resp.Status, resp.Header.Get("x-sluice-reason"), f.Reason)
			}
			if want := "destination-policy/default/any lets no more through to good.example.com: 1 requests are under way (httpMaxRequests)"; f.Detail != want {
				t.Errorf("%s: recorded %q", what, f.Detail)
			}
			if resp, _, _ := m.recorded(m.dial("other.example.com", 9080), get("other.example.com", "/")); resp.StatusCode != 200 {
				t.Errorf("%s: another host beside it: %s", what, resp.Status)
			}
			answer <- "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
			if resp, err := http.ReadResponse(answers, nil); err != nil || resp.StatusCode != 200 {
				t.Fatalf("%s: %v %v", what, resp, err)
			}
			m.closed(uint64(3*i + 3))
		}
	}
}

// A policy that is changed holds for the next request, one that is withdrawn for none, and of two
// that match a host the more specific one counts.
func TestTheBoundOfAHostChangesLive(t *testing.T) {
	n := newFakeNet(t)
	begun, answer := make(chan string, 9), make(chan string)
	n.site("good.example.com", "93.184.216.34", 80, serving(func(r *http.Request, _ string) string {
		begun <- r.URL.Path
		return <-answer
	}))
	m := newMesh(t, n)
	allow := rules(t, "good.example.com:80")
	under := func(policies ...string) {
		m.routed(nil)
		for _, text := range policies {
			m.object(text)
		}
		m.allow(allow...)
	}
	first := m.dial("good.example.com", 80)
	under(hostPolicy("any", "*.example.com", "httpMaxRequests: 9"), hostPolicy("one", "good.example.com", "httpMaxRequests: 1"))
	fmt.Fprint(first, get("good.example.com", "/"))
	soon(t, "the first request", begun)
	refused := func() bool {
		resp, _, _ := m.recorded(m.dial("good.example.com", 80), get("good.example.com", "/"))
		return resp.StatusCode == 503
	}
	if !refused() {
		t.Error("the more specific policy does not count")
	}
	for _, policies := range [][]string{{hostPolicy("one", "good.example.com", "httpMaxRequests: 2")}, nil} {
		under(policies...)
		conn := m.dial("good.example.com", 80)
		fmt.Fprint(conn, get("good.example.com", "/"))
		soon(t, "a request under another policy", begun)
		answer <- "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
	}
	close(answer)
}

// TLS and TCP that are passed through are connections too.
func TestConnectionsToAHostOutsideAreBounded(t *testing.T) {
	n := newFakeNet(t)
	begun := make(chan struct{}, 9)
	n.site("db.example.com", "93.184.216.34", 5432, func(c net.Conn) { begun <- struct{}{}; silent(c) })
	m := newMesh(t, n)
	allow := rules(t, "db.example.com:5432/tcp")
	m.routed(nil)
	m.object(hostPolicy("db", "db.example.com", "maxConnections: 1"))
	m.allow(allow...)
	first := m.dial("db.example.com", 5432)
	fmt.Fprint(first, "hello")
	soon(t, "the first connection", begun)
	second := m.dial("db.example.com", 5432)
	fmt.Fprint(second, "hello")
	ends(t, second)
	if f := m.flowOf("the second one", func(r *record.Record) bool { return r.Reason == "circuit-breaker" }); f.Detail != "destination-policy/default/db lets no more through to db.example.com: 1 connections are open (maxConnections)" {
		t.Errorf("recorded %q", f.Detail)
	}
	first.Close()
	m.closed(2)
	third := m.dial("db.example.com", 5432)
	fmt.Fprint(third, "hello")
	soon(t, "one after the first has ended", begun)
}

// A copy of a request is a request to whoever gets it: beyond a service's limit it is not sent,
// and the request that it is of goes on.
func TestCopiesOfRequestsToAServiceAreBounded(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	begun, answer := make(chan string, 9), make(chan string)
	m.service("details", tellHead)
	m.service("shadowed", serving(func(r *http.Request, _ string) string {
		begun <- r.URL.Path
		return <-answer
	}))
	m.routed(nil, toDetails+"|mirror: {name: shadowed}")
	m.object(strings.ReplaceAll(limited, "details", "shadowed"))
	m.allow()
	sends(t, m.dial(toDetails, 9080), get(toDetails, "/1"))
	soon(t, "the first copy", begun)
	if resp, _ := sends(t, m.dial(toDetails, 9080), get(toDetails, "/2")); resp.StatusCode != 200 {
		t.Errorf("the request whose copy is refused: %s", resp.Status)
	}
	m.flowOf("the second copy", func(r *record.Record) bool {
		return r.Reason == "circuit-breaker" && strings.Contains(r.Detail, "no more through to shadowed.")
	})
	answer <- "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
	m.flowOf("the first copy", func(r *record.Record) bool {
		return strings.HasPrefix(r.Host, "details") && strings.Contains(r.Host, "-shadow") && r.Status == 200
	})
	if len(begun) > 0 {
		t.Errorf("%d copies more reach the service", len(begun))
	}
}

// Who was connected before it said what it wants is counted under the host that it then names.
func TestAConnectionWhoseServerSpeaksFirstIsCountedUnderTheHostThatItNames(t *testing.T) {
	n := newFakeNet(t)
	n.site("db.example.com", "93.184.216.34", 3306, func(c net.Conn) {
		io.WriteString(c, "welcome")
		echo(c)
	})
	m := newMesh(t, n)
	allow := rules(t, "db.example.com:3306", "93.184.216.34:3306")
	m.routed(nil)
	m.object(hostPolicy("db", "db.example.com", "maxConnections: 1"))
	m.allow(allow...)
	hello := helloFor(t, "db.example.com")
	open := func() net.Conn {
		c := m.dialAddress(netip.MustParseAddrPort("93.184.216.34:3306"))
		c.SetDeadline(time.Now().Add(patience))
		greeting := make([]byte, 7)
		if _, err := io.ReadFull(c, greeting); err != nil {
			t.Fatal(err)
		}
		c.Write(hello)
		return c
	}
	first := open()
	if _, err := io.ReadFull(first, make([]byte, len(hello))); err != nil {
		t.Fatal(err)
	}
	ends(t, open())
	if f := m.flowOf("the second one", func(r *record.Record) bool { return r.Reason == "circuit-breaker" }); f.Detail != "destination-policy/default/db lets no more through to db.example.com: 1 connections are open (maxConnections)" {
		t.Errorf("recorded %q", f.Detail)
	}
}
