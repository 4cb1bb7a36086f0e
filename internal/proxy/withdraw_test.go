package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// meshConfig is a MeshConfig with a trusted root, and an outbound default where that is
// not "".
func meshConfig(ca, outbound string) io.Reader {
	spec := map[string]string{"trustedRoots": ca}
	if outbound != "" {
		spec["outboundDefault"] = outbound
	}
	b, err := json.Marshal(map[string]any{
		"apiVersion": "sluice.dev/v1alpha1", "kind": "MeshConfig", "metadata": map[string]string{"name": "default"}, "spec": spec,
	})
	if err != nil {
		panic(err) // strings alone
	}
	return bytes.NewReader(b)
}

// echo sends back what comes.
func echo(c net.Conn) { io.Copy(c, c) }

// hello answers every HTTP request with its Host.
func hello(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		io.Copy(io.Discard, req.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(req.Host), req.Host)
	}
}

func exchange(t *testing.T, c net.Conn, r *bufio.Reader, request string) *http.Response {
	t.Helper()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp
}

// ended reports whether the other side ends the connection.
func ended(c net.Conn) error {
	c.SetReadDeadline(time.Now().Add(patience))
	n, err := c.Read(make([]byte, 1))
	if n == 0 && err != nil {
		if timeout, ok := err.(net.Error); !ok || !timeout.Timeout() {
			return nil
		}
	}
	return fmt.Errorf("read %d bytes, %v", n, err)
}

func TestAWithdrawnRuleEndsAConnectionThatItAllowed(t *testing.T) {
	n := newFakeNet(t)
	n.site("db.example.com", "93.184.215.14", 5000, echo)
	n.site("www.example.com", "93.184.215.15", 443, n.overTLS(echo, "www.example.com"))
	n.site("api.example.com", "93.184.215.16", 80, hello)
	m := newMesh(t, n, rule(t, "db.example.com:5000"), rule(t, "www.example.com"), rule(t, "api.example.com:80"))
	t.Run("TCP", func(t *testing.T) {
		m.allow(rule(t, "db.example.com:5000"))
		c := m.dial("db.example.com", 5000)
		io.WriteString(c, "ping")
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		m.allow(rule(t, "db.example.com:5000"), rule(t, "other.example.com"))
		io.WriteString(c, "ping")
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatalf("another rule ended it: %v", err)
		}
		m.allow()
		if err := ended(c); err != nil {
			t.Errorf("it lives on: %v", err)
		}
	})
	t.Run("passed-through TLS", func(t *testing.T) {
		m.allow(rule(t, "www.example.com"))
		roots := x509.NewCertPool()
		roots.AddCert(n.ca)
		c := tls.Client(m.dial("www.example.com", 443), &tls.Config{ServerName: "www.example.com", RootCAs: roots})
		io.WriteString(c, "ping")
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		m.allow()
		if err := ended(c); err != nil {
			t.Errorf("it lives on: %v", err)
		}
	})
	t.Run("idle HTTP", func(t *testing.T) {
		m.allow(rule(t, "api.example.com:80"))
		c := m.dial("api.example.com", 80)
		if resp := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n"); resp.StatusCode != 200 {
			t.Fatalf("status %d", resp.StatusCode)
		}
		m.allow()
		if err := ended(c); err != nil {
			t.Errorf("it lives on: %v", err)
		}
		c = m.dial("api.example.com", 80)
		if resp := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n"); resp.StatusCode != 403 || resp.Header.Get("x-sluice-reason") != "no-rule" {
			t.Errorf("then: status %d, reason %q", resp.StatusCode, resp.Header.Get("x-sluice-reason"))
		}
	})
}

func TestPlainHTTPToAnHTTPSPortIsSentOverVerifiedTLS(t *testing.T) {
	n := newFakeNet(t)
	n.site("www.example.com", "93.184.215.15", 443, n.overTLS(hello, "www.example.com"))
	n.site("wrong.example.com", "93.184.215.16", 443, n.overTLS(hello, "another.example.com"))
	m := newMesh(t, n, rule(t, "*.example.com"))
	c := m.dial("www.example.com", 443)
	r := bufio.NewReader(c)
	for range 3 {
		resp := exchange(t, c, r, "GET / HTTP/1.1\r\nHost: www.example.com:443\r\n\r\n")
		if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || !strings.HasPrefix(string(body), "www.example.com") {
			t.Fatalf("status %d, %q", resp.StatusCode, body)
		}
	}
	c = m.dial("wrong.example.com", 443)
	resp := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: wrong.example.com\r\n\r\n")
	if resp.StatusCode/100 == 2 || resp.Header.Get("server") != "sluice" || resp.Header.Get("x-sluice-id") == "" {
		t.Errorf("a certificate of another name: status %d, %v", resp.StatusCode, resp.Header)
	}
}

