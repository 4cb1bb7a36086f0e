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

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/ingress"
	"sluice.dev/sluice/internal/record"
)

// heads is what a service was sent, head by head; it answers each with a status of its own.
func heads(got chan<- string) func(net.Conn) {
	return serving(func(r *http.Request, body string) string {
		got <- fmt.Sprintf("%s %s %s %q", r.Method, r.Host, r.RequestURI, body)
		return "HTTP/1.1 418 I'm a teapot\r\ncontent-length: 6\r\n\r\nmirror"
	})
}

// flowOf is the closed record of which that holds, once there is one.
func (m *meshOf) flowOf(what string, holds func(r *record.Record) bool) record.Record {
	m.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		for _, r := range m.ring.Recent(100, record.Filter{}) {
			if holds(&r) {
				return r
			}
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("no record: %s", what)
		}
	}
}

// The mirror of a rule gets each request as the service does, with "-shadow" in Host; the
// client gets the service's answer.
func TestAMirrorGetsACopyAndAnswersNobody(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	got := make(chan string, 9)
	m.service("shadowed", heads(got))
	m.routes("rewrite: {uri: /b}\nmirror: {name: shadowed, labels: {version: v1}}")
	for host, want := range map[string]string{"details:9080": "details-shadow:9080", "details": "details-shadow", "[::1]:9080": "[::1]-shadow:9080", "[::1]": "[::1]-shadow"} {
		resp, said := sends(t, m.dial(toDetails, 9080), "GET /a?q HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		if resp.StatusCode != 200 || !strings.Contains(said, "Host: "+host+"\n") {
			t.Errorf("%s: %s\n%s", host, resp.Status, said)
		}
		if copied := <-got; copied != fmt.Sprintf("GET %s /b?q %q", want, "") {
			t.Errorf("%s: the mirror got %s", host, copied)
		}
	}
	f := m.flowOf("the copy", func(r *record.Record) bool { return r.Host == "details-shadow:9080" })
	if f.Status != 418 || f.Upstream != "shadowed-v1/1" || f.Rule != "route-rule/default/r0" || !strings.Contains(f.Detail, "copy of ") || f.Verdict != record.Allowed {
		t.Errorf("recorded %+v", f)
	}
}

// Whatever becomes of a copy, the request is answered as if there were none.
func TestAMirrorThatFailsHarmsNobody(t *testing.T) {
	for what, serve := range map[string]func(net.Conn){
		"hung": silent, "closed": func(net.Conn) {}, "not HTTP": func(c net.Conn) { io.WriteString(c, "SSH-2.0-x\r\n") },
		"endless": func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			for {
				if _, err := c.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			m := newMesh(t, newFakeNet(t))
			m.service("details", tellHead)
			m.service("shadowed", serve)
			m.routes("mirror: {name: shadowed}")
			for range 3 {
				if resp, _ := sends(t, m.dial(toDetails, 9080), "GET / HTTP/1.1\r\nHost: details\r\n\r\n"); resp.StatusCode != 200 {
					t.Errorf("%s", resp.Status)
				}
			}
		})
	}
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	m.routes("mirror: {name: nobody}")
	if resp, _ := sends(t, m.dial(toDetails, 9080), "GET / HTTP/1.1\r\nHost: details\r\n\r\n"); resp.StatusCode != 200 {
		t.Errorf("%s", resp.Status)
	}
	if f := m.flowOf("the copy", func(r *record.Record) bool { return r.Host == "details-shadow" }); f.Reason != "no-healthy-upstream" || f.Verdict != record.Failed {
		t.Errorf("recorded %+v", f)
	}
}

// A workload has so many copies under way at most: what comes beyond is recorded, not sent.
func TestTheCopiesUnderWayAreBounded(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	m.service("shadowed", silent)
	m.routes("mirror: {name: shadowed}")
	c := m.dial(toDetails, 9080)
	r := bufio.NewReader(c)
	overflow := func(f *record.Record) bool { return f.Reason == "overflow" && f.Host == "details-shadow" }
	over := false
	for sent := 1; !over; sent++ {
		resp := exchange(t, c, r, "GET / HTTP/1.1\r\nHost: details\r\n\r\n")
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s, %v", resp.Status, err)
		}
		for _, f := range m.ring.Recent(100, record.Filter{}) {
			over = over || overflow(&f)
		}
		if over && sent <= 64 || sent > 1000 {
			t.Fatalf("after %d requests too many are under way: %v", sent, over)
		}
	}
	c.Close()
	if open := len(m.proxy.Live(100, record.Filter{})); open > 64+1 { // with the request itself
		t.Errorf("%d are open", open)
	}
}

const pagesOf = "corsPolicy: {allowOrigin: ['https://a.example', 'https://b.example'], allowMethods: [GET, POST], allowHeaders: [x-mine], exposeHeaders: [x-theirs], maxAge: 24h, allowCredentials: true}"

