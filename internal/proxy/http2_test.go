package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/telemetry/trace"
)

// versions are those of HTTP in the clear: HTTP/2 is spoken by prior knowledge.
var versions = map[string]func(p *http.Protocols){
	"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
	"HTTP/2":   func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
}

// speaks is a client of one version that dials as the workload does.
func speaks(t *testing.T, version string, dial func(address string) net.Conn) *http.Client {
	of := &http.Transport{
		Protocols:          new(http.Protocols),
		DialContext:        func(_ context.Context, _, address string) (net.Conn, error) { return dial(address), nil },
		DisableCompression: true,
	}
	versions[version](of.Protocols)
	t.Cleanup(of.CloseIdleConnections)
	return &http.Client{Transport: of, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// to dials that place, whatever the address.
func (m *meshOf) to(name string, port uint16) func(string) net.Conn {
	return func(string) net.Conn { return m.dial(name, port) }
}

// httpSite is a server of both versions, in the clear and by ALPN.
func httpSite(t *testing.T, n *fakeNet, handler http.HandlerFunc, names ...string) func(net.Conn) {
	l := &oneByOne{conns: make(chan net.Conn), done: make(chan struct{})}
	of := &http.Server{Handler: handler, Protocols: new(http.Protocols)}
	of.Protocols.SetHTTP1(true)
	of.Protocols.SetHTTP2(true)
	of.Protocols.SetUnencryptedHTTP2(true)
	config := &tls.Config{NextProtos: []string{"h2", "http/1.1"}}
	if len(names) > 0 {
		config.Certificates = []tls.Certificate{n.certificate(names...)}
	}
	var serving sync.WaitGroup
	serving.Go(func() { of.Serve(l) })
	t.Cleanup(func() { of.Close(); serving.Wait() })
	return func(c net.Conn) {
		h := &handed{Conn: c, closed: make(chan struct{})}
		var given net.Conn = h
		if len(names) > 0 {
			given = tls.Server(h, config)
		}
		select {
		case l.conns <- given:
			<-h.closed
		case <-l.done:
		}
	}
}

// tellRequest answers with the version, and the names and values of the fields that came.
func tellRequest(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	fmt.Fprintf(w, "%s\n", r.Proto)
	for name, values := range r.Header {
		for _, value := range values {
			fmt.Fprintf(w, "%s: %s\n", strings.ToLower(name), value)
		}
	}
	for name, values := range r.Trailer {
		if len(values) > 0 { // not only announced
			fmt.Fprintf(w, "trailer: %s\n", strings.ToLower(name))
		}
	}
}

// does sends a request with fields, as lines, and reads what tellRequest answers.
func does(t *testing.T, c *http.Client, url, fields string) (proto string, got map[string][]string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, url, io.MultiReader(strings.NewReader("body")))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(fields) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		request.Header[name] = append(request.Header[name], value)
	}
	request.Trailer = http.Header{"Checksum": {"a"}, "Baggage": {"user=alice"}, "X-B3-Traceid": {"1"}}
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %s", response.Status, err, body)
	}
	proto, rest, _ := strings.Cut(string(body), "\n")
	got = make(map[string][]string)
	for line := range strings.Lines(rest) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		got[name] = append(got[name], value)
	}
	return proto, got
}

