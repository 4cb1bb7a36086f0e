package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
)

// routed swaps in route rules and rules of --allow, as the only ones. A route rule is the YAML
// of its destination's service, a bar, and the rest of its spec.
func (m *meshOf) routed(allow []policy.Rule, specs ...string) {
	m.t.Helper()
	m.objects = nil
	for i, spec := range specs {
		service, rest, _ := strings.Cut(spec, "|")
		m.object(fmt.Sprintf("apiVersion: config.istio.io/v1alpha2\nkind: RouteRule\nmetadata: {name: r%d, namespace: default}\nspec:\n  destination: {service: %q}\n  %s\n",
			i, service, strings.ReplaceAll(rest, "\n", "\n  ")))
	}
	m.allow(allow...)
}

// object puts one beside those that the snapshots are made of.
func (m *meshOf) object(text string) {
	m.t.Helper()
	objects, err := api.Decode("rule.yaml", strings.NewReader(text))
	if err != nil {
		m.t.Fatal(err)
	}
	for i := range objects {
		if err := api.Validate(&objects[i]); err != nil {
			m.t.Fatalf("%v\n%s", err, text)
		}
	}
	m.objects = append(m.objects, objects...)
}

func rules(t testing.TB, texts ...string) (all []policy.Rule) {
	t.Helper()
	for _, text := range texts {
		all = append(all, rule(t, text))
	}
	return all
}

// recorded sends one request over a connection of its own, and returns its record too.
func (m *meshOf) recorded(c net.Conn, request string) (*http.Response, string, record.Record) {
	m.t.Helper()
	before := m.ring.Added()
	resp, body := sends(m.t.(*testing.T), c, request)
	m.closed(before + 1)
	return resp, body, m.lastFlow()
}

