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
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/telemetry/trace"
)

// ofTheMesh is a request's fields that are the mesh's own affair.
const ofTheMesh = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: a=b\r\nb3: 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1\r\n" +
	"X-B3-TraceId: 4bf92f3577b34da6a3ce929d0e0e4736\r\nX-B3-SpanId: 00f067aa0ba902b7\r\nx-b3-sampled: 1\r\nx_b3_flags: 1\r\nx-b3-parentspanid: 00f067aa0ba902b8\r\nx-ot-span-context: x\r\nBaggage: user=alice\r\n" +
	"x-request-id: mine\r\nX_Request_Id: mine\r\nx-forwarded-client-cert: By=spiffe://a\r\nx-envoy-decorator-operation: a\r\nX-Envoy-Peer-Metadata: b\r\nx-envoy--expected-rq-timeout-ms: 1\r\n" +
	"uber-trace-id: 1:1:0:1\r\nuberctx-user: alice\r\njaeger-baggage: user=alice\r\nJaeger-Debug-Id: 1\r\nbaggage-user: alice\r\nx-client-trace-id: 1\r\ngrpc-trace-bin: AAAA\r\nx-cloud-trace-context: 1/1\r\nx-amzn-trace-id: Root=1\r\nx-datadog-trace-id: 1\r\nx-sluice-id: 1\r\n"

// kept is a request's fields that look like those, and are not.
const kept = "jaeger: a\r\nbaggages: a\r\nx-request-identity: a\r\nx-b3: b\r\nb33: c\r\ntrace: d\r\nx-forwarded-for: 192.0.2.1\r\nauthorization: Bearer t\r\nx-environment: e\r\n"

// tellFields answers with the names and values of the fields that came, in their order.
func tellFields(c net.Conn) {
	requests := bufio.NewReader(c)
	for {
		var lines []string
		for {
			line, err := requests.ReadString('\n')
			if err != nil {
				return
			}
			if line = strings.TrimSpace(line); line == "" {
				break
			}
			lines = append(lines, line)
		}
		body := strings.Join(lines[1:], "\n")
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
}

// told is what tellFields answers to a request with these fields, by their names in lower case.
func told(t *testing.T, c net.Conn, host, fields string) map[string][]string {
	t.Helper()
	resp := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: "+host+"\r\n"+fields+"\r\n")
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	got := make(map[string][]string)
	for _, line := range strings.Split(string(body), "\n") {
		name, value, _ := strings.Cut(line, ":")
		name = strings.ToLower(name)
		got[name] = append(got[name], strings.TrimSpace(value))
	}
	return got
}

func (m *meshOf) traced(rules ...policy.Rule) {
	s := m.compile(rules...)
	s.Telemetry.Tracing, s.Telemetry.Sampling = true, trace.All
	m.holder.Swap(s)
}

func namesIn(fields string) (all []string) {
	for line := range strings.Lines(fields) {
		name, _, _ := strings.Cut(line, ":")
		all = append(all, strings.ToLower(name))
	}
	return all
}

// A server outside learns nothing that is the mesh's own affair, by plain HTTP and by TLS
// that we make, whether the mesh traces or not, unless the rule says that it may.
func TestWhatIsTheMeshsOwnDoesNotLeaveIt(t *testing.T) {
	n := newFakeNet(t)
	n.site("plain.example.com", "93.184.215.16", 80, tellFields)
	n.site("tls.example.com", "93.184.215.17", 443, n.overTLS(tellFields, "tls.example.com"))
	m := newMesh(t, n)
	for _, tracing := range []bool{false, true} {
		for _, propagate := range []bool{false, true} {
			rules := []policy.Rule{rule(t, "plain.example.com:80"), rule(t, "tls.example.com:443")}
			for i := range rules {
				rules[i].Propagate = propagate
			}
			if tracing {
				m.traced(rules...)
			} else {
				m.allow(rules...)
			}
			for host, port := range map[string]uint16{"plain.example.com": 80, "tls.example.com": 443} {
				what := fmt.Sprintf("%s, tracing %v, propagated %v", host, tracing, propagate)
				got := told(t, m.dial(host, port), host, ofTheMesh+kept)
				for _, name := range namesIn(kept) {
					if len(got[name]) != 1 {
						t.Errorf("%s: %s is missing", what, name)
					}
				}
				for _, name := range namesIn(ofTheMesh) {
					if _, there := got[name]; there != (propagate && name != "x-sluice-id") && !(propagate && tracing && (strings.HasPrefix(name, "x_b3") || name == "x-b3-parentspanid")) {
						t.Errorf("%s: %s reaches it: %v", what, name, there)
					}
				}
				if parent := got["traceparent"]; propagate && tracing && (len(parent) != 1 || !strings.HasPrefix(parent[0], "00-4bf92f3577b34da6a3ce929d0e0e4736-") || strings.Contains(parent[0], "00f067aa0ba902b7")) {
					t.Errorf("%s: it goes on with %v", what, parent)
				}
			}
		}
	}
}

// Nor does it leave behind the body.
func TestNorDoTrailersTellOfTheMesh(t *testing.T) {
	n := newFakeNet(t)
	n.site("plain.example.com", "93.184.215.16", 80, func(c net.Conn) {
		request, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		io.Copy(io.Discard, request.Body)
		body := fmt.Sprint(slices.Sorted(maps.Keys(request.Trailer)))
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	})
	m := newMesh(t, n)
	for propagate, want := range map[bool]string{false: "[Checksum]", true: "[Baggage Checksum X-B3-Traceid]"} {
		one := rule(t, "plain.example.com:80")
		one.Propagate = propagate
		m.allow(one)
		for what, body := range map[string]string{"at once": "0\r\n", "later": strings.Repeat("10000\r\n"+strings.Repeat("x", 1<<16)+"\r\n", 8) + "0\r\n"} {
			c := m.dial("plain.example.com", 80)
			resp := exchange(t, c, bufio.NewReader(c), "POST / HTTP/1.1\r\nHost: plain.example.com\r\nTransfer-Encoding: chunked\r\n\r\n"+
				body+"baggage: user=alice\r\nchecksum: a\r\nX-B3-TraceId: 4bf92f3577b34da6a3ce929d0e0e4736\r\n\r\n")
			got, err := io.ReadAll(resp.Body)
			if err != nil || string(got) != want {
				t.Errorf("propagate %v, %s: %s %q, want %q (%v)", propagate, what, resp.Status, got, want, err)
			}
			c.Close()
		}
	}
}

// Inside the mesh a request goes on with the trace that it is part of, as the child of what
// it came from; a request from outside begins one, whatever it says.
func TestARequestInsideTheMeshIsAStepOfItsTrace(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellFields)
	ingress := m.ingress("/.*")
	fields := "x-b3-traceid: 4bf92f3577b34da6a3ce929d0e0e4736\r\nx-b3-spanid: 00f067aa0ba902b7\r\nx-b3-sampled: 0\r\n"
	if got := told(t, m.dial(toDetails, 9080), "details", fields); !slices.Equal(got["x-b3-spanid"], []string{"00f067aa0ba902b7"}) || got["traceparent"] != nil {
		t.Errorf("a mesh that does not trace changes what requests say: %v", got)
	}
	m.traced()
	for _, x := range []struct {
		what   string
		dial   func() net.Conn
		fields string
		joins  bool
	}{
		{"inside, by B3", func() net.Conn { return m.dial(toDetails, 9080) }, fields, true},
		{"inside, by W3C", func() net.Conn { return m.dial(toDetails, 9080) }, "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\n", true},
		{"inside, by B3 beside the state of another", func() net.Conn { return m.dial(toDetails, 9080) }, fields + "tracestate: a=b\r\n", true},
		{"inside, by nothing", func() net.Conn { return m.dial(toDetails, 9080) }, "", false},
		{"from outside", ingress, ofTheMesh, false},
	} {
		before := m.ring.Added()
		c := x.dial()
		got := told(t, c, "details", x.fields)
		c.Close()
		m.closed(before + 1)
		f := m.lastFlow()
		if joined := f.Trace.String() == "4bf92f3577b34da6a3ce929d0e0e4736" && f.Parent.String() == "00f067aa0ba902b7"; joined != x.joins || f.Sampled == x.joins {
			t.Errorf("%s: recorded as %+v", x.what, f.Context)
		}
		flag := map[bool]string{true: "1", false: "0"}[f.Sampled]
		for name, want := range map[string]string{
			"traceparent": "00-" + f.Trace.String() + "-" + f.Span.String() + "-0" + flag, "x-b3-traceid": f.Trace.String(), "x-b3-spanid": f.Span.String(), "x-b3-sampled": flag,
		} {
			if !slices.Equal(got[name], []string{want}) {
				t.Errorf("%s: %s is %q, want %s", x.what, name, got[name], want)
			}
		}
		for _, name := range []string{"tracestate", "b3", "x-b3-flags", "x-b3-parentspanid"} {
			if value, there := got[name]; there && (name != "x-b3-parentspanid" || !x.joins || !slices.Equal(value, []string{f.Parent.String()})) {
				t.Errorf("%s: %s of a stranger's trace came in: %v", x.what, name, value)
			}
		}
		for _, name := range []string{"baggage", "x-forwarded-client-cert", "x-ot-span-context"} {
			if x.what == "from outside" && got[name] != nil {
				t.Errorf("%s: %s came in: %v", x.what, name, got[name])
			}
		}
		if len(got["x-request-id"]) != 1 {
			t.Errorf("%s: x-request-id is %q", x.what, got["x-request-id"])
		}
	}
}

