package test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice.dev/sluice/test/mesh"
	"sluice.dev/sluice/test/mesh/agent"
)

// hostilePayloads are what no listener expects.
func hostilePayloads() map[string][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	garbage := make([]byte, 64<<10)
	for i := range garbage {
		garbage[i] = byte(random.Uint32())
	}
	return map[string][]byte{
		"one byte":               {0},
		"zeros":                  make([]byte, 4096),
		"garbage":                garbage,
		"half a request line":    []byte("GET / HT"),
		"half a head":            []byte("GET / HTTP/1.1\r\nHost: details\r\nX-Half"),
		"half a body":            []byte("POST / HTTP/1.1\r\nHost: details\r\nContent-Length: 100000\r\n\r\nabc"),
		"half a chunk":           []byte("POST / HTTP/1.1\r\nHost: details\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nabc"),
		"two lengths":            []byte("POST / HTTP/1.1\r\nHost: details\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc"),
		"a head without an end":  []byte("GET / HTTP/1.1\r\nHost: details\r\nX: " + strings.Repeat("a", 1<<20)),
		"the HTTP/2 preface":     []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
		"a torn HTTP/2 frame":    []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x01\x00\x00\x00\x00\x01"),
		"half a ClientHello":     {22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3},
		"a ClientHello of zeros": append([]byte{22, 3, 1, 64, 0}, make([]byte, 16<<10)...),
		"a long DNS question":    append([]byte{255, 255}, make([]byte, 65535)...),
		"a torn DNS question":    {0, 30, 1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 63, 'w', 'w'},
		"a pointer to itself":    {0, 18, 1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1},
		"a hello in JSON":        []byte(`{"service":"details","labels":{"a":`),
		"a deep JSON":            []byte(strings.Repeat(`{"labels":`, 1000)),
	}
}

// listener is a place where strangers can speak.
type listener struct {
	name, network, address string
	inside                 bool // reached from inside of a sandbox
}

// Bounds that hold after the storm. A descriptor that stays for each payload of
// one kind breaks the first; the stocks of sockets, which grow with use to 32 of
// a type, do not.
const (
	moreDescriptors = 64
	moreMemory      = 128 << 20 // bytes, resident
	atOnce          = 40        // connections that say the same
	keptOpen        = 200       // connections that say half a thing and stay
)