// Nothing that is the mesh's own affair leaves it in HTTP/2 either: in the clear and by TLS that
// we make, in a head and behind a body, unless the rule says that it may.
func TestWhatIsTheMeshsOwnDoesNotLeaveItByHTTP2(t *testing.T) {
	n := newFakeNet(t)
	n.site("plain.example.com", "93.184.215.16", 80, httpSite(t, n, tellRequest))
	n.site("tls.example.com", "93.184.215.17", 443, httpSite(t, n, tellRequest, "tls.example.com"))
	m := newMesh(t, n)
	for _, propagate := range []bool{false, true} {
		rules := []policy.Rule{rule(t, "plain.example.com:80"), rule(t, "tls.example.com:443")}
		for i := range rules {
			rules[i].Propagate = propagate
		}
		m.traced(rules...)
		for host, port := range map[string]uint16{"plain.example.com": 80, "tls.example.com": 443} {
			what := fmt.Sprintf("%s, propagated %v", host, propagate)
			proto, got := does(t, speaks(t, "HTTP/2", m.to(host, port)), "http://"+host, ofTheMesh+kept)
			if proto != "HTTP/2.0" {
				t.Errorf("%s: the server was spoken to in %s", what, proto)
			}
			for _, name := range namesIn(kept) {
				if len(got[name]) != 1 {
					t.Errorf("%s: %s is missing", what, name)
				}
			}
			for _, name := range namesIn(ofTheMesh) {
				if _, there := got[name]; there != (propagate && name != "x-sluice-id") && !(propagate && (strings.HasPrefix(name, "x_b3") || name == "x-b3-parentspanid")) {
					t.Errorf("%s: %s reaches it: %v", what, name, there)
				}
			}
			trailers := map[bool][]string{false: {"checksum"}, true: {"baggage", "checksum", "x-b3-traceid"}}[propagate]
			if slices.Sort(got["trailer"]); !slices.Equal(got["trailer"], trailers) {
				t.Errorf("%s: trailers %v, want %v", what, got["trailer"], trailers)
			}
			if parent := got["traceparent"]; propagate && (len(parent) != 1 || !strings.HasPrefix(parent[0], "00-4bf92f3577b34da6a3ce929d0e0e4736-") || strings.Contains(parent[0], "00f067aa0ba902b7")) {
				t.Errorf("%s: it goes on with %v", what, parent)
			}
		}
	}
}

// Inside the mesh each stream goes on with the trace that it is part of; one from outside begins
// its own, whatever it says.
func TestAStreamOfHTTP2IsAStepOfItsTrace(t *testing.T) {
	n := newFakeNet(t)
	m := newMesh(t, n)
	m.service("details", httpSite(t, n, tellRequest))
	ingress := m.ingress("/.*")
	m.traced()
	const w3c = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\n"
	for what, x := range map[string]struct {
		client *http.Client
		proto  string // that the service is spoken to in
		joins  bool
	}{
		"inside":       {speaks(t, "HTTP/2", m.to(toDetails, 9080)), "HTTP/2.0", true},
		"from outside": {speaks(t, "HTTP/2", func(string) net.Conn { return ingress() }), "HTTP/1.1", false},
	} {
		for range 2 {
			before := m.ring.Added()
			proto, got := does(t, x.client, "http://details", w3c)
			m.closed(before + 1)
			f := m.lastFlow()
			if joined := f.Trace.String() == "4bf92f3577b34da6a3ce929d0e0e4736" && f.Parent.String() == "00f067aa0ba902b7"; joined != x.joins || f.Span == (trace.SpanID{}) {
				t.Errorf("%s: recorded as %+v", what, f.Context)
			}
			if want := "00-" + f.Trace.String() + "-" + f.Span.String() + "-0"; len(got["traceparent"]) != 1 || !strings.HasPrefix(got["traceparent"][0], want) {
				t.Errorf("%s: it goes on with %v, want %s", what, got["traceparent"], want)
			}
			if proto != x.proto || len(got["x-request-id"]) != 1 || (got["x-forwarded-for"] == nil) != x.joins {
				t.Errorf("%s: the service was asked in %s with %v", what, proto, got)
			}
		}
	}
}

// asked is what a client is answered to one request, and what is recorded of it.
type asked struct {
	Status         int
	Reason, Server string
	Body           string
	Record         record.Record
}

