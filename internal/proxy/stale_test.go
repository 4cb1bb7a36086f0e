package proxy

import (
	"bufio"
	"net"
	"testing"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/ingress"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/wire"
)

func TestStaleRulesDenyCallsInsideTheMeshToo(t *testing.T) {
	n := newFakeNet(t)
	n.site("api.example.com", "93.184.215.16", 80, hello)
	m := newMesh(t, n)
	m.service("details", hello)
	m.allow(rule(t, "api.example.com:80"))
	const details = "details.default.svc.cluster.local"
	ask := func(name string, port uint16) int {
		t.Helper()
		c := m.dial(name, port)
		resp := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: "+name+"\r\n\r\n")
		if resp.StatusCode != 200 && resp.Header.Get("x-sluice-reason") != "stale-snapshot" {
			t.Errorf("%s: %d %v", name, resp.StatusCode, resp.Header)
		}
		return resp.StatusCode
	}
	if in, out := ask(details, 9080), ask("api.example.com", 80); in != 200 || out != 200 {
		t.Fatalf("at first: status %d inside, %d outside", in, out)
	}
	m.closed(2)
	m.turnStale()
	if in, out := ask(details, 9080), ask("api.example.com", 80); in != 403 || out != 403 {
		t.Errorf("status %d inside, %d outside; want 403", in, out)
	}
	c := m.dial(details, 9080)
	c.Write([]byte{0, 1, 2, 3}) // bytes to the same service
	if err := ended(c); err != nil {
		t.Error(err)
	}
	m.closed(5)
	if f := m.lastFlow(); f.Verdict != record.Denied || f.Reason != "stale-snapshot" {
		t.Errorf("the account says %+v", f)
	}
	m.holder.Confirm() // the server is back
	if in, out := ask(details, 9080), ask("api.example.com", 80); in != 200 || out != 200 {
		t.Errorf("then: status %d inside, %d outside", in, out)
	}
}

// ingress makes the mesh's workload serve one, and returns how to reach it.
func (m *meshOf) ingress(paths ...string) (dial func() net.Conn) {
	m.t.Helper()
	return m.ingressTo(ingress.Route{Paths: paths, Service: names.MustParse("details"), Port: 9080})
}

func (m *meshOf) ingressTo(routes ...ingress.Route) (dial func() net.Conn) {
	m.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	w, served := m.workload, make(chan error, 1)
	go func() {
		served <- w.ServeIngress(Ingress{Plain: l.(*net.TCPListener), Routes: routes})
	}()
	m.t.Cleanup(func() {
		w.Close()
		if err := <-served; err != nil {
			m.t.Error(err)
		}
	})
	return func() net.Conn {
		m.t.Helper()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			m.t.Fatal(err)
		}
		m.t.Cleanup(func() { c.Close() })
		return c
	}
}

func TestTheIngressFailsClosedWithStaleRulesAndWithoutAny(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", hello)
	dial := m.ingress("/.*")
	c := dial()
	r := bufio.NewReader(c)
	if resp := exchange(t, c, r, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); resp.StatusCode != 200 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	m.turnStale()
	if err := ended(c); err != nil {
		t.Errorf("an open connection lives on: %v", err)
	}
	c = dial()
	resp := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp.StatusCode != 503 || resp.Header.Get("x-sluice-reason") != "stale-snapshot" || resp.Header.Get("server") != "sluice" {
		t.Errorf("stale: %d %v", resp.StatusCode, resp.Header)
	}
	never, err := m.proxy.Attach(t.Context(), WorkloadConfig{
		Workload: wire.Workload{Instance: "ingress/1", Namespace: "default"}, Holder: snapshot.NewHolder(snapshot.HolderConfig{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	m.workload = never
	c = m.ingress("/.*")()
	resp = exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp.StatusCode != 503 || resp.Header.Get("x-sluice-reason") != "no-snapshot" {
		t.Errorf("without a snapshot: %d %v", resp.StatusCode, resp.Header)
	}
	var last record.Record
	for deadline := time.Now().Add(patience); last.Reason != "no-snapshot"; { // a record may close after its answer
		if time.Now().After(deadline) {
			t.Fatalf("the last record is %+v", last)
		}
		last = m.lastFlow()
	}
}