// Garbage, half requests, slow clients and half-closed connections on every
// listener: afterwards each process lives and serves, and holds no more than
// before.
func TestNoListenerIsHurtByWhatStrangersSay(t *testing.T) {
	ingress := freePort(t)
	m := startMachinery(t, mesh.User{Name: "user", UID: -1}, "--ingress", ingress, "--ingress-route", "/.*=details:9080", "--log-level", "error")
	details := m.StartWorkload(t, "--service", "details", "--version", "v2", "--listen", "9080")
	details.Do(t, agent.Ask{Do: agent.Serve, Address: "127.0.0.1:9080", Send: []byte("of details")})
	m.create(t, policyFor("first", "details", "v2", "www.googleapis.com"))
	hostile := m.StartWorkload(t, "--service", "hostile", "--version", "v1")
	serves := func(when string) {
		t.Helper()
		m.opens(t, details, googleapis)
		mesh.Eventually(t, func() string {
			response, err := http.Get("http://" + ingress + "/")
			if err != nil {
				return when + ": " + err.Error()
			}
			defer response.Body.Close()
			if body, _ := io.ReadAll(response.Body); string(body) != "of details" {
				return fmt.Sprintf("%s the ingress answers %s %s", when, response.Status, body)
			}
			return ""
		})
		// attach.sock and push.sock: another workload joins. api.sock: it is listed.
		w := m.StartWorkload(t, "--service", "late", "--version", "v1")
		waitForInstance(t, m, "late-v1/1")
		if a := m.get(t, w, "http://details:9080/"); string(a.Body) != "of details" {
			t.Errorf("%s a new workload is answered %d %s %s", when, a.Code, a.Body, a.Error)
		}
		w.Kill()
		mesh.Eventually(t, func() string {
			if all := m.workloads(t); len(all) != 3 { // details, hostile, the ingress
				return fmt.Sprintf("%s status lists %v", when, all)
			}
			return ""
		})
	}
	serves("at first")
	before := map[string]usage{"sluice-server": usageOf(t, m.server), "sluice-proxy": usageOf(t, m.proxy)}

	listeners := []listener{
		{"the ingress", "tcp", ingress, false},
		{"api.sock", "unix", m.Socket("api.sock"), false},
		{"push.sock", "unix", m.Socket("push.sock"), false},
		{"attach.sock", "unixpacket", m.Socket("attach.sock"), false},
		{"HTTP in a sandbox", "tcp", "www.googleapis.com:80", true},
		{"TLS in a sandbox", "tcp", "www.googleapis.com:443", true},
		{"a service in a sandbox", "tcp", "details:9080", true},
		{"DNS over UDP in a sandbox", "udp", "198.18.0.1:53", true},
		{"DNS over TCP in a sandbox", "tcp", "198.18.0.1:53", true},
	}
	var kept []net.Conn
	defer func() { closeAll(kept) }()
	for _, l := range listeners {
		for name, payload := range hostilePayloads() {
			if l.network == "udp" && len(payload) > 60000 {
				payload = payload[:60000]
			}
			for _, half := range []bool{false, true} {
				ask := agent.Ask{Do: agent.Say, Address: l.address, Send: payload, HalfClose: half, Count: atOnce, Wait: 15 * time.Millisecond}
				if l.network == "udp" {
					ask.Do = agent.Datagram
				}
				if l.inside {
					hostile.Do(t, ask)
				} else {
					var all sync.WaitGroup
					for range atOnce {
						all.Go(func() { say(l, payload, half) })
					}
					all.Wait()
				}
			}
			select {
			case <-m.proxy.Ended():
				t.Fatalf("%s on %s ended the proxy", name, l.name)
			case <-m.server.Ended():
				t.Fatalf("%s on %s ended the server", name, l.name)
			default:
			}
		}
		// Slow clients: they have said half a thing, and stay.
		switch {
		case l.network == "udp":
		case l.inside:
			for _, half := range []string{"G", "\x16\x03\x01\x02\x00", "GET / HTTP/1.1\r\nHost: "} {
				hostile.Do(t, agent.Ask{Do: agent.Keep, Address: l.address, Count: keptOpen / 4, Send: []byte(half), Wait: time.Second})
			}
		default:
			for range keptOpen {
				conn, err := net.Dial(l.network, l.address)
				if err != nil {
					t.Fatalf("%s: %v", l.name, err)
				}
				kept = append(kept, conn)
				conn.Write([]byte("GET / HTTP/1.1\r\nHost: "))
			}
		}
	}
	serves("beside slow clients")
	t.Logf("beside slow clients: server %v, proxy %v", usageOf(t, m.server), usageOf(t, m.proxy))
	closeAll(kept)
	hostile.Do(t, agent.Ask{Do: agent.Drop})
	serves("afterwards")
	for name, d := range map[string]*mesh.Daemon{"sluice-server": m.server, "sluice-proxy": m.proxy} {
		mesh.Eventually(t, func() string {
			now := usageOf(t, d)
			if now.descriptors > before[name].descriptors+moreDescriptors || now.memory > before[name].memory+moreMemory {
				return fmt.Sprintf("%s has %v, before it had %v", name, now, before[name])
			}
			return ""
		})
		t.Logf("%s: before %v, afterwards %v", name, before[name], usageOf(t, d))
	}
}

func closeAll(conns []net.Conn) {
	for _, conn := range conns {
		conn.Close()
	}
}

// say sends a payload from outside, and waits a moment for what is answered.
func say(l listener, payload []byte, half bool) {
	conn, err := net.Dial(l.network, l.address)
	if err != nil {
		return // it may have had enough of us; that it serves is asked later
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(15 * time.Millisecond))
	conn.Write(payload)
	if h, ok := conn.(interface{ CloseWrite() error }); ok && half {
		h.CloseWrite()
	}
	io.Copy(io.Discard, conn)
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// usage is what a process holds.
type usage struct {
	descriptors int
	memory      int // bytes, resident
}

func (u usage) String() string {
	return fmt.Sprintf("%d descriptors and %d MiB", u.descriptors, u.memory>>20)
}

func usageOf(t *testing.T, d *mesh.Daemon) usage {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.PID()))
	if err != nil {
		t.Fatal(err)
	}
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", d.PID()))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		t.Fatal(err)
	}
	return usage{len(entries), pages * os.Getpagesize()}
}

