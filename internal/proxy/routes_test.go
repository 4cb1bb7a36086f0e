package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
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

	m.closed(2)
	m.routes("redirect: {uri: /elsewhere}")
	later := m.compile()
	for changed := false; !changed; {
		m.routes("httpFault: {delay: {percent: 100, fixedDelay: 500ms}}")
		before, began := m.ring.Added(), time.Now()
		c := m.dial(toDetails, 9080)
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: details\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		m.opened(1) // it is held up
		m.holder.Swap(later)
		changed = time.Since(began) < 500*time.Millisecond // or it was sent before the rules had changed
		c.SetDeadline(time.Now().Add(patience))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if changed && (err != nil || resp.StatusCode != 301) {
			t.Errorf("under the rules of later: %v, %v", resp, err)
		}
		c.Close()
		m.closed(before + 1)
	}

	m.routes("httpFault: {delay: {percent: 100, fixedDelay: 1h}}")
	for _, leave := range []func(c *net.TCPConn) error{(*net.TCPConn).Close, func(c *net.TCPConn) error { return c.SetLinger(0) }} {
		before := m.ring.Added()
		c := m.dial(toDetails, 9080)
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: details\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		m.opened(1)
		leave(c.TCPConn)
		c.Close()
		m.closed(before + 1) // long before the hour
		if f := m.lastFlow(); f.Reason != "client-gone" {
			t.Errorf("recorded: %+v", f)
		}
	}
}

// failing answers so many requests with 503, and the others as tellHead does.
func failing(times int64) func(net.Conn) {
	var left atomic.Int64
	left.Store(times)
	return func(c net.Conn) {
		if left.Add(-1) >= 0 {
			bufio.NewReader(c).ReadString('\n')
			io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
			return
		}
		tellHead(c)
	}
}

// A request that failed is sent again as often as its rule says, and the record shows it.
func TestARouteRuleRepeatsWhatFailed(t *testing.T) {
	for _, x := range []struct {
		fails    int64
		attempts string
		fields   string
		status   int
		made     int
	}{
		{2, "3", "", 200, 3},
		{3, "3", "", 200, 4},
		{4, "3", "", 503, 4},
		{1, "0", "", 503, 0},
		{2, "1", "x-envoy-max-retries: 2\r\n", 200, 3},
		{1, "3", "x-envoy-max-retries: 0\r\n", 503, 0},
	} {
		m := newMesh(t, newFakeNet(t))
		m.service("details", failing(x.fails))
		m.routes("httpReqRetries: {simpleRetry: {attempts: " + x.attempts + "}}")
		resp, got := sends(t, m.dial(toDetails, 9080), "GET / HTTP/1.1\r\nHost: details\r\n"+x.fields+"\r\n")
		if resp.StatusCode != x.status || strings.Contains(got, "x-envoy") && x.attempts != "0" {
			t.Errorf("%+v: %s\n%s", x, resp.Status, got)
		}
		m.closed(1)
		if f := m.lastFlow(); f.Attempts != x.made || f.Status != x.status {
			t.Errorf("%+v: recorded %+v", x, f)
		}
	}
}

// The next attempt goes to another endpoint, where there is one.
func TestARepeatedRequestGoesToAnotherEndpoint(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.instance("details", 1, failing(1<<40))
	m.instance("details", 2, tellHead)
	m.routes("httpReqRetries: {simpleRetry: {attempts: 1}}")
	for i := range 6 {
		if resp, _ := sends(t, m.dial(toDetails, 9080), "GET / HTTP/1.1\r\nHost: details\r\n\r\n"); resp.StatusCode != 200 {
			t.Errorf("request %d: %s", i, resp.Status)
		}
	}
	m.closed(6)
	if f := m.lastFlow(); f.Upstream != "details-v1/2" {
		t.Errorf("recorded: %+v", f)
	}
}

// silent never answers.
func silent(c net.Conn) { io.Copy(io.Discard, c) }

