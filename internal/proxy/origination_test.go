package proxy

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/egress"
)

// identities is a folder of client certificates of the fake internet's CA.
func (n *fakeNet) identities(namesOf ...string) string {
	n.t.Helper()
	folder := n.t.TempDir()
	for _, name := range namesOf {
		n.identity(folder, name, name)
	}
	return folder
}

// identity puts a certificate of a name, and its key, into files of another.
func (n *fakeNet) identity(folder, file, name string) {
	n.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		n.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, n.ca, key.Public(), n.key)
	if err != nil {
		n.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		n.t.Fatal(err)
	}
	for ending, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		path := filepath.Join(folder, "default", file+ending)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			n.t.Fatal(err)
		}
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
}

// toldWho is a server that answers with whom it takes its client for, and whether it
// knew the session.
func (n *fakeNet) toldWho(name string, config *tls.Config) func(net.Conn) {
	config.ClientCAs = x509.NewCertPool()
	config.ClientCAs.AddCert(n.ca)
	serve := n.overTLSConfig(config, name)
	return func(c net.Conn) {
		s := serve(c)
		requests := bufio.NewReader(s)
		for {
			if _, err := http.ReadRequest(requests); err != nil {
				return
			}
			state, who := s.ConnectionState(), "nobody"
			if len(state.PeerCertificates) > 0 {
				who = state.PeerCertificates[0].Subject.CommonName
			}
			answer := fmt.Sprintf("%s, resumed %v", who, state.DidResume)
			// The connection ends, so that the next request needs another.
			fmt.Fprintf(s, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
		}
	}
}

// shows is a rule on a host that shows a client certificate.
func shows(t *testing.T, text, file string) policy.Rule {
	r := rule(t, text)
	r.TLS.Mode = policy.TLSOriginate
	if file != "" {
		r.TLS.ClientCertificate = policy.ClientCertificate{Namespace: "default", CertFile: file + ".pem", KeyFile: file + ".key"}
	}
	return r
}

// asks sends a request in the clear to a host's port 443 and returns status, reason and
// body of the answer.
func (m *meshOf) asks(host string) (status int, reason, body string) {
	m.t.Helper()
	c := m.dial(host, 443)
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return r.StatusCode, r.Header.Get("X-Sluice-Reason"), string(text)
}

// A server knows a workload by the certificate of the rule that let it pass, and never
// by a session that another certificate began.
func TestAServerIsShownTheCertificateOfTheRule(t *testing.T) {
	for version, number := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(version, func(t *testing.T) {
			n := newFakeNet(t)
			folder, now := n.identities("alice", "bob"), time.Now()
			certificates, err := egress.OpenCertificates(folder, func() time.Time { return now })
			if err != nil {
				t.Fatal(err)
			}
			n.changes = append(n.changes, func(c *Config) { c.Certificates = certificates })
			n.site("partner.example.com", "93.184.216.34", 443, n.toldWho("partner.example.com", &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, MaxVersion: number}))
			m := newMesh(t, n, shows(t, "partner.example.com", "alice"))
			say := func(want string) {
				t.Helper()
				if status, reason, body := m.asks("partner.example.com"); status != 200 || body != want {
					t.Fatalf("%d %s %q, want %q", status, reason, body, want)
				}
			}
			say("alice, resumed false")
			say("alice, resumed true")
			m.allow(shows(t, "partner.example.com", "bob")) // the same rule by name
			say("bob, resumed false")
			say("bob, resumed true")
			n.identity(folder, "bob", "carol") // the files hold another
			now = now.Add(time.Minute)
			say("carol, resumed false")
			say("carol, resumed true")
		})
	}
}

// A certificate that is renewed between two looks at its files is not shown on the
// connections of the one before.
func TestAPoolShowsTheCertificateThatItIsFor(t *testing.T) {
	n := newFakeNet(t)
	folder, now, looks := n.identities("bob"), time.Now(), 0
	certificates, err := egress.OpenCertificates(folder, func() time.Time {
		looks++
		n.identity(folder, "bob", strings.Repeat("bob", looks))
		now = now.Add(time.Minute)
		return now
	})
	if err != nil {
		t.Fatal(err)
	}
	n.changes = append(n.changes, func(c *Config) { c.Certificates = certificates })
	n.site("partner.example.com", "93.184.216.34", 443, n.toldWho("partner.example.com", &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert}))
	m := newMesh(t, n, shows(t, "partner.example.com", "bob"))
	for _, want := range []string{"bob, resumed false", "bobbob, resumed false"} {
		if status, reason, body := m.asks("partner.example.com"); status != 200 || body != want {
			t.Errorf("%d %s %q, want %q", status, reason, body, want)
		}
	}
	m.proxy.Close()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); to == folder {
			t.Error("the folder is open after the proxy's end")
		}
	}
}

func TestACertificateThatCannotBeShownIsToldOf(t *testing.T) {
	n := newFakeNet(t)
	n.site("partner.example.com", "93.184.216.34", 443, n.toldWho("partner.example.com", &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven}))
	folder := n.identities("alice")
	m := newMesh(t, n, shows(t, "partner.example.com", "alice"))
	if status, reason, body := m.asks("partner.example.com"); status != 502 || reason != "upstream-tls" || !strings.Contains(body, "--client-certificates") {
		t.Errorf("without a folder: %d %s %q", status, reason, body)
	}
	certificates, err := egress.OpenCertificates(folder, nil)
	if err != nil {
		t.Fatal(err)
	}
	n.changes = append(n.changes, func(c *Config) { c.Certificates = certificates })
	m = newMesh(t, n, shows(t, "partner.example.com", "bob"))
	if status, reason, body := m.asks("partner.example.com"); status != 502 || reason != "upstream-tls" || !strings.Contains(body, "bob.pem") {
		t.Errorf("without the file: %d %s %q", status, reason, body)
	}
	m.allow(shows(t, "partner.example.com", ""))
	if status, _, body := m.asks("partner.example.com"); status != 200 || body != "nobody, resumed false" {
		t.Errorf("a rule that shows none: %d %q", status, body)
	}
}

func TestMinVersionHoldsForTLSThatWeOriginate(t *testing.T) {
	n := newFakeNet(t)
	for version, number := range map[string]uint16{"1-1": tls.VersionTLS11, "1-2": tls.VersionTLS12, "1-3": tls.VersionTLS13} {
		name := "v" + version + ".example.com"
		n.site(name, fmt.Sprintf("93.184.216.%d", number&0xff), 443, n.toldWho(name, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: number}))
	}
	at := func(least policy.TLSVersion) policy.Rule {
		r := rule(t, "*.example.com")
		r.TLS.Mode, r.TLS.MinVersion = policy.TLSOriginate, least
		return r
	}
	m := newMesh(t, n)
	for _, x := range []struct {
		least policy.TLSVersion
		host  string
		want  int
	}{
		{"", "v1-1.example.com", 502}, {"", "v1-2.example.com", 200}, {"", "v1-3.example.com", 200},
		{policy.TLS12, "v1-1.example.com", 502}, {policy.TLS12, "v1-2.example.com", 200},
		{policy.TLS13, "v1-1.example.com", 502}, {policy.TLS13, "v1-2.example.com", 502}, {policy.TLS13, "v1-3.example.com", 200},
	} {
		m.allow(at(x.least))
		status, reason, body := m.asks(x.host)
		if status != x.want || x.want == 502 && (reason != "upstream-tls" || !strings.Contains(body, "protocol version")) {
			t.Errorf("at least %q, %s: %d %s %q", x.least, x.host, status, reason, body)
		}
	}
}