// From inside of a sandbox, with the uid of the servers, none of their sockets can
// be reached: they are masked, and a second link to one is refused at connect. Where
// the owner named such a link, the peer is refused.
func TestAPeerFromInsideASandboxIsRefused(t *testing.T) {
	status := []byte("GET /sluice/status HTTP/1.1\r\nHost: sluice\r\nConnection: close\r\n\r\n")
	hello := []byte(`{"service":"details"}`)
	eachMachinery(t, func(t *testing.T, m *machinery) {
		public := filepath.Join(filepath.Dir(m.Runtime), "public")
		if err := os.Mkdir(public, 0o755); err != nil {
			t.Fatal(err)
		}
		folder, err := os.Open(m.Runtime)
		if err != nil {
			t.Fatal(err)
		}
		defer folder.Close()
		args := []string{"run", "--service", "inside"}
		unnamed := m.StartAgent(t, m.Command(context.Background(), "sluice", "run", "--", filepath.Join(m.Bin, "agent")))
		for _, name := range []string{"api.sock", "push.sock", "attach.sock"} {
			link := filepath.Join(public, name)
			if err := os.Link(m.Socket(name), link); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--unix", link)
		}
		cmd := m.Command(context.Background(), "sluice", append(args, "--", filepath.Join(m.Bin, "agent"))...)
		cmd.ExtraFiles = []*os.File{folder}
		inside, outside := m.StartAgent(t, cmd), m.StartAgent(t, m.Command(context.Background(), "agent"))
		for _, s := range []struct {
			name, network string
			say           []byte
		}{{"api.sock", "unix", status}, {"push.sock", "unix", status}, {"attach.sock", "unixpacket", hello}} {
			link := filepath.Join(public, s.name)
			reach := func(w *mesh.Workload, path string) agent.Answer {
				return w.Do(t, agent.Ask{Do: agent.Unix, Network: s.network, Path: path, Send: s.say, First: w == outside})
			}
			for _, masked := range []string{m.Socket(s.name), "/proc/self/fd/3/" + s.name} {
				if a := reach(inside, masked); !strings.Contains(a.Error, "connect: n") {
					t.Errorf("%s is there: %q %s", masked, a.Body, a.Error)
				}
			}
			if a := reach(unnamed, link); !strings.Contains(a.Error, "connection refused") {
				t.Errorf("over another link, which nobody named, %s answers %q, %s", s.name, a.Body, a.Error)
			}
			if a := reach(inside, link); len(a.Body) != 0 || strings.Contains(a.Error, "timeout") || strings.Contains(a.Error, "connect:") {
				t.Errorf("over another link %s answers %q, %s; want an end and no word", s.name, a.Body, a.Error)
			}
			// The same words from outside are answered, so the above is no accident.
			if a := reach(outside, link); len(a.Body) == 0 {
				t.Errorf("over the link %s answers nothing to whom it may: %s", s.name, a.Error)
			}
		}
		if open := inside.Do(t, agent.Ask{Do: agent.Files}); strings.Contains(string(open.Body), m.Runtime) {
			t.Errorf("the command inherited the runtime folder:\n%s", open.Body)
		}
		mesh.Eventually(t, func() string {
			if all := m.workloads(t); len(all) != 1 {
				return fmt.Sprintf("status lists %v", all)
			}
			return ""
		})
	})
}