func read(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func get(host, target string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
}

// What Istio 0.5 tried route rules of external hosts with: on an exact host, on a wildcard,
// and where TLS is originated.
func TestARouteRuleOfAHostOutsideDoesWhatOneOfAServiceDoes(t *testing.T) {
	n := newFakeNet(t)
	n.site("httpbin.org", "93.184.216.34", 80, tellHead)
	n.site("httpbin.org", "93.184.216.34", 443, n.overTLS(tellHead, "httpbin.org"))
	n.site("www.httpbin.org", "93.184.216.35", 80, tellHead)
	m := newMesh(t, n)
	for _, x := range []struct {
		spec, host    string
		port          uint16
		request       string
		status        int
		header, value string   // of the answer
		want          []string // lines that the host gets; nil: it gets nothing
	}{
		{"httpbin.org|httpFault: {abort: {percent: 100, httpStatus: 418}}", "httpbin.org", 80, get("httpbin.org", "/"), 418, "", "", nil},
		{"*.httpbin.org|httpFault: {abort: {percent: 100, httpStatus: 418}}", "www.httpbin.org", 80, get("www.httpbin.org", "/"), 418, "", "", nil},
		{"httpbin.org|httpFault: {abort: {percent: 100, httpStatus: 418}}", "httpbin.org", 443, get("httpbin.org:443", "/"), 418, "", "", nil},
		{"*.httpbin.org|httpFault: {abort: {percent: 100, httpStatus: 418}}", "httpbin.org", 80, get("httpbin.org", "/"), 200, "", "", []string{"GET / HTTP/1.1"}},
		{"httpbin.org|appendHeaders: {istio-custom-header1: user-defined-value1}", "httpbin.org", 443, get("httpbin.org:443", "/headers"), 200, "", "", []string{"GET /headers HTTP/1.1", "Host: httpbin.org:443", "istio-custom-header1: user-defined-value1"}},
		{"httpbin.org|redirect: {uri: /get}", "httpbin.org", 80, get("httpbin.org", "/post"), 301, "Location", "http://httpbin.org/get", nil},
		{"httpbin.org|redirect: {uri: /get, authority: www.httpbin.org}", "httpbin.org", 80, get("httpbin.org", "/post"), 301, "Location", "http://www.httpbin.org/get", nil},
		{"httpbin.org|rewrite: {uri: /get}", "httpbin.org", 80, get("httpbin.org", "/post?a=1"), 200, "", "", []string{"GET /get?a=1 HTTP/1.1", "Host: httpbin.org"}},
		{"*.httpbin.org|rewrite: {uri: /get}", "www.httpbin.org", 80, "GET /post HTTP/1.0\r\n\r\n", 200, "", "", []string{"GET /get HTTP/1.1", "host: www.httpbin.org"}},
		{"httpbin.org|rewrite: {authority: www.httpbin.org}", "httpbin.org", 80, get("httpbin.org", "/a"), 200, "", "", []string{"GET /a HTTP/1.1", "host: www.httpbin.org"}},
		{"httpbin.org|match: {request: {headers: {foo: {exact: bar}, uri: {prefix: /get}}}}\nredirect: {uri: /x}", "httpbin.org", 80, get("httpbin.org", "/get"), 200, "", "", []string{"GET /get HTTP/1.1"}},
		{"httpbin.org|corsPolicy: {allowOrigin: ['https://a.example']}", "httpbin.org", 80, "GET / HTTP/1.1\r\nHost: httpbin.org\r\nOrigin: https://a.example\r\n\r\n", 200, "Access-Control-Allow-Origin", "https://a.example", []string{"Origin: https://a.example"}},
	} {
		m.routed(rules(t, "httpbin.org:80,443", "*.httpbin.org:80"), x.spec)
		resp, got, f := m.recorded(m.dial(x.host, x.port), x.request)
		if resp.StatusCode != x.status || x.header != "" && resp.Header.Get(x.header) != x.value {
			t.Errorf("%s: %s, %s: %q\n%s", x.spec, resp.Status, x.header, resp.Header.Get(x.header), got)
		}
		for _, line := range x.want {
			if !strings.Contains("\n"+got, "\n"+line+"\n") {
				t.Errorf("%s: the host did not get %q:\n%s", x.spec, line, got)
			}
		}
		if x.want == nil && strings.Contains(got, "HTTP/1.1\n") {
			t.Errorf("%s: the host got\n%s", x.spec, got)
		}
		// The record names the rule that let it out, and the route rule if one matched.
		matched := x.want == nil || !strings.HasPrefix(x.want[0], "GET / ") && !strings.Contains(x.spec, "match")
		if !strings.HasPrefix(f.Rule, "--allow ") || (f.Route == "route-rule/default/r0") != matched {
			t.Errorf("%s: recorded rule %q, route rule %q", x.spec, f.Rule, f.Route)
		}
	}
}

// A host that does not answer within the rule's time-out, or the request's own, is a 504.
func TestARouteRuleBoundsHowLongAHostOutsideMayTake(t *testing.T) {
	n := newFakeNet(t)
	n.site("httpbin.org", "93.184.216.34", 443, n.overTLS(silent, "httpbin.org"))
	m := newMesh(t, n)
	m.routed(rules(t, "httpbin.org"), "httpbin.org|httpReqTimeout: {simpleTimeout: {timeout: 50ms}}")
	if resp, _ := sends(t, m.dial("httpbin.org", 443), get("httpbin.org:443", "/delay/5")); resp.StatusCode != 504 {
		t.Errorf("by the rule: %s", resp.Status)
	}
	m.routed(rules(t, "httpbin.org"), "httpbin.org|httpReqTimeout: {simpleTimeout: {timeout: 1h}}")
	if resp, _ := sends(t, m.dial("httpbin.org", 443), "GET / HTTP/1.1\r\nHost: httpbin.org:443\r\nx-envoy-upstream-rq-timeout-ms: 50\r\n\r\n"); resp.StatusCode != 504 {
		t.Errorf("by the request: %s", resp.Status)
	}
}

func TestARequestToAHostOutsideIsRepeatedAsItsRuleSays(t *testing.T) {
	n := newFakeNet(t)
	var tries atomic.Int32
	n.site("httpbin.org", "93.184.216.34", 80, serving(func(*http.Request, string) string {
		if tries.Add(1) < 3 {
			return "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
		}
		return "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
	}))
	m := newMesh(t, n)
	m.routed(rules(t, "httpbin.org:80"), "httpbin.org|httpReqRetries: {simpleRetry: {attempts: 3}}")
	resp, _, f := m.recorded(m.dial("httpbin.org", 80), get("httpbin.org", "/"))
	if resp.StatusCode != 200 || tries.Load() != 3 {
		t.Errorf("%s after %d tries", resp.Status, tries.Load())
	}
	if f.Attempts != 3 {
		t.Errorf("recorded %d attempts", f.Attempts)
	}
}

// Requests are shared out between hosts, each of which is called by its own name and by its
// own rule; and between a host and a service, from either side.
func TestWeightsShareRequestsBetweenHostsAndServices(t *testing.T) {
	n := newFakeNet(t)
	n.site("old.example.com", "93.184.216.34", 9080, tellHead)
	n.site("new.example.com", "93.184.216.35", 9080, n.overTLS(tellHead, "new.example.com"))
	m := newMesh(t, n)
	m.service("details", tellHead)
	for _, x := range []struct {
		dialled, spec string
		want          []string // in what is got, one of each
	}{
		{"old.example.com", "old.example.com|route: [{weight: 50}, {weight: 50, destination: {service: new.example.com}}]", []string{"Host: old.example.com\n", "host: new.example.com:9080\n"}},
		{"old.example.com", "old.example.com|route: [{weight: 50, destination: {service: old.example.com}}, {weight: 50, destination: {name: details}}]", []string{"x-request-id: a\nHost: old.example.com\n", "x-request-id: a\nHost: old.example.com\n"}},
		{toDetails, toDetails + "|route: [{weight: 50}, {weight: 50, destination: {service: new.example.com}}]", []string{"Host: " + toDetails + "\n", "host: new.example.com:9080\n"}},
		{"old.example.com", "old.example.com|route: [{weight: 100, destination: {name: details}}]", []string{"Host: old.example.com\n"}},
		{toDetails, toDetails + "|route: [{weight: 100, destination: {service: old.example.com}}]", []string{"host: old.example.com:9080\n"}},
	} {
		m.routed(rules(t, "old.example.com:9080/http", "new.example.com:9080/https"), x.spec)
		conn := m.dial(x.dialled, 9080)
		answers := bufio.NewReader(conn)
		seen, upstreams := map[string]bool{}, map[string]bool{}
		for range 64 {
			before := m.ring.Added()
			resp := exchange(t, conn, answers, "GET / HTTP/1.1\r\nx-request-id: a\r\nHost: "+x.dialled+"\r\n\r\n")
			if resp.StatusCode != 200 {
				t.Fatalf("%s: %s", x.spec, resp.Status)
			}
			body := read(t, resp.Body)
			for _, want := range x.want {
				if strings.Contains(body, want) {
					seen[want] = true
				}
			}
			m.closed(before + 1)
			f := m.lastFlow()
			upstreams[f.Upstream] = true
			if f.Rule != "route-rule/default/r0" && (f.Route != "route-rule/default/r0" || !strings.HasPrefix(f.Rule, "--allow ")) {
				t.Errorf("%s: recorded rule %q, route rule %q", x.spec, f.Rule, f.Route)
			}
		}
		conn.Close()
		for _, want := range x.want {
			if !seen[want] {
				t.Errorf("%s: nobody got %q", x.spec, want)
			}
		}
		if want := strings.Count(x.spec, "weight"); len(upstreams) != want {
			t.Errorf("%s: the upstreams %v", x.spec, upstreams)
		}
	}
}

// Of the patterns that match a host the most specific decides, as it does among rules.
func TestTheMostSpecificRouteRuleDecidesAboutAHost(t *testing.T) {
	n := newFakeNet(t)
	n.site("en.wikipedia.org", "93.184.216.34", 80, tellHead)
	n.site("de.wikipedia.org", "93.184.216.35", 80, tellHead)
	m := newMesh(t, n)
	m.routed(rules(t, "*.wikipedia.org:80"),
		"*|appendHeaders: {x-rule: any}", "*.wikipedia.org|appendHeaders: {x-rule: wildcard}", "en.wikipedia.org|match: {request: {headers: {uri: {exact: /a}}}}\nappendHeaders: {x-rule: exact}")
	for target, want := range map[string]string{"en.wikipedia.org/a": "x-rule: exact", "en.wikipedia.org/b": "", "de.wikipedia.org/a": "x-rule: wildcard"} {
		host, path, _ := strings.Cut(target, "/")
		_, got := sends(t, m.dial(host, 80), get(host, "/"+path))
		if _, rule, _ := strings.Cut(got, "x-rule"); want != "" && !strings.Contains(got, want+"\n") || want == "" && rule != "" {
			t.Errorf("%s got\n%s", target, got)
		}
	}
}

// Whatever a route rule names, it opens nothing: each destination is decided about as if the
// workload had dialled it.
func TestARouteRuleLeadsNowhereThatNoRuleAllows(t *testing.T) {
	n := newFakeNet(t)
	var reached atomic.Int32
	counts := func(c net.Conn) { reached.Add(1); tellHead(c) }
	n.site("good.example.com", "93.184.216.34", 80, tellHead)
	n.site("evil.example.com", "93.184.216.35", 80, counts)
	n.site("inside.example.com", "10.1.2.3", 80, counts)
	n.site("tls.example.com", "93.184.216.36", 80, counts) // which does not speak it
	m := newMesh(t, n)
	m.service("details", tellHead)
	allow := rules(t, "good.example.com:80", "inside.example.com:80", "good.example.com:9080/http", "tls.example.com:80/tls", "only.example.com:8080/http")
	const policies = "apiVersion: sluice.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: paths, namespace: default}\nspec:\n  to: {hosts: [paths.example.com], ports: [{port: 80, protocol: http}]}\n  http: [{paths: [/open/*]}]\n"
	n.site("paths.example.com", "93.184.216.37", 80, counts)
	for what, x := range map[string]struct {
		dialled, spec string
		target        string
		status        int
		reason        string
	}{
		"a host that no rule names":          {"good.example.com", "route: [{destination: {service: evil.example.com}}]", "/", 403, "no-rule"},
		"another port of an allowed host":    {"good.example.com", "route: [{destination: {service: only.example.com}}]", "/", 403, "no-rule"},
		"another protocol":                   {"good.example.com", "route: [{destination: {service: tls.example.com}}]", "/", 403, "protocol-mismatch"},
		"a private address":                  {"good.example.com", "route: [{destination: {service: inside.example.com}}]", "/", 403, "private-address"},
		"an authority that no rule names":    {"good.example.com", "rewrite: {authority: evil.example.com}", "/", 403, "no-rule"},
		"an authority of another port":       {"good.example.com", "rewrite: {authority: 'good.example.com:81'}", "/", 403, "port-mismatch"},
		"an authority that is an address":    {"good.example.com", "rewrite: {authority: 169.254.169.254}", "/", 403, "address-literal"},
		"an authority that is a service":     {"good.example.com", "rewrite: {authority: " + toDetails + "}", "/", 403, "mesh-name"},
		"a path that no rule names":          {"paths.example.com", "rewrite: {uri: /closed}", "/open/a", 403, "request-not-allowed"},
		"a path that leaves the allowed one": {"paths.example.com", "match: {request: {headers: {uri: {prefix: /open/}}}}\nrewrite: {uri: /closed/}", "/open/a", 403, "request-not-allowed"},
		"a service without the port":         {"good.example.com", "route: [{destination: {name: details}}]", "/", 503, "no-such-port"},
		"from a service":                     {toDetails, "route: [{destination: {service: evil.example.com}}]", "/", 403, "no-rule"},
	} {
		port := uint16(80)
		if x.dialled == toDetails {
			port = 9080
		}
		m.routed(nil, x.dialled+"|"+x.spec)
		m.object(policies)
		m.allow(allow...)
		resp, _, f := m.recorded(m.dial(x.dialled, port), get(x.dialled, x.target))
		if resp.StatusCode != x.status || resp.Header.Get("x-sluice-reason") != x.reason {
			t.Errorf("%s: %s, %s", what, resp.Status, resp.Header.Get("x-sluice-reason"))
		}
		if _, at, led := strings.Cut(x.spec, "{service: "); led && f.Dialled+"}}]" != at && x.reason != "private-address" {
			t.Errorf("%s: recorded what is denied as %s", what, f.Dialled)
		}
		if string(f.Reason) != x.reason || f.Route != "route-rule/default/r0" || x.status == 403 && f.Verdict != record.Denied {
			t.Errorf("%s: recorded %v for %s, route rule %q", what, f.Verdict, f.Reason, f.Route)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.asked["evil.example.com"] || reached.Load() > 0 {
		t.Errorf("DNS was asked for the host that no rule names: %v; servers were reached %d times", n.asked["evil.example.com"], reached.Load())
	}
}

func TestARequestWithoutAHostIsLedToAServiceByWhatItDialled(t *testing.T) {
	n := newFakeNet(t)
	n.site("good.example.com", "93.184.216.34", 9080, tellHead)
	m := newMesh(t, n)
	m.service("details", tellHead)
	m.routed(rules(t, "good.example.com:9080/http"), "good.example.com|route: [{destination: {name: details}}]")
	resp, body, _ := m.recorded(m.dial("good.example.com", 9080), "GET / HTTP/1.0\r\n\r\n")
	if resp.StatusCode != 200 || !strings.Contains(body, "ost: good.example.com") {
		t.Errorf("%s: %q", resp.Status, body)
	}
}

// What is read next takes the place of what was read before.
func TestARequestThatIsLedToWhatIsDeniedIsRecordedWithItsOwnPath(t *testing.T) {
	n := newFakeNet(t)
	n.site("good.example.com", "93.184.216.34", 80, tellHead)
	m := newMesh(t, n)
	m.routed(rules(t, "good.example.com:80"), "good.example.com|route: [{destination: {service: evil.example.com}}]")
	c := m.dial("good.example.com", 80)
	r := bufio.NewReader(c)
	for _, path := range []string{"/first", "/other"} {
		fmt.Fprint(c, get("good.example.com", path))
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		read(t, resp.Body)
	}
	m.closed(2)
	var paths []string
	for _, f := range m.ring.Recent(2, record.Filter{}) {
		paths = append(paths, f.Path)
	}
	if slices.Sort(paths); !slices.Equal(paths, []string{"/first", "/other"}) {
		t.Errorf("recorded %q", paths)
	}
}

// A redirect is the client's to follow: nobody is dialled for it.
func TestARedirectIsNotFollowedForTheClient(t *testing.T) {
	n := newFakeNet(t)
	m := newMesh(t, n)
	m.routed(rules(t, "good.example.com:80"), "good.example.com|redirect: {authority: evil.example.com}")
	resp, _ := sends(t, m.dial("good.example.com", 80), get("good.example.com", "/"))
	n.mu.Lock()
	defer n.mu.Unlock()
	if resp.StatusCode != 301 || len(n.asked) > 0 {
		t.Errorf("%s, and DNS was asked for %v", resp.Status, n.asked)
	}
}

// A copy goes to a host that a rule allows, under its name; one to another host is recorded
// and not sent; and each kind of way copies to the other.
func TestAMirrorOutsideGetsCopiesWhereARuleAllowsIt(t *testing.T) {
	n := newFakeNet(t)
	got := make(chan string, 9)
	n.site("good.example.com", "93.184.216.34", 80, tellHead)
	n.site("good.example.com", "93.184.216.34", 9080, tellHead)
	n.site("copy.example.com", "93.184.216.35", 80, heads(got))
	n.site("copy.example.com", "93.184.216.35", 9080, n.overTLS(heads(got), "copy.example.com"))
	m := newMesh(t, n)
	m.service("details", tellHead)
	m.service("shadowed", heads(got))
	allow := rules(t, "good.example.com:80", "good.example.com:9080/http", "copy.example.com:80", "copy.example.com:9080/https")
	for _, x := range []struct {
		dialled string
		port    uint16
		mirror  string
		copied  string
	}{
		{"good.example.com", 80, "{service: copy.example.com}", "copy.example.com"},
		{toDetails, 9080, "{service: copy.example.com}", "copy.example.com:9080"},
		{"good.example.com", 9080, "{name: shadowed}", "good.example.com-shadow"},
	} {
		m.routed(allow, x.dialled+"|mirror: "+x.mirror)
		if resp, body := sends(t, m.dial(x.dialled, x.port), get(x.dialled, "/a?b")); resp.StatusCode != 200 || !strings.Contains(body, "Host: "+x.dialled+"\n") {
			t.Errorf("%s: %s\n%s", x.dialled, resp.Status, body)
		}
		if copied := <-got; copied != fmt.Sprintf("GET %s /a?b %q", x.copied, "") {
			t.Errorf("%s to %s: the mirror got %s", x.dialled, x.mirror, copied)
		}
	}
	for _, dialled := range []string{"good.example.com", toDetails} {
		m.routed(allow, dialled+"|mirror: {service: evil.example.com}")
		if resp, _ := sends(t, m.dial(dialled, 9080), get(dialled, "/")); resp.StatusCode != 200 {
			t.Errorf("%s: %s", dialled, resp.Status)
		}
		f := m.flowOf("the copy that was denied", func(r *record.Record) bool {
			return r.Host == "evil.example.com:9080" && strings.HasPrefix(r.Dialled, dialled[:4])
		})
		if f.Verdict != record.Denied || f.Reason != "no-rule" || f.Upstream != "" {
			t.Errorf("%s: recorded %+v", dialled, f)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.asked["evil.example.com"] {
		t.Error("DNS was asked for a mirror that no rule names")
	}
}

// What a route rule leads to ends with the rule that allows it, as what is dialled does.
func TestARequestThatIsLedElsewhereEndsWhenThatRuleIsWithdrawn(t *testing.T) {
	for _, dialled := range []string{"old.example.com", toDetails} {
		n := newFakeNet(t)
		begun := make(chan struct{}, 1)
		n.site("new.example.com", "93.184.216.35", 9080, func(c net.Conn) { begun <- struct{}{}; silent(c) })
		m := newMesh(t, n)
		m.service("details", tellHead)
		spec := dialled + "|route: [{destination: {service: new.example.com}}]"
		m.routed(rules(t, "old.example.com:9080/http", "new.example.com:9080/http"), spec)
		conn := m.dial(dialled, 9080)
		fmt.Fprint(conn, get(dialled, "/"))
		<-begun
		m.routed(rules(t, "old.example.com:9080/http"), spec)
		ends(t, conn)
	}
}
