package proxy

import (
	"bufio"
	"crypto/tls"
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