// What is denied, and a connection that is carried as a whole, are steps too.
func TestWhateverIsRecordedIsAStepOfATrace(t *testing.T) {
	n := newFakeNet(t)
	n.site("db.example.com", "93.184.215.18", 5432, func(c net.Conn) { io.WriteString(c, "hello") })
	m := newMesh(t, n)
	m.traced(rule(t, "db.example.com:5432/tcp"))
	c := m.dial("db.example.com", 5432)
	io.ReadFull(c, make([]byte, 5))
	c.Close()
	m.closed(1)
	if f := m.lastFlow(); f.Trace == (trace.ID{}) || f.Span == (trace.SpanID{}) || !f.Sampled || f.Verdict != record.Allowed {
		t.Errorf("%+v", f)
	}
	c = m.dial("none.example.com", 80)
	if resp := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: none.example.com\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n"); resp.StatusCode != 403 {
		t.Fatal(resp.Status)
	}
	c.Close()
	m.closed(2)
	if f := m.lastFlow(); f.Trace.String() != "4bf92f3577b34da6a3ce929d0e0e4736" || f.Verdict != record.Denied {
		t.Errorf("%+v", f)
	}
}

func TestASteadyTracedRequestAllocatesNothing(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	once := steadily(t, m)
	m.traced()
	for range 50 {
		once()
	}
	if allocations := testing.AllocsPerRun(200, once); allocations >= 1 && !raceDetector {
		t.Errorf("%v allocations a request", allocations)
	}
	if f := m.lastFlow(); f.Trace == (trace.ID{}) {
		t.Error("nothing was traced")
	}
}

func BenchmarkATracedRequestInsideTheMesh(b *testing.B) {
	m := newMesh(b, newFakeNet(b))
	once := steadily(b, m)
	m.traced()
	b.ReportAllocs()
	for b.Loop() {
		once()
	}
}
