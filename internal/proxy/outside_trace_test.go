package proxy

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/policy"
)

// Where a route rule leads a request, and not where it was asked for, says what goes with it:
// a service gets what is the mesh's own affair, and a host outside gets it where the rule says so
// that lets the request go there.
func TestWhatIsTheMeshsOwnLeavesByTheRuleOfTheHostThatARequestIsLedTo(t *testing.T) {
	n := newFakeNet(t)
	n.site("old.example.com", "93.184.216.34", 9080, tellFields)
	n.site("new.example.com", "93.184.216.35", 9080, tellFields)
	m := newMesh(t, n)
	m.service("details", tellFields)
	const old, new = "old.example.com:9080/http", "new.example.com:9080/http"
	for _, x := range []struct {
		dialled, spec, propagates string
		leaves                    bool
	}{
		{"old.example.com", "appendHeaders: {x-a: a}", old, true},
		{"old.example.com", "appendHeaders: {x-a: a}", new, false},
		{"old.example.com", "route: [{destination: {service: new.example.com}}]", old, false},
		{"old.example.com", "route: [{destination: {service: new.example.com}}]", new, true},
		{"old.example.com", "rewrite: {authority: 'new.example.com:9080'}", old, false},
		{"old.example.com", "rewrite: {authority: 'new.example.com:9080'}", new, true},
		{"old.example.com", "route: [{destination: {name: details}}]", "", true},
		{toDetails, "route: [{destination: {service: new.example.com}}]", old, false},
		{toDetails, "route: [{destination: {service: new.example.com}}]", new, true},
	} {
		for _, tracing := range []bool{false, true} {
			what := fmt.Sprintf("%s|%s, %q propagates, tracing %v", x.dialled, x.spec, x.propagates, tracing)
			var allow []policy.Rule
			for _, text := range []string{old, new} {
				one := rule(t, text)
				one.Propagate = text == x.propagates
				allow = append(allow, one)
			}
			m.routed(allow, x.dialled+"|"+x.spec)
			if tracing {
				m.traced(allow...)
			}
			got := told(t, m.dial(x.dialled, 9080), x.dialled, ofTheMesh+kept)
			for _, name := range namesIn(kept) {
				if len(got[name]) != 1 {
					t.Errorf("%s: %s is missing", what, name)
				}
			}
			for _, name := range []string{"traceparent", "baggage", "x-request-id", "x-forwarded-client-cert", "x-envoy-decorator-operation"} {
				if _, there := got[name]; there != x.leaves {
					t.Errorf("%s: %s reaches it: %v", what, name, there)
				}
			}
			if x.leaves && tracing != (len(got["traceparent"]) == 1 && !strings.Contains(got["traceparent"][0], "00f067aa0ba902b7")) {
				t.Errorf("%s: it goes on with %v", what, got["traceparent"])
			}
		}
	}
}

// Nor does a copy tell more than its own rule lets, in its head and behind its body, whatever
// the request itself tells a service; and the request is none the less for it.
func TestACopyThatLeavesTellsNothingOfTheMesh(t *testing.T) {
	n := newFakeNet(t)
	copied := make(chan string, 4)
	n.site("copy.example.com", "93.184.216.36", 9080, tellTrailers(copied))
	m := newMesh(t, n)
	sent := make(chan string, 4)
	m.service("details", tellTrailers(sent))
	for _, propagate := range []bool{false, true} {
		one := rule(t, "copy.example.com:9080/http")
		one.Propagate = propagate
		m.routed([]policy.Rule{one}, toDetails+"|mirror: {service: copy.example.com}")
		m.traced(one)
		for _, body := range []string{"0\r\n", strings.Repeat("2000\r\n"+strings.Repeat("x", 1<<13)+"\r\n", 6) + "0\r\n"} {
			c := m.dial(toDetails, 9080)
			resp := exchange(t, c, bufio.NewReader(c), "POST / HTTP/1.1\r\nHost: details\r\nTransfer-Encoding: chunked\r\nx-request-id: mine\r\nchecked: yes\r\n\r\n"+
				body+"baggage: user=alice\r\nchecksum: a\r\nX-B3-TraceId: 4bf92f3577b34da6a3ce929d0e0e4736\r\n\r\n")
			if resp.StatusCode != 200 {
				t.Fatal(resp.Status)
			}
			whole := fmt.Sprintf("%d bytes, head [Checked Traceparent X-Request-Id], trailers [Baggage Checksum X-B3-Traceid]", strings.Count(body, "x"))
			want := whole
			if !propagate {
				want = fmt.Sprintf("%d bytes, head [Checked], trailers [Checksum]", strings.Count(body, "x"))
			}
			if got := <-sent; got != whole {
				t.Errorf("the service got %s, want %s", got, whole)
			}
			if got := <-copied; got != want {
				t.Errorf("propagate %v: the copy was %s, want %s", propagate, got, want)
			}
			c.Close()
		}
	}
}

// tellTrailers says which fields of note a request has before and behind its body.
func tellTrailers(got chan<- string) func(net.Conn) {
	return func(c net.Conn) {
		request, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		size, err := io.Copy(io.Discard, request.Body)
		if err != nil {
			return
		}
		head := slices.DeleteFunc(slices.Sorted(maps.Keys(request.Header)), func(name string) bool { return strings.HasPrefix(name, "X-B3-") })
		got <- fmt.Sprintf("%d bytes, head %v, trailers %v", size, head, slices.Sorted(maps.Keys(request.Trailer)))
		io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	}
}