// asks sends one request of a method to a host and target, which are not checked, on a
// connection of its own.
func (m *meshOf) asksIn(version, method, host, target string, header http.Header) (a asked) {
	m.t.Helper()
	before := m.ring.Added()
	c := speaks(m.t.(*testing.T), version, m.to("www.example.com", 80))
	request, err := http.NewRequest(method, "http://"+host+"/", nil)
	if err != nil {
		m.t.Fatal(err)
	}
	request.URL.Opaque, request.Header = target, header
	response, err := c.Do(request)
	if err != nil {
		m.t.Fatalf("%s: %s %s%s: %v", version, method, host, target, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	m.closed(before + 1)
	a = asked{response.StatusCode, response.Header.Get("x-sluice-reason"), response.Header.Get("server"), string(body), m.lastFlow()}
	if i := strings.LastIndex(a.Body, "id: "); i >= 0 {
		a.Body = a.Body[:i]
	}
	f := &a.Record
	if f.Start.IsZero() || f.ID == 0 || f.Duration <= 0 || f.Sent <= 0 || f.Received <= 0 || a.Status == 200 && (f.FirstByte <= 0 || f.FirstByte > f.Duration) {
		m.t.Errorf("%s: %s %s%s: recorded without what is always there: %+v", version, method, host, target, f)
	}
	f.Start, f.ID, f.Duration, f.Sent, f.Received, f.Timings = f.Start.Truncate(1<<62), 0, 0, 0, 0, record.Timings{}
	return a
}

// A rule holds for a request whatever the version that it is said in, and its record says the
// same: its method, its host, its path without the query, the reason and the rule.
func TestWhatARuleLetsPassIsTheSameInHTTP2(t *testing.T) {
	n := newFakeNet(t)
	n.site("www.example.com", "93.184.215.16", 80, httpSite(t, n, tellRequest))
	m := newMesh(t, n)
	one := rule(t, "www.example.com:80")
	one.HTTP = []policy.HTTPMatch{{Methods: []string{"GET"}, Paths: []string{"/a/*"}}}
	m.allow(one)
	passed := 0
	for _, x := range []struct{ method, host, target string }{
		{"GET", "www.example.com", "/a/b?token=secret"},
		{"GET", "www.example.com", "/b"},
		{"POST", "www.example.com", "/a/b"},
		{"GET", "www.example.com", "/a/../b"},
		{"GET", "www.example.com", "/a/%2e%2e/b"},
		{"GET", "www.example.com", "/a/..%2fb"},
		{"GET", "www.example.com", "/a//b"},
		{"GET", "www.example.com", "/a/..;/b"},
		{"GET", "www.example.com:80", "/a/"},
		{"GET", "WWW.Example.Com", "/a/"},
		{"GET", "www.example.com:81", "/a/"},
		{"GET", "other.example.com", "/a/"},
		{"GET", "93.184.215.16", "/a/"},
	} {
		header := http.Header{"Authorization": {"Bearer secret"}, "User-Agent": {"test"}, "X-Forwarded-For": {"192.0.2.1"}}
		one, two := m.asksIn("HTTP/1.1", x.method, x.host, x.target, header), m.asksIn("HTTP/2", x.method, x.host, x.target, header)
		if one.Status == http.StatusOK && two.Status == http.StatusOK {
			passed++
			one.Body, two.Body = "", "" // the server's version
		}
		if one != two {
			t.Errorf("%s %s%s: in HTTP/1.1\n%+v\nand in HTTP/2\n%+v", x.method, x.host, x.target, one, two)
		}
		if text := fmt.Sprintf("%+v", two); strings.Contains(text, "secret") {
			t.Errorf("%s %s%s: what is nobody's business is recorded: %s", x.method, x.host, x.target, text)
		}
	}
	if passed == 0 {
		t.Error("nothing passed")
	}
}

// A server outside that speaks HTTP/1.1 alone is spoken to so where TLS is ours to make, and
// said to be none of HTTP/2's where its client knew better.
func TestAServerOfHTTP1IsTranslatedToWhereTLSIsOurs(t *testing.T) {
	n := newFakeNet(t)
	one := serving(func(r *http.Request, body string) string {
		var all bytes.Buffer
		fmt.Fprintf(&all, "%s %s %s %q", r.Proto, r.Method, r.Host, body)
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\n%s", all.Len(), all.String())
	})
	n.site("tls.example.com", "93.184.215.17", 443, n.overTLS(one, "tls.example.com"))
	n.site("plain.example.com", "93.184.215.16", 80, one)
	m := newMesh(t, n, rule(t, "tls.example.com:443"), rule(t, "plain.example.com:80"))
	for range 2 {
		response, err := speaks(t, "HTTP/2", m.to("tls.example.com", 443)).Post("http://tls.example.com/", "text/plain", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if response.Body.Close(); err != nil || response.ProtoMajor != 2 || string(body) != `HTTP/1.1 POST tls.example.com "body"` {
			t.Errorf("%s %s %q, %v", response.Proto, response.Status, body, err)
		}
		for _, name := range []string{"Connection", "Keep-Alive", "Transfer-Encoding"} {
			if _, there := response.Header[name]; there {
				t.Errorf("%s reaches a client of HTTP/2: %v", name, slices.Sorted(maps.Keys(response.Header)))
			}
		}
	}
	response, err := speaks(t, "HTTP/2", m.to("plain.example.com", 80)).Get("http://plain.example.com/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	if response.Body.Close(); response.StatusCode != 502 || response.Header.Get("x-sluice-reason") != "upstream-protocol" || !strings.Contains(string(body), "HTTP/2") {
		t.Errorf("by prior knowledge of another server: %s %q", response.Status, body)
	}
}
