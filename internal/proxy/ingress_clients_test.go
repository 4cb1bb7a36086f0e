package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/record"
)

// proving has a client show a certificate in its handshake.
func proving(t *testing.T, certificate, key []byte) func(*tls.Config) {
	t.Helper()
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *tls.Config) {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
}

// askedPlainly returns the status of a request without TLS.
func askedPlainly(t *testing.T, at, request string) int {
	t.Helper()
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	response, _ := sends(t, c, request)
	return response.StatusCode
}

const required = "annotations: {ingress.sluice.dev/client-certificates: required}"

// A rule that asks for client certificates leads nobody in by the listener of plain HTTP.
func TestARuleThatAsksForClientCertificatesLeadsNothingInWithoutTLS(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	s := &secrets{t: t, folder: t.TempDir()}
	server, key := pairOf(t, "a.example.com")
	client, clientKey := pairOf(t, "client")
	s.put("a", map[string][]byte{"tls.crt": server, "tls.key": key, "ca.crt": client})
	m.rules(strings.Replace(twoShops, "{name: a}", "{name: a, "+required+"}", 1))
	plain, at, _ := m.tlsIngress(s)
	const get = "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n"
	if got := askedPlainly(t, plain, get); got != 403 {
		t.Errorf("without TLS: %d, want 403", got)
	}
	m.flowOf("a request without TLS", func(r *record.Record) bool {
		return r.Reason == "client-certificate" && r.Verdict == record.Denied && r.Rule == "ingress/default/a"
	})
	if got := askedPlainly(t, plain, strings.Replace(get, "a.example.com", "other.example.com", 1)); got != 200 {
		t.Errorf("a host whose rule asks for none: %d, want 200", got)
	}
	c, err := handshake(at, "a.example.com", server, proving(t, client, clientKey))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := exchange(t, c, bufio.NewReader(c), get).StatusCode; got != 200 {
		t.Errorf("proved: %d, want 200", got)
	}
}

// twoOfAHost are two Ingresses of one host; %s are the annotations and the secret of the second.
const twoOfAHost = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: a}
spec:
  tls: [{hosts: [a.example.com], secretName: a}]
  rules:
  - {host: a.example.com, http: {paths: [{path: /public, pathType: Prefix, backend: {service: {name: details, port: {number: 9080}}}}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: b, %s}
spec:
  tls: [{hosts: [a.example.com], secretName: %s}]
  rules:
  - {host: a.example.com, http: {paths: [{path: /admin, pathType: Prefix, backend: {service: {name: details, port: {number: 9080}}}}]}}
`

// Another object of the same host that asks for none, or has another certificate shown, takes
// nothing away from what a rule asks for.
func TestWhatARuleAsksOfClientsHoldsWhateverCertificateItsHostIsShown(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	s := &secrets{t: t, folder: t.TempDir()}
	server, key := pairOf(t, "a.example.com")
	client, clientKey := pairOf(t, "client")
	for _, name := range []string{"a", "b"} {
		s.put(name, map[string][]byte{"tls.crt": server, "tls.key": key, "ca.crt": client})
	}
	m.faulty = true // of b's certificate
	m.rules(fmt.Sprintf(twoOfAHost, required, "b"))
	_, at, _ := m.tlsIngress(s)
	c, err := handshake(at, "a.example.com", server, proving(t, client, clientKey))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for path, want := range map[string]int{"/public": 200, "/admin": 403} {
		if got := exchange(t, c, r, "GET "+path+" HTTP/1.1\r\nHost: a.example.com\r\n\r\n").StatusCode; got != want {
			t.Errorf("%s by a's certificate: %d, want %d", path, got, want)
		}
	}
}

// Of two objects with one secret the one that asks for client certificates has all clients of
// the host asked for theirs.
func TestOfTwoObjectsOfAHostTheOneThatAsksForClientCertificatesWins(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	s := &secrets{t: t, folder: t.TempDir()}
	server, key := pairOf(t, "a.example.com")
	client, clientKey := pairOf(t, "client")
	s.put("a", map[string][]byte{"tls.crt": server, "tls.key": key, "ca.crt": client})
	m.faulty = true // that clients of a are asked, too, is reported
	m.rules(fmt.Sprintf(twoOfAHost, required, "a"))
	_, at, _ := m.tlsIngress(s)
	c, err := handshake(at, "a.example.com", server, proving(t, client, clientKey))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for _, path := range []string{"/public", "/admin"} {
		if got := exchange(t, c, r, "GET "+path+" HTTP/1.1\r\nHost: a.example.com\r\n\r\n").StatusCode; got != 200 {
			t.Errorf("%s, proved: %d, want 200", path, got)
		}
	}
	bare, err := handshake(at, "a.example.com", server, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }) // by 1.3 a client learns of it later
	if err == nil {
		bare.Close()
		t.Error("a client without a certificate is let in")
	}
}

// A client whose certificate another ca.crt proved than the one of now shows it anew.
func TestAReplacedAuthorityOfClientsHoldsForConnectionsThatAreThere(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	s := &secrets{t: t, folder: t.TempDir()}
	server, key := pairOf(t, "a.example.com")
	client, clientKey := pairOf(t, "client")
	s.put("a", map[string][]byte{"tls.crt": server, "tls.key": key, "ca.crt": client})
	m.rules(strings.Replace(twoShops, "{name: a}", "{name: a, "+required+"}", 1))
	_, at, later := m.tlsIngress(s)
	c, err := handshake(at, "a.example.com", server, proving(t, client, clientKey))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	ask := func(when string, want int) {
		t.Helper()
		if got := exchange(t, c, r, "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n").StatusCode; got != want {
			t.Errorf("%s: %d, want %d", when, got, want)
		}
	}
	ask("before", 200)
	renewed, renewedKey := pairOf(t, "a.example.com")
	s.put("a", map[string][]byte{"tls.crt": renewed, "tls.key": renewedKey, "ca.crt": client})
	later()
	ask("the server's certificate is renewed", 200)
	other, _ := pairOf(t, "client")
	s.put("a", map[string][]byte{"tls.crt": renewed, "tls.key": renewedKey, "ca.crt": other})
	later()
	ask("another authority", 421)
}

// A request that names no host that it could be sent to by https is not led in without TLS.
func TestARequestWithoutAHostIsNotLedAroundTheRedirectToTLS(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	m.rules(`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: rest, annotations: {ingress.sluice.dev/https-redirect: "true"}}
spec:
  defaultBackend: {service: {name: details, port: {number: 9080}}}
`)
	plain, _, _ := m.tlsIngress(&secrets{t: t, folder: t.TempDir()})
	for request, want := range map[string]int{"GET / HTTP/1.0\r\n\r\n": 403, "GET / HTTP/1.1\r\nHost: x.y\r\n\r\n": 301} {
		if got := askedPlainly(t, plain, request); got != want {
			t.Errorf("%q: %d, want %d", request, got, want)
		}
	}
}
