package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/mesh"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/wire"
)

// ofCluster is a Service of a cluster with one port, 80, and what is behind it.
func ofCluster(short string, addresses []string, endpoints ...wire.Endpoint) *compile.Service {
	s := &compile.Service{Service: wire.Service{
		Name: names.MustParse(short + ".default.svc.cluster.local"), Short: short, Namespace: "default",
		Ports: []wire.ServicePort{{Port: 80}}, Headless: len(addresses) == 0,
	}, Endpoints: endpoints}
	for _, address := range addresses {
		s.Addresses = append(s.Addresses, netip.MustParseAddr(address))
	}
	return s
}

// podAt is a Pod behind port 80 of a service, which says of each request who it is and which
// Host it was asked for. Our proxy lets in to it, so that its address is nobody's here.
func (m *meshOf) podAt(name, address string) wire.Endpoint {
	m.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, name+" for "+r.Host) })}
	go server.Serve(l)
	m.t.Cleanup(func() { server.Close() })
	w, err := m.proxy.Attach(m.t.Context(), WorkloadConfig{
		Workload: wire.Workload{Instance: name + ".default", Namespace: "default"}, Holder: snapshot.NewHolder(snapshot.HolderConfig{}),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	w.inward = func(ctx context.Context, _ mesh.Caller, _ uint16) (*net.TCPConn, error) {
		c, err := (&net.Dialer{Control: capture.ControlUrgent}).DialContext(ctx, "tcp", l.Addr().String())
		if err != nil {
			return nil, err
		}
		return c.(*net.TCPConn), nil
	}
	return wire.Endpoint{
		Instance: name + ".default", Proxy: name + ".default", Hostname: name, Ports: []uint16{80},
		Addresses: []netip.Addr{netip.MustParseAddr(address)}, Targets: map[uint16]uint16{80: 9080},
	}
}

// calls is got where the call may be refused: whoever says nothing for a moment, as on a machine
// that stalls, is reset then, which is "refused" as 403 and 503 are.
func calls(c net.Conn, host string) string {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
		return "refused"
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 200 {
		return "refused"
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "refused"
	}
	return "200 " + string(body)
}

// An address of the cluster is what stands behind it: it needs no rule, and no rule on
// addresses leads around the mesh by it.
func TestAnAddressOfTheClusterIsTheServiceOrThePodThatHasIt(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	first, second := m.podAt("db-0", "10.1.0.2"), m.podAt("db-1", "10.1.0.3")
	away := m.podAt("away", "10.1.0.4")
	away.Proxy = ""
	m.services = []*compile.Service{
		ofCluster("web", []string{"10.0.0.7", "fd00::7"}, second), ofCluster("db", nil, first, second),
		ofCluster("outside", []string{"10.0.0.8"}, away), ofCluster("none", []string{"10.0.0.9"}),
		ofCluster("twice", []string{"10.0.0.10"}, first), ofCluster("twice-too", []string{"10.0.0.10"}, first),
	}
	m.allow()
	pod := func(e wire.Endpoint) netip.AddrPort { return netip.AddrPortFrom(e.Addresses[0], e.Targets[80]) }
	for _, x := range []struct {
		what, to, want string
	}{
		{"a ClusterIP", "10.0.0.7:80", "200 db-1 for x"},
		{"its other family", "[fd00::7]:80", "200 db-1 for x"},
		{"a port that the service does not have", "10.0.0.7:81", "refused"},
		{"a Pod", pod(first).String(), "200 db-0 for x"},
		{"another Pod", pod(second).String(), "200 db-1 for x"},
		{"a Pod without a sidecar", pod(away).String(), "refused"},
		{"a service without a sidecar behind it", "10.0.0.8:80", "refused"},
		{"a service without anybody", "10.0.0.9:80", "refused"},
		{"an address of two services", "10.0.0.10:80", "refused"},
		{"an address of nobody", "10.0.0.77:80", "refused"},
	} {
		for range 2 { // whoever's turn it is
			if answer := calls(m.dialAddress(netip.MustParseAddrPort(x.to)), "x"); answer != x.want {
				t.Errorf("%s, %s: %s, want %s", x.what, x.to, answer, x.want)
			}
		}
	}
	if answer := got(t, m.dialAddress(netip.MustParseAddrPort("10.0.0.7:80")), "GET /last HTTP/1.1\r\nHost: x\r\n\r\n"); answer != "200 db-1 for x" {
		t.Errorf("once more: %s", answer)
	}
	if f := m.flowOf("of the last request", func(r *record.Record) bool { return r.Path == "/last" }); f.Direction != record.Mesh || f.Dialled != "web.default.svc.cluster.local" || f.Upstream != "db-1.default" || f.Port != 80 {
		t.Errorf("the record of a ClusterIP: %+v", f)
	}
	// A Pod that is gone has no address.
	m.services[1] = ofCluster("db", nil, second)
	m.services = m.services[:3]
	m.allow()
	if answer := calls(m.dialAddress(pod(first)), "x"); answer != "refused" {
		t.Errorf("a Pod that is gone: %s", answer)
	}
}

func TestAPodOfAStatefulSetIsCalledByItsOwnNameWhateverRouteRulesSay(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	first, second := m.podAt("db-0", "10.1.0.2"), m.podAt("db-1", "10.1.0.3")
	m.services = []*compile.Service{ofCluster("db", nil, first, second), ofCluster("details", []string{"10.0.0.7"}, first)}
	m.allow()
	for _, n := range []string{"db-0", "db-1"} {
		for range 3 {
			if answer := got(t, m.dial(n+".db.default.svc.cluster.local", 80), "GET / HTTP/1.1\r\nHost: "+n+".db\r\n\r\n"); answer != "200 "+n+" for "+n+".db" {
				t.Errorf("%s: %s", n, answer)
			}
		}
	}
	// Its service means any of them, and a name of nobody nobody.
	both := make(map[string]bool)
	for range 4 {
		both[got(t, m.dial("db.default.svc.cluster.local", 80), "GET / HTTP/1.1\r\nHost: db\r\n\r\n")] = true
	}
	if len(both) != 2 {
		t.Errorf("the service itself: %v", both)
	}
	if answer := calls(m.dial("db-2.db.default.svc.cluster.local", 80), "db-2.db"); answer != "refused" {
		t.Errorf("a Pod that is not there: %s", answer)
	}
	// A rule that leads away from the service leads nobody away from its Pod.
	m.routes("redirect: {uri: /elsewhere}")
	if answer := got(t, m.dial("db-0.details.default.svc.cluster.local", 80), "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); answer != "200 db-0 for x" {
		t.Errorf("by its own name: %s", answer)
	}
	if answer := got(t, m.dial("details.default.svc.cluster.local", 80), "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); answer[:3] != "301" {
		t.Errorf("by that of the service: %s", answer)
	}
}

// An ExternalName is another name for a host: who calls it needs a rule that allows the host,
// and the server is asked for what the rule says.
func TestAnExternalNameNeedsARuleForItsHostAndItsServerSeesThatHost(t *testing.T) {
	n := newFakeNet(t)
	n.site("www.example.com", "93.184.216.34", 80, func(c net.Conn) {
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(r.Host), r.Host)
		}
	})
	m := newMesh(t, n)
	m.services = []*compile.Service{
		{Service: wire.Service{Name: names.MustParse("books.default.svc.cluster.local"), Short: "books", Namespace: "default", Alias: names.MustParse("www.example.com")}},
		{Service: wire.Service{Name: names.MustParse("other.default.svc.cluster.local"), Short: "other", Namespace: "default", Alias: names.MustParse("other.example.com")}},
	}
	ask := func(host string) string {
		return calls(m.dial("www.example.com", 80), host) // as DNS answered for books
	}
	m.allow()
	if answer := ask("books"); answer != "refused" {
		t.Errorf("without a rule: %s", answer)
	}
	m.allow(rule(t, "www.example.com:80"))
	for host, want := range map[string]string{
		"books": "200 www.example.com", "books.default": "200 www.example.com", "books.default.svc.cluster.local": "200 www.example.com",
		"books:80": "200 www.example.com", "www.example.com": "200 www.example.com", "other": "refused", "unknown": "refused",
	} {
		if answer := ask(host); answer != want {
			t.Errorf("Host %s: %s, want %s", host, answer, want)
		}
	}
}