func TestWhatTheClientSaysAfterAServerFirstDialIsDecidedAboutToo(t *testing.T) {
	n := newFakeNet(t)
	n.site("db.example.com", "93.184.215.14", 3306, func(c net.Conn) {
		io.WriteString(c, "welcome")
		echo(c)
	})
	m := newMesh(t, n, rule(t, "*.example.com:3306"))
	c := m.dial("db.example.com", 3306)
	greeting := make([]byte, 7)
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, greeting); err != nil || string(greeting) != "welcome" {
		t.Fatalf("the greeting: %q, %v", greeting, err)
	}
	io.WriteString(c, "ping")
	if _, err := io.ReadFull(c, greeting[:4]); err != nil || string(greeting[:4]) != "ping" {
		t.Fatalf("the echo: %q, %v", greeting[:4], err)
	}
	c = m.dial("db.example.com", 3306)
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, greeting); err != nil {
		t.Fatal(err)
	}
	tls.Client(c, &tls.Config{ServerName: "other.example.com"}).Handshake()
	if f := m.lastFlow(); f.Verdict != record.Denied || f.Reason != "name-mismatch" {
		t.Errorf("another SNI on the address of an allowed name: %+v", f)
	}
}

// An address that a rule allows is dialled; the client then names a host that is allowed
// too, and that may not lead to this address.
func TestAHostThatIsNamedAfterAServerFirstDialMustAllowItsAddress(t *testing.T) {
	n := newFakeNet(t)
	n.site("inside.example.org", "10.9.9.9", 3306, func(c net.Conn) {
		io.WriteString(c, "welcome")
		echo(c)
	})
	m := newMesh(t, n, rule(t, "db.example.com:3306"), rule(t, "10.9.9.9:3306"))
	c := m.dialAddress(netip.MustParseAddrPort("10.9.9.9:3306"))
	c.SetDeadline(time.Now().Add(patience))
	greeting := make([]byte, 7)
	if _, err := io.ReadFull(c, greeting); err != nil || string(greeting) != "welcome" {
		t.Fatalf("the greeting: %q, %v", greeting, err)
	}
	tls.Client(c, &tls.Config{ServerName: "db.example.com"}).Handshake()
	if f := m.lastFlow(); f.Verdict != record.Denied || f.Reason != refusal.PrivateAddress {
		t.Errorf("another host's name on the address: %+v", f)
	}
}

func TestADeniedClientThatWaitsForItsServerIsNotKeptWaiting(t *testing.T) {
	m := newMesh(t, newFakeNet(t), rule(t, "*.googleapis.com:443"), rule(t, "*.example.org:25"), rule(t, "192.0.2.0/24:25"))
	for _, x := range []struct {
		what string
		name string
		addr string
		port uint16
		want time.Duration
	}{
		{"a port without a rule", "db.example.com", "", 3306, carry.DeniedSilence},
		{"a port on which clients speak first", "db.example.com", "", 443, sniff.DefaultSilence},
		{"another", "db.example.com", "", 80, sniff.DefaultSilence},
		{"a name of the rule", "www.googleapis.com", "", 443, sniff.DefaultSilence},
		{"an address, whose client may name what the rule holds", "", "192.0.2.1", 443, sniff.DefaultSilence},
		{"a name that may lead into an address rule", "db.example.com", "", 25, sniff.DefaultSilence},
	} {
		var dialled names.Name
		var addr netip.Addr
		if x.name != "" {
			dialled = names.MustParse(x.name)
		} else {
			addr = netip.MustParseAddr(x.addr)
		}
		possible := m.holder.Load().Policy.AtConnect(policy.TCP, x.port, dialled, addr).Possible
		if got := carry.Silence(possible, x.port); got != x.want {
			t.Errorf("%s: %v, want %v", x.what, got, x.want)
		}
	}
	for _, port := range []uint16{3306, 22} {
		c := m.dial("db.example.com", port)
		if err := ended(c); err != nil {
			t.Errorf("port %d: %v; want a reset", port, err)
		}
		if f := m.lastFlow(); f.Verdict != record.Denied || f.Reason != "no-rule" {
			t.Errorf("the account says %+v", f)
		}
		c = m.dial("db.example.com", port) // one that speaks first is answered in its own protocol
		if resp := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: db.example.com\r\n\r\n"); resp.StatusCode != 403 || resp.Header.Get("x-sluice-reason") != "no-rule" {
			t.Errorf("port %d: status %d, reason %q", port, resp.StatusCode, resp.Header.Get("x-sluice-reason"))
		}
	}
}