// A service that does not answer in time is a 504, by the rule's time-out or by that of the
// request itself; what comes from outside overrides nothing.
func TestARouteRuleBoundsHowLongARequestWaits(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", silent)
	dial := m.ingress("/.*")
	for say, x := range map[string]struct {
		spec, fields string
		dial         func() net.Conn
	}{
		"by the rule":         {"httpReqTimeout: {simpleTimeout: {timeout: 50ms}}", "", nil},
		"by the request":      {"httpReqTimeout: {simpleTimeout: {timeout: 1h}}", "x-envoy-upstream-rq-timeout-ms: 50\r\n", nil},
		"by the attempt":      {"httpReqTimeout: {simpleTimeout: {timeout: 1h}}\nhttpReqRetries: {simpleRetry: {attempts: 2, perTryTimeout: 20ms}}", "", nil},
		"not by the stranger": {"httpReqTimeout: {simpleTimeout: {timeout: 50ms}}", "x-envoy-upstream-rq-timeout-ms: 3600000\r\n", dial},
	} {
		m.routes(x.spec)
		from := x.dial
		if from == nil {
			from = func() net.Conn { return m.dial(toDetails, 9080) }
		}
		resp, got := sends(t, from(), "GET / HTTP/1.1\r\nHost: details\r\n"+x.fields+"\r\n")
		if resp.StatusCode != 504 || resp.Header.Get("x-sluice-reason") != "upstream-timeout" {
			t.Errorf("%s: %s\n%s", say, resp.Status, got)
		}
	}
}

// steadyAnswer is the answer of each request to a steady server.
const steadyAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// steady answers each request alike, and allocates nothing for it.
func steady(c net.Conn) {
	answer, buf := []byte(steadyAnswer), make([]byte, 4096)
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// steadily returns what sends one request after another over one connection to a steady
// service.
func steadily(t testing.TB, m *meshOf) (once func()) {
	m.service("details", steady)
	return repeating(t, m.dial(toDetails, 9080), "details:9080")
}

// repeating returns what sends one request after another over a connection.
func repeating(t testing.TB, c net.Conn, host string) (once func()) {
	request, buf := []byte("GET /books/x HTTP/1.1\r\nHost: "+host+"\r\nAccept: */*\r\nx-request-id: mine\r\n\r\n"), make([]byte, 4096)
	return func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < len(steadyAnswer); {
			k, err := c.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got += k
		}
	}
}

// everyAction is a rule that does all that a steady request can meet.
const everyAction = `match: {request: {headers: {uri: {prefix: /books/}, method: {exact: GET}, accept: {regex: '.*/.*'}}}}
rewrite: {uri: /b/, authority: books.example}
appendHeaders: {x-a: a, x-b: b}
httpReqTimeout: {simpleTimeout: {timeout: 7s}}
httpReqRetries: {simpleRetry: {attempts: 3, perTryTimeout: 2s}}
httpFault: {delay: {percent: 0.0001, fixedDelay: 1ms}, abort: {percent: 0.0001, httpStatus: 500}}
route: [{labels: {version: v1}, weight: 100}]`

func TestASteadyRequestByARouteRuleAllocatesNothing(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	once := steadily(t, m)
	m.routes(everyAction)
	for range 50 {
		once()
	}
	if allocations := testing.AllocsPerRun(200, once); allocations >= 1 && !raceDetector {
		t.Errorf("%v allocations a request", allocations)
	}
	if f := m.lastFlow(); f.Rule != "route-rule/default/r0" {
		t.Errorf("no rule met it: %+v", f)
	}
}

// What a rule costs is the difference of the two.
func BenchmarkARequestInsideTheMesh(b *testing.B) {
	for what, specs := range map[string][]string{"no rule": nil, "every action": {everyAction}} {
		b.Run(what, func(b *testing.B) {
			m := newMesh(b, newFakeNet(b))
			once := steadily(b, m)
			m.routes(specs...)
			b.ReportAllocs()
			for b.Loop() {
				once()
			}
		})
	}
}