// Pages of the origins that a rule lists may read answers; a browser that asks beforehand
// is answered in the service's place. Other origins are told nothing.
func TestACORSPolicyLetsPagesOfItsOriginsReadAnswers(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	m.routes(pagesOf)
	dial := m.ingressTo(ingress.Route{Paths: []string{"/.*"}, Service: names.MustParse("details"), Port: 9080})
	const asks = "Access-Control-Request-Method: POST\r\n"
	for _, x := range []struct {
		method, origin, more string
		allowed, preflight   bool
	}{
		{"GET", "https://a.example", "", true, false},
		{"GET", "https://b.example", "", true, false},
		{"GET", "https://c.example", "", false, false},
		{"GET", "http://a.example", "", false, false},
		{"GET", "https://a.example.c.example", "", false, false},
		{"OPTIONS", "https://a.example", asks, true, true},
		{"OPTIONS", "https://a.example", "", true, false},
		{"OPTIONS", "https://c.example", asks, false, false},
		{"POST", "https://a.example", asks, true, false},
	} {
		resp, got := sends(t, dial(), x.method+" / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nOrigin: "+x.origin+"\r\n"+x.more+"\r\n")
		h := resp.Header
		if allowed := h.Get("access-control-allow-origin"); (allowed == x.origin) != x.allowed || !x.allowed && allowed != "" || resp.StatusCode != 200 {
			t.Errorf("%+v: %s, allowed %q", x, resp.Status, allowed)
		}
		if reached := strings.Contains(got, x.method+" / HTTP/1.1"); reached == x.preflight {
			t.Errorf("%+v: reached the service: %v", x, reached)
		}
		if x.allowed && (h.Get("access-control-allow-credentials") != "true" || h.Get("vary") != "origin" || (h.Get("access-control-expose-headers") == "x-theirs") == x.preflight) {
			t.Errorf("%+v: %v", x, h)
		}
		if x.preflight && (h.Get("access-control-allow-methods") != "GET,POST" || h.Get("access-control-allow-headers") != "x-mine" || h.Get("access-control-max-age") != "86400") {
			t.Errorf("%+v: %v", x, h)
		}
	}
	m.routes(pagesOf + "\nhttpFault: {abort: {percent: 100, httpStatus: 418}}")
	if resp, _ := sends(t, dial(), "GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\n\r\n"); resp.StatusCode != 418 || resp.Header.Get("access-control-allow-origin") != "https://a.example" {
		t.Errorf("an abort: %s, %v", resp.Status, resp.Header)
	}
	m.routes("corsPolicy: {allowOrigin: ['*']}")
	if resp, _ := sends(t, dial(), "GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://c.example\r\n\r\n"); resp.Header.Get("access-control-allow-origin") != "https://c.example" || resp.Header.Get("access-control-allow-credentials") != "" {
		t.Errorf("any origin: %v", resp.Header)
	}
}

// A service may say that answers are for any origin, and that credentials are allowed, which
// together browsers do not heed. Once the origin is named they would.
func TestACORSPolicyLetsNoServiceAllowCredentials(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\nAccess-Control-Allow-Credentials: true\r\ncontent-length: 0\r\n\r\n")
		}
	})
	dial := m.ingressTo(ingress.Route{Paths: []string{"/.*"}, Service: names.MustParse("details"), Port: 9080})
	for _, x := range []struct{ more, want string }{{"", ""}, {", allowCredentials: false", "false"}} {
		m.routes("corsPolicy: {allowOrigin: ['*']" + x.more + "}")
		resp, _ := sends(t, dial(), "GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://c.example\r\n\r\n")
		if got := resp.Header.Values("access-control-allow-credentials"); strings.Join(got, " ") != x.want || resp.Header.Get("access-control-allow-origin") != "https://c.example" {
			t.Errorf("%q: %v", x.more, resp.Header)
		}
	}
}

// Where a rule holds, it says whether a connection may become a WebSocket; where none
// does, it may.
func TestARouteRuleSaysWhetherAConnectionMayBecomeAWebSocket(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", func(c net.Conn) {
		request, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		if request.Header.Get("upgrade") == "" {
			io.WriteString(c, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+request.Header.Get("upgrade")+"\r\n\r\n")
		io.Copy(c, c)
	})
	for _, x := range []struct {
		spec, protocol string
		status         int
	}{
		{"websocketUpgrade: true", "websocket", 101}, {"websocketUpgrade: true", "WebSocket", 101}, {"websocketUpgrade: true", "tcp", 200},
		{"precedence: 1", "websocket", 403}, {"precedence: 1", "WEBSOCKET", 403}, {"precedence: 1", "tcp", 200},
		{"match: {request: {headers: {uri: {prefix: /other}}}}", "websocket", 101}, {"match: {request: {headers: {uri: {prefix: /other}}}}", "tcp", 101},
	} {
		m.routes(x.spec)
		c := m.dial(toDetails, 9080)
		resp := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: details\r\nConnection: upgrade\r\nUpgrade: "+x.protocol+"\r\n\r\n")
		if resp.StatusCode != x.status || (x.status == 403) != (resp.Header.Get("x-sluice-reason") == "upgrade-not-allowed") {
			t.Errorf("%+v: %s, %v", x, resp.Status, resp.Header)
		}
		c.Close()
	}
	m.closed(8)
	f := m.flowOf("one that was refused", func(r *record.Record) bool { return r.Status == 403 })
	if f.Verdict != record.Denied || f.Rule != "route-rule/default/r0" || !strings.Contains(f.Detail, "websocketUpgrade") {
		t.Errorf("recorded %+v", f)
	}
}

// A rule may look at where a connection goes to, and where it comes from.
func TestARouteRuleMatchesConnectionsBySubnets(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	told := m.at(toDetails, 9080).Addr()
	for spec, want := range map[string]bool{
		"destinationSubnet: [" + told.String() + "]":                true,
		"destinationSubnet: [10.0.0.0/8, " + told.String() + "/24]": true,
		"destinationSubnet: [10.0.0.0/8]":                           false,
		"sourceSubnet: [10.0.0.0/8]":                                false, // the workload has no such address
		"sourceSubnet: []":                                          true,
	} {
		m.routes("match: {tcp: {" + spec + "}}\nappendHeaders: {x-matched: 'yes'}")
		if _, got := sends(t, m.dial(toDetails, 9080), "GET / HTTP/1.1\r\nHost: details\r\n\r\n"); strings.Contains(got, "x-matched") != want {
			t.Errorf("%s: the service got\n%s", spec, got)
		}
	}
}
