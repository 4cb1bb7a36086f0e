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

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/ingress"
)

// signingIn is a server of NTLM as there are: a sign-in takes two requests on one
// connection, which is the user's from then on.
func signingIn(c net.Conn) { signingInAt(c, "") }

// signingInAt is one that says its name in each answer.
func signingInAt(c net.Conn, name string) {
	requests := bufio.NewReader(c)
	user, steps := "", 0
	for {
		r, err := http.ReadRequest(requests)
		if err != nil {
			return
		}
		io.Copy(io.Discard, r.Body)
		scheme, message, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		signsIn := strings.EqualFold(scheme, "NTLM")
		if steps++; !signsIn {
			steps = 0
		}
		switch {
		case user != "":
		case signsIn && steps == 2:
			user = message
		case signsIn:
			fmt.Fprintf(c, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM challenge\r\nContent-Length: %d\r\n\r\n%s", len(name), name)
			continue
		default:
			fmt.Fprintf(c, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a, b\"\r\nWWW-Authenticate: Negotiate, NTLM\r\nContent-Length: %d\r\n\r\n%s", len(name), name)
			continue
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s%s", len(name)+len(user), name, user)
	}
}

// Who signs in to a connection of a server has it alone, and has it for as long as the
// sign-in takes and afterwards.
func TestASignInByNTLMBelongsToTheClientThatMadeIt(t *testing.T) {
	for name, dialler := range map[string]func(t *testing.T) (host string, dial func() net.Conn){
		"egress": func(t *testing.T) (string, func() net.Conn) {
			n := newFakeNet(t)
			n.site("intranet.example.com", "93.184.216.34", 80, signingIn)
			m := newMesh(t, n, rule(t, "intranet.example.com:80"))
			return "intranet.example.com", func() net.Conn { return m.dial("intranet.example.com", 80) }
		},
		"egress, with TLS that we originate": func(t *testing.T) (string, func() net.Conn) {
			n := newFakeNet(t)
			n.site("intranet.example.com", "93.184.216.34", 443, n.overTLS(signingIn, "intranet.example.com"))
			m := newMesh(t, n, rule(t, "intranet.example.com"))
			return "intranet.example.com", func() net.Conn { return m.dial("intranet.example.com", 443) }
		},
		"mesh, with three instances": func(t *testing.T) (string, func() net.Conn) {
			m := newMesh(t, newFakeNet(t))
			for number := range 3 {
				m.instance("details", number+1, signingIn)
			}
			return "details:9080", func() net.Conn { return m.dial("details.default.svc.cluster.local", 9080) }
		},
		"ingress, with three instances": func(t *testing.T) (string, func() net.Conn) {
			m := newMesh(t, newFakeNet(t))
			for number := range 3 {
				m.instance("details", number+1, signingIn)
			}
			return "mesh.example.com", m.ingress("/.*")
		},
	} {
		t.Run(name, func(t *testing.T) {
			host, dial := dialler(t)
			alice, bob := newSigner(t, host, dial()), newSigner(t, host, dial())
			for _, step := range []struct {
				who                   *signer
				method, authorization string
				want                  string
			}{
				{alice, "GET", "", "401 "},
				{bob, "GET", "", "401 "},
				{alice, "GET", "NTLM alice", "401 "},
				{bob, "GET", "", "401 "},
				{alice, "POST", "NTLM alice", "200 alice"},
				{bob, "GET", "", "401 "},
				{alice, "GET", "", "200 alice"},
				{bob, "GET", "ntlm bob", "401 "},
				{alice, "POST", "", "200 alice"},
				{bob, "GET", "ntlm bob", "200 bob"},
				{alice, "GET", "", "200 alice"},
				{bob, "GET", "", "200 bob"},
			} {
				if got := step.who.ask(step.method, step.authorization); got != step.want {
					t.Fatalf("%s with %q: %q, want %q", step.method, step.authorization, got, step.want)
				}
			}
			alice.Close()
			for range 4 {
				if got := newSigner(t, host, dial()).ask("GET", ""); got != "401 " {
					t.Fatalf("a client that never signed in got %q", got)
				}
			}
		})
	}
}

// A client's connection to an ingress may lead to several services: what it signed in to
// is one endpoint of one of them, and no other is reached by it.
func TestASignInStaysWithTheServiceAndTheEndpointThatItWasMadeTo(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	for _, service := range []string{"details", "reviews"} {
		for number := range 3 {
			m.instance(service, number+1, func(c net.Conn) { signingInAt(c, fmt.Sprintf("%s/%d ", service, number+1)) })
		}
	}
	dial := m.ingressTo(
		ingress.Route{Paths: []string{"/details"}, Service: names.MustParse("details"), Port: 9080},
		ingress.Route{Paths: []string{"/reviews"}, Service: names.MustParse("reviews"), Port: 9080},
	)
	client := newSigner(t, "mesh.example.com", dial())
	want := func(got, status, service, user string) (endpoint string) {
		t.Helper()
		var of, as string
		fmt.Sscan(got, new(string), &of, &as)
		if !strings.HasPrefix(got, status) || !strings.HasPrefix(of, service+"/") || as != user {
			t.Fatalf("%q is not %s of %s as %q", got, status, service, user)
		}
		return of
	}
	first := want(client.askAt("GET", "/details", "NTLM alice"), "401", "details", "")
	want(client.askAt("POST", "/details", "NTLM alice"), "200", "details", "alice")
	for range 4 {
		want(client.askAt("GET", "/reviews", ""), "401", "reviews", "")
		if of := want(client.askAt("GET", "/details", ""), "200", "details", "alice"); of != first {
			t.Errorf("a request goes to %s, signed in to %s", of, first)
		}
	}
	second := want(client.askAt("GET", "/reviews", "NTLM bob"), "401", "reviews", "")
	want(client.askAt("POST", "/reviews", "NTLM bob"), "200", "reviews", "bob")
	for range 4 {
		if of := want(client.askAt("GET", "/details", ""), "200", "details", "alice"); of != first {
			t.Errorf("a request goes to %s, signed in to %s", of, first)
		}
		if of := want(client.askAt("GET", "/reviews", ""), "200", "reviews", "bob"); of != second {
			t.Errorf("a request goes to %s, signed in to %s", of, second)
		}
	}
}

// signer is a client with a connection of its own.
type signer struct {
	net.Conn
	t       *testing.T
	host    string
	answers *bufio.Reader
}

func newSigner(t *testing.T, host string, c net.Conn) *signer {
	c.SetDeadline(time.Now().Add(patience))
	return &signer{c, t, host, bufio.NewReader(c)}
}

// ask sends a request and returns status and body of its answer.
func (s *signer) ask(method, authorization string) string {
	s.t.Helper()
	return s.askAt(method, "/", authorization)
}

func (s *signer) askAt(method, path, authorization string) string {
	s.t.Helper()
	if authorization != "" {
		authorization = "Authorization: " + authorization + "\r\n"
	}
	body := ""
	if method == "POST" {
		body = strings.Repeat("x", 100<<10) // more than is read at once
	}
	if _, err := fmt.Fprintf(s, "%s %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n%s", method, path, s.host, authorization, len(body), body); err != nil {
		s.t.Fatal(err)
	}
	r, err := http.ReadResponse(s.answers, &http.Request{Method: method})
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", r.StatusCode, text)
}

// What a proxy is to be signed in to is for one hop, and no sign-in of ours: nobody
// behind us ever sees it, so nothing has to be kept apart.
func TestASignInToAProxyPassesNoFurther(t *testing.T) {
	n := newFakeNet(t)
	var connections atomic.Int32
	var seen atomic.Bool
	n.site("www.example.com", "93.184.216.34", 80, func(c net.Conn) {
		connections.Add(1)
		requests := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(requests)
			if err != nil {
				return
			}
			if r.Header.Get("Proxy-Authorization") != "" {
				seen.Store(true)
			}
			io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n")
		}
	})
	m := newMesh(t, n, rule(t, "www.example.com:80"))
	for i := range 3 {
		c := m.dial("www.example.com", 80)
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: www.example.com\r\nProxy-Authorization: NTLM alice\r\nConnection: close\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || r.StatusCode != 407 || r.Header.Get("Proxy-Authenticate") != "" {
			t.Errorf("%v, %v", r, err)
		}
		m.closed(uint64(i) + 1) // its connection is back
	}
	if connections.Load() != 1 || seen.Load() {
		t.Errorf("%d connections; the server saw the credentials: %v", connections.Load(), seen.Load())
	}
}