// Whoever may write where a Service leads does not say where others may go: where no sidecar
// is behind it, its address is outside of the mesh, and a rule on addresses must allow it.
func TestAServiceWithoutASidecarBehindItNeedsARuleForItsAddress(t *testing.T) {
	n := newFakeNet(t)
	n.site("legacy.example.com", "10.0.0.8", 80, func(c net.Conn) {
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n%s", r.Method+" ok")
		}
	})
	m := newMesh(t, n)
	byHand := wire.Endpoint{Instance: "192.0.2.7", Ports: []uint16{80}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}
	m.services = []*compile.Service{ofCluster("legacy", []string{"10.0.0.8"}, byHand), ofCluster("bare", nil, byHand)}
	ask := func(name string) string {
		return calls(m.dial(name+".default.svc.cluster.local", 80), name)
	}
	m.allow(rule(t, "192.0.2.7:80/tcp"))
	if answer := ask("legacy"); answer != "refused" {
		t.Errorf("by a rule for what is behind it: %s", answer)
	}
	m.allow(rule(t, "10.0.0.8:80/tcp"))
	if answer := ask("legacy"); answer != "200 GET ok" {
		t.Errorf("by a rule for its own address: %s", answer)
	}
	if answer := ask("bare"); answer != "refused" {
		t.Errorf("one without an address of its own: %s", answer)
	}
}