// A Java program takes longer than that between its connect and its first ClientHello.
func TestADeniedClientThatIsSlowToSpeakIsAnsweredInItsProtocol(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	c := m.dial("db.example.com", 443).waits()
	time.Sleep(carry.DeniedSilence + 100*time.Millisecond) // longer than others are waited for
	err := tls.Client(c, &tls.Config{ServerName: "db.example.com"}).Handshake()
	if err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("the handshake ends with %v, want the alert that access is denied", err)
	}
	if f := m.lastFlow(); f.Sniffed != policy.ClientHello || f.Reason != refusal.NoRule {
		t.Errorf("the account says %+v", f)
	}
}

func TestAnAddressIsNeverOpenedByAName(t *testing.T) {
	n := newFakeNet(t)
	n.site("www.example.com", "93.184.215.15", 80, hello)
	m := newMesh(t, n, rule(t, "*:80"))
	c := m.dialAddress(netip.MustParseAddrPort("93.184.215.15:80"))
	if resp := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: 93.184.215.15\r\n\r\n"); resp.StatusCode != 403 || resp.Header.Get("x-sluice-reason") != "address-literal" {
		t.Errorf("status %d, reason %q", resp.StatusCode, resp.Header.Get("x-sluice-reason"))
	}
	c = m.dialAddress(netip.MustParseAddrPort("1.2.3.4:80")) // resolved elsewhere: the Host is the name, the address is ignored
	if resp := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"); resp.StatusCode != 200 {
		t.Errorf("an allowed Host on another address: status %d", resp.StatusCode)
	}
}

// A steady request allocates nothing in the gate, the way, the record and the engine.
func TestASteadyRequestAllocatesNothing(t *testing.T) {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	serve := func(c net.Conn) {
		buf := make([]byte, 4096)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
	n := newFakeNet(t)
	n.site("api.example.com", "93.184.215.16", 80, serve)
	n.site("books.example.com", "93.184.215.17", 80, serve)
	m := newMesh(t, n)
	m.service("details", serve)
	books := rule(t, "books.example.com:80")
	books.HTTP = []policy.HTTPMatch{{Methods: []string{"GET"}, Paths: []string{"/books/*"}}}
	m.allow(rule(t, "api.example.com:80"), books)
	ingress := m.ingress("/books/.*")
	for what, open := range map[string]func() net.Conn{
		"api.example.com":   func() net.Conn { return m.dial("api.example.com", 80) },
		"books.example.com": func() net.Conn { return m.dial("books.example.com", 80) },
		"details":           func() net.Conn { return m.dial("details.default.svc.cluster.local", 9080) },
		"ingress":           ingress,
	} {
		t.Run(what, func(t *testing.T) {
			c := open()
			request, buf := []byte("GET /books/x HTTP/1.1\r\nHost: "+what+"\r\nAccept: */*\r\n\r\n"), make([]byte, 4096)
			once := func() {
				if _, err := c.Write(request); err != nil {
					t.Fatal(err)
				}
				for got := 0; got < len(answer); {
					k, err := c.Read(buf)
					if err != nil {
						t.Fatal(err)
					}
					got += k
				}
			}
			for range 50 {
				once()
			}
			if allocations := testing.AllocsPerRun(200, once); allocations >= 1 && !raceDetector {
				t.Errorf("%v allocations a request", allocations)
			}
			c.Close()
		})
	}
	if f := m.lastFlow(); f.Verdict != record.Allowed {
		t.Errorf("they were not answered: %+v", f)
	}
}