// Every refused YAML names the file, the line and the field.
func TestARefusedFileNamesLineAndField(t *testing.T) {
	const rule = "apiVersion: config.istio.io/v1alpha2\nkind: EgressRule\nmetadata:\n  name: x\nspec:\n  destination:\n    service: HOST\n  ports:\n  - port: PORT\n    protocol: PROTOCOL\n"
	from := func(host, port, protocol string) string {
		return strings.NewReplacer("HOST", host, "PORT", port, "PROTOCOL", protocol).Replace(rule)
	}
	const policy = "apiVersion: sluice.dev/v1alpha1\nkind: EgressPolicy\nmetadata:\n  name: x\nspec:\n  to:\n    hosts: [HOST]\n    ports:\n    - port: 443\n      protocol: https\n"
	place := mesh.NewPlace(t, mesh.User{Name: "user", UID: -1}) // no server: nothing is sent
	for name, x := range map[string]struct{ yaml, at string }{
		"a bad label":                   {from("cnn..com", "443", "https"), ":7: spec.destination.service: "},
		"a port out of range":           {from("cnn.com", "70000", "https"), ":9: spec.ports[0].port: "},
		"a port that is none":           {from("cnn.com", "https", "https"), ":9: spec.ports[0].port: "},
		"an unknown protocol":           {from("cnn.com", "443", "gopher"), ":10: spec.ports[0].protocol: "},
		"a range with HTTP":             {from("10.0.0.0/8", "80", "http"), ":10: spec.ports[0].protocol: "},
		"two stars":                     {from("'**com'", "443", "https"), ":7: spec.destination.service: "},
		"no destination":                {strings.Replace(from("x", "443", "https"), "  destination:\n    service: x\n", "", 1), ": spec.destination: "},
		"an unknown field":              {from("cnn.com", "443", "https") + "  colour: red\n", ":11: spec.colour: "},
		"a field twice":                 {from("cnn.com", "443", "https") + "  ports: []\n", ":11: spec.ports: "},
		"the egress proxy of Istio 0.5": {from("cnn.com", "443", "https") + "  useEgressProxy: true\n", ":11: spec.useEgressProxy: "},
		"an unknown kind":               {"apiVersion: config.istio.io/v1alpha2\nkind: EgressRul\nmetadata: {name: x}\n", ":2: kind EgressRul is not known"},
		"a kind that is not supported":  {"apiVersion: config.istio.io/v1alpha2\nkind: denier\nmetadata: {name: x}\n", ":2: kind denier is not supported yet"},
		"a bad name":                    {strings.Replace(from("cnn.com", "443", "https"), "name: x", "name: X_y", 1), ":4: metadata.name: "},
		"a second document":             {from("cnn.com", "443", "https") + "---\n" + from("cnn..com", "443", "https"), ":18: spec.destination.service: "},
		"a bad host in a list":          {strings.Replace(policy, "HOST", "a..b", 1), ":7: spec.to.hosts[0]: "},
		"paths inside of what is passed through": {
			strings.Replace(policy, "HOST", "a.example.com", 1) + "  http:\n  - paths: [/x]\n", ":11: spec.http: "},
		"interception, which is not supported": {
			strings.Replace(policy, "HOST", "a.example.com", 1) + "  tls: {mode: Intercept}\n", ":11: spec.tls.mode: "},
		"no YAML":           {"kind: [", ":2: not YAML: "},
		"a tab":             {"kind: EgressRule\n\tx: 1\n", ":2: not YAML: "},
		"a bomb of anchors": {"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\nkind: *d\n", ":4: kind: must be a string"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(filepath.Dir(place.Runtime), "rules.yaml")
			if err := os.WriteFile(file, []byte(x.yaml), 0o644); err != nil {
				t.Fatal(err)
			}
			for _, input := range []struct{ name, stdin string }{{file, ""}, {"-", x.yaml}} {
				shown := input.name
				if shown == "-" {
					shown = "standard input"
				}
				r := place.Run(t, input.stdin, "sluice", "create", "-f", input.name)
				if r.Code != 1 || r.Stdout != "" || !strings.Contains(r.Stderr, x.at) || !strings.Contains(r.Stderr, shown) {
					t.Errorf("create -f %s: exit %d, %q and %q; want 1, %q and %q", input.name, r.Code, r.Stdout, r.Stderr, shown, x.at)
				}
			}
		})
	}
}

