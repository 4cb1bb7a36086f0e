package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/ingress"
	"sluice.dev/sluice/internal/record"
)

// routes swaps in route rules for details, as the only ones: each is the YAML of a spec
// beside its destination.
func (m *meshOf) routes(specs ...string) {
	m.t.Helper()
	m.objects = nil
	for i, spec := range specs {
		text := fmt.Sprintf("apiVersion: config.istio.io/v1alpha2\nkind: RouteRule\nmetadata: {name: r%d, namespace: default}\nspec:\n  destination: {name: details}\n  %s\n",
			i, strings.ReplaceAll(spec, "\n", "\n  "))
		objects, err := api.Decode("rule.yaml", strings.NewReader(text))
		if err != nil {
			m.t.Fatal(err)
		}
		for i := range objects {
			if err := api.Validate(&objects[i]); err != nil {
				m.t.Fatal(err)
			}
		}
		m.objects = append(m.objects, objects...)
	}
	m.allow()
}

// tellHead answers each request with its request line and fields, as they came.
func tellHead(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		var head strings.Builder
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				break
			}
			head.WriteString(strings.TrimSuffix(line, "\r\n") + "\n")
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", head.Len(), head.String())
	}
}

// sends sends one request over a connection of its own, and returns the answer with what
// its body says.
func sends(t *testing.T, c net.Conn, request string) (*http.Response, string) {
	t.Helper()
	defer c.Close()
	resp := exchange(t, c, bufio.NewReader(c), request)
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

const toDetails = "details.default.svc.cluster.local"

// A request reaches the service as its rule says: with another path, another Host, more
// headers; and what the rule does not match goes unchanged.
func TestARouteRuleChangesTheRequestsThatItMatches(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	for _, x := range []struct {
		spec, request string
		want          []string // lines that the service gets
		not           string   // that it does not
	}{
		{"rewrite: {uri: /get}", "POST /post?a=1 HTTP/1.1\r\nHost: details\r\nContent-Length: 0\r\n\r\n", []string{"POST /get?a=1 HTTP/1.1", "Host: details"}, "/post"},
		{"match: {request: {headers: {uri: {prefix: /v1/}}}}\nrewrite: {uri: /api/v2/}", "GET /v1/books?q=/v1/ HTTP/1.1\r\nHost: details\r\n\r\n", []string{"GET /api/v2/books?q=/v1/ HTTP/1.1"}, "/v1/b"},
		{"match: {request: {headers: {uri: {exact: /old}}}}\nrewrite: {uri: /new}", "GET /old?x HTTP/1.1\r\nHost: details\r\n\r\n", []string{"GET /new?x HTTP/1.1"}, "/old"},
		{"match: {request: {headers: {uri: {exact: /old}}}}\nrewrite: {uri: /new}", "GET /older HTTP/1.1\r\nHost: details\r\n\r\n", []string{"GET /older HTTP/1.1"}, "/new"},
		{"rewrite: {uri: /x}", "OPTIONS * HTTP/1.1\r\nHost: details\r\n\r\n", []string{"OPTIONS * HTTP/1.1"}, "/x"},
		{"rewrite: {authority: 'other.example:81'}", "GET / HTTP/1.1\r\nHost: details\r\n\r\n", []string{"GET / HTTP/1.1", "host: other.example:81"}, "details"},
		{"appendHeaders: {istio-custom-header1: one, x-two: '2'}", "GET / HTTP/1.1\r\nHost: details\r\nX-Two: 1\r\n\r\n", []string{"istio-custom-header1: one", "X-Two: 1", "x-two: 2"}, ""},
		{"match: {request: {headers: {method: {exact: GET}, scheme: {exact: http}, authority: {regex: 'details(:[0-9]+)?'}}}}\nappendHeaders: {x-matched: 'yes'}", "GET / HTTP/1.1\r\nHost: details:9080\r\n\r\n", []string{"x-matched: yes"}, ""},
		{"match: {request: {headers: {method: {exact: GET}}}}\nappendHeaders: {x-matched: 'yes'}", "get / HTTP/1.1\r\nHost: details\r\n\r\n", nil, "x-matched"},
		{"match: {request: {headers: {scheme: {exact: http}}}}\nappendHeaders: {x-matched: 'yes'}", "GET https://details/ HTTP/1.1\r\nHost: details\r\n\r\n", nil, "x-matched"},
	} {
		m.routes(x.spec)
		resp, got := sends(t, m.dial(toDetails, 9080), x.request)
		if resp.StatusCode != 200 {
			t.Errorf("%s: %s", x.spec, resp.Status)
		}
		for _, line := range x.want {
			if !strings.Contains("\n"+got, "\n"+line+"\n") {
				t.Errorf("%s: the service did not get %q:\n%s", x.spec, line, got)
			}
		}
		if x.not != "" && strings.Contains(got, x.not) {
			t.Errorf("%s: the service got %q:\n%s", x.spec, x.not, got)
		}
	}
}

// What an ingress says of the client stays beside what a rule appends, and the client's
// own word about it does not.
func TestARuleAppendsToWhatAnIngressTells(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	m.routes("appendHeaders: {x-of-the-rule: a}")
	dial := m.ingressTo(ingress.Route{Paths: []string{"/.*"}, Service: names.MustParse("details"), Port: 9080})
	_, got := sends(t, dial(), "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
	if !strings.Contains(got, "x-of-the-rule: a\n") || !strings.Contains(got, "x-forwarded-for: 127.0.0.1\n") || strings.Contains(got, "6.6.6.6") {
		t.Errorf("the service got\n%s", got)
	}
}

// A redirect answers in the service's place, also where nobody serves it.
func TestARedirectIsAnsweredInTheServicesPlace(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", func(net.Conn) { t.Error("the service was reached") })
	for i, x := range []struct{ spec, target, want string }{
		{"redirect: {uri: /get}", "/post?a=1", "http://details:9080/get"},
		{"redirect: {authority: other.example}", "/post?a=1", "http://other.example/post?a=1"},
		{"redirect: {uri: '/a?b', authority: 'other.example:81'}", "/", "http://other.example:81/a?b"},
		{"redirect: {uri: /get}", "https://details:9080/", "https://details:9080/get"},
	} {
		m.routes(x.spec)
		c := m.dial(toDetails, 9080)
		r := bufio.NewReader(c)
		for range 2 { // the connection goes on
			resp := exchange(t, c, r, "GET "+x.target+" HTTP/1.1\r\nHost: details:9080\r\n\r\n")
			if resp.StatusCode != 301 || resp.Header.Get("location") != x.want {
				t.Errorf("%s: %s to %q, want %q", x.spec, resp.Status, resp.Header.Get("location"), x.want)
			}
		}
		c.Close()
		m.closed(uint64(2 * (i + 1)))
	}
	if f := m.lastFlow(); f.Rule != "route-rule/default/r0" || f.Status != 301 || f.Upstream != "" || f.Verdict != record.Allowed {
		t.Errorf("recorded: %+v", f)
	}
}

// An abort answers with its status, says that it is a fault, and reaches nobody; the
// connection serves the next request.
func TestAnAbortIsAnsweredInTheServicesPlace(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", func(net.Conn) { t.Error("the service was reached") })
	for i, status := range []int{200, 204, 418, 500, 599} {
		m.routes(fmt.Sprintf("httpFault: {abort: {percent: 100, httpStatus: %d}}", status))
		c := m.dial(toDetails, 9080)
		r := bufio.NewReader(c)
		for _, method := range []string{"GET", "HEAD", "GET"} {
			request, err := http.NewRequest(method, "/", nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, method+" / HTTP/1.1\r\nHost: details\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(r, request)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != status || resp.Header.Get("x-sluice-reason") != "fault-injected" {
				t.Errorf("%d: %s, reason %q, %v", status, resp.Status, resp.Header.Get("x-sluice-reason"), err)
			}
			if says := strings.Contains(string(body), "fault filter abort by route-rule/default/r0"); says != (method == "GET" && status != 204) {
				t.Errorf("%d: %s answers %q", status, method, body)
			}
		}
		c.Close()
		m.closed(uint64(3 * (i + 1)))
	}
	if f := m.lastFlow(); f.Rule != "route-rule/default/r0" || f.Status != 599 || f.Reason != "fault-injected" || f.Verdict != record.Failed {
		t.Errorf("recorded: %+v", f)
	}
}

// A delay holds a request up and then sends it; with an abort it comes first. Rules that
// changed meanwhile count, and a client that leaves ends the waiting.
func TestADelayHoldsARequestUp(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	const wait = 150 * time.Millisecond
	delayed := func(say, spec string, status int) {
		t.Helper()
		m.routes(spec)
		start := time.Now()
		resp, _ := sends(t, m.dial(toDetails, 9080), "GET / HTTP/1.1\r\nHost: details\r\n\r\n")
		if took := time.Since(start); resp.StatusCode != status || took < wait {
			t.Errorf("%s: %s after %v", say, resp.Status, took)
		}
	}
	delayed("delay", "httpFault: {delay: {percent: 100, fixedDelay: 150ms}}", 200)
	delayed("delay and abort", "httpFault: {delay: {percent: 100, fixedDelay: 150ms}, abort: {percent: 100, httpStatus: 503}}", 503)

	m.routes("httpFault: {delay: {percent: 100, fixedDelay: 500ms}}")
	c := m.dial(toDetails, 9080)
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: details\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	m.opened(1) // it is held up
	m.routes("redirect: {uri: /elsewhere}")
	c.SetDeadline(time.Now().Add(patience))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 301 {
		t.Errorf("under the rules of later: %v, %v", resp, err)
	}
	c.Close()

	m.routes("httpFault: {delay: {percent: 100, fixedDelay: 1h}}")
	c = m.dial(toDetails, 9080)
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: details\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	m.opened(1)
	c.(*net.TCPConn).SetLinger(0) // it does not merely have no more to say
	c.Close()
	m.closed(4) // long before the hour
	if f := m.lastFlow(); f.Reason != "client-gone" {
		t.Errorf("recorded: %+v", f)
	}
}