// HTTP/2 without TLS goes on to a server that speaks it, and is said of one that does not; where
// TLS is ours to make, the server chooses. Over TLS that is passed through it is the two ends' own.
func TestAnHTTP2ClientIsServedOrToldClearly(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		allow := []string{"www.example.com:80", "www.googleapis.com:443"}
		r := a.get(t, allow, "-w", " by HTTP/%{http_version}, %{http_code}", "--http2-prior-knowledge", "http://www.example.com/")
		if r.Code != 0 || !strings.HasSuffix(r.Stdout, " by HTTP/2, 502") || !strings.Contains(r.Stdout, "upstream-protocol") || !strings.Contains(r.Stdout, "as one of HTTP/2") {
			t.Errorf("prior knowledge of a server of HTTP/1.1: exit %d, %q and %q; want 502 and what is wrong", r.Code, r.Stdout, r.Stderr)
		}
		r = a.get(t, allow, "-w", " by HTTP/%{http_version}, %{http_code}", "--http2-prior-knowledge", "http://www.googleapis.com:443"+books)
		if r.Code != 0 || !strings.HasSuffix(r.Stdout, " by HTTP/2, 200") || !strings.Contains(r.Stdout, "volumeInfo") {
			t.Errorf("prior knowledge where TLS is ours: exit %d, %q and %q", r.Code, r.Stdout, r.Stderr)
		}
		if r := a.get(t, allow, "--http2", "-o", "/dev/null", "-w", "%{http_code} %{http_version}", "http://www.example.com/"); r.Stdout != "200 1.1" {
			t.Errorf("an upgrade to h2c: exit %d, %q and %q; want HTTP/1.1", r.Code, r.Stdout, r.Stderr)
		}
		for _, version := range []string{"1.1", "2"} {
			r := a.get(t, allow, "--http"+version, "-o", "/dev/null", "-w", "%{http_code} %{http_version}", googleapis)
			if r.Stdout != "200 "+version {
				t.Errorf("TLS with HTTP/%s: exit %d, %q and %q", version, r.Code, r.Stdout, r.Stderr)
			}
		}
	})
}

// glibc and Go, with the resolv.conf that Kubernetes would give.
func TestTwoResolversReachANameWithNdotsAndASearchList(t *testing.T) {
	eachMachinery(t, func(t *testing.T, m *machinery) {
		if r := m.Sluice(t, "run", "--service", "look", "--", "/bin/cat", "/etc/resolv.conf"); !strings.Contains(r.Stdout, "ndots:5") ||
			!strings.Contains(r.Stdout, "search default.svc.cluster.local svc.cluster.local cluster.local") {
			t.Fatalf("resolv.conf is %q (%s)", r.Stdout, r.Stderr)
		}
		m.create(t, policyFor("first", "details", "v2", "*.googleapis.com"))
		w := m.StartWorkload(t, "--service", "details", "--version", "v2", "--listen", "9080")
		w.Do(t, agent.Ask{Do: agent.Serve, Address: "127.0.0.1:9080", Send: []byte("of details")})
		m.opens(t, w, googleapis)
		for _, service := range []string{"details", "details.default", "details.default.svc", "details.default.svc.cluster.local"} {
			mesh.Eventually(t, func() string {
				if a := m.get(t, w, "http://"+service+":9080/"); string(a.Body) != "of details" {
					return fmt.Sprintf("Go asks %s: %d %s %s", service, a.Code, a.Body, a.Error)
				}
				return ""
			})
		}
		curl := func(url string) mesh.Result {
			return m.Sluice(t, "run", "--service", "details", "--version", "v2", "--", "/bin/sh", "-c",
				`exec curl -sS --max-time 60 --cacert "$0" -w ' %{http_code}' "$1"`, m.net.CA, url)
		}
		if r := curl(googleapis); r.Code != 0 || !strings.HasSuffix(r.Stdout, " 200") {
			t.Errorf("curl: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
		}
		if r := curl("http://details:9080/"); r.Stdout != "of details 200" {
			t.Errorf("curl of a service: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
		}
		if r := curl("http://nobody:9080/"); r.Code != 6 {
			t.Errorf("curl of a service that is not there: exit %d, %q, %q; want 6, no such host", r.Code, r.Stdout, r.Stderr)
		}
		// The search list was not asked for beyond us.
		questions, err := m.net.Control.Records(t.Context(), "", "question")
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range questions {
			if strings.Contains(q.Question, "cluster.local") || !bytes.Contains([]byte(q.Question), []byte("googleapis.com")) {
				t.Errorf("a question left: %s", q.Question)
			}
		}
	})
}
