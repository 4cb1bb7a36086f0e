package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/ingress"
	"sluice.dev/sluice/internal/record"
)

// pairOf makes a certificate that holds these names and proves itself, and its key, in PEM.
func pairOf(t *testing.T, hosts ...string) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{
		SerialNumber: serial, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if addr := net.ParseIP(host); addr != nil {
			of.IPAddresses = append(of.IPAddresses, addr)
		} else {
			of.DNSNames = append(of.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// secrets is the folder of --ingress-certs, as kubelet mounts Secrets: each file is a link
// into a folder that a link is swapped to.
type secrets struct {
	t      *testing.T
	folder string
	made   int
}

// put changes all files of a secret at once.
func (s *secrets) put(name string, files map[string][]byte) {
	s.t.Helper()
	s.made++
	at, version := filepath.Join(s.folder, "default", name), fmt.Sprintf("..v%d", s.made)
	if err := os.MkdirAll(filepath.Join(at, version), 0o700); err != nil {
		s.t.Fatal(err)
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(at, version, file), text, 0o600); err != nil {
			s.t.Fatal(err)
		}
		os.Symlink("..data/"+file, filepath.Join(at, file)) // which may be there
	}
	if err := os.Symlink(version, filepath.Join(at, "..tmp")); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(at, "..tmp"), filepath.Join(at, "..data")); err != nil {
		s.t.Fatal(err)
	}
}

// hold makes a secret of a new certificate for hosts, and returns the certificate.
func (s *secrets) hold(name string, hosts ...string) []byte {
	s.t.Helper()
	certificate, key := pairOf(s.t, hosts...)
	s.put(name, map[string][]byte{"tls.crt": certificate, "tls.key": key})
	return certificate
}

// tlsIngress makes the mesh's workload serve an ingress of both kinds, with the secrets. later
// lets the time pass after which files are looked at again.
func (m *meshOf) tlsIngress(s *secrets) (plain, tlsAt string, later func()) {
	m.t.Helper()
	var clock atomic.Int64
	certificates, err := ingress.OpenCertificates(s.folder, func() time.Time { return time.Unix(1_000_000+clock.Load(), 0) }, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	config := Ingress{Certificates: certificates}
	for _, listener := range []**net.TCPListener{&config.Plain, &config.TLS} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			m.t.Fatal(err)
		}
		*listener = l.(*net.TCPListener)
	}
	w, served := m.workload, make(chan error, 1)
	go func() { served <- w.ServeIngress(config) }()
	m.t.Cleanup(func() {
		w.Close()
		if err := <-served; err != nil {
			m.t.Error(err)
		}
		certificates.Close()
	})
	return config.Plain.Addr().String(), config.TLS.Addr().String(), func() { clock.Add(60) }
}

// hello does a handshake and returns the connection.
func handshake(at, name string, roots []byte, change func(*tls.Config)) (*tls.Conn, error) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	config := &tls.Config{ServerName: name, RootCAs: pool}
	if change != nil {
		change(config)
	}
	dialer := tls.Dialer{Config: config}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := dialer.DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, err
	}
	return c.(*tls.Conn), nil
}

const twoShops = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: a}
spec:
  tls: [{hosts: [a.example.com], secretName: a}]
  rules:
  - {host: a.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: details, port: {number: 9080}}}}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: b}
spec:
  tls: [{hosts: ["*.b.example.com"], secretName: b}, {secretName: own}]
  rules:
  - {http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: details, port: {number: 9080}}}}]}}
`

// A client is shown the certificate of the name that it asks for, and where there is none it is
// told so: never another name's.
func TestEachNameIsShownItsOwnCertificateOrNone(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	s := &secrets{t: t, folder: t.TempDir()}
	a, b := s.hold("a", "a.example.com"), s.hold("b", "*.b.example.com")
	own := s.hold("own", "own.example.com", "127.0.0.1")
	m.rules(twoShops)
	_, at, _ := m.tlsIngress(s)
	for _, x := range []struct {
		name  string
		roots []byte
		want  string // of the error; "": it is shown
	}{
		{"a.example.com", a, ""}, {"x.b.example.com", b, ""}, {"own.example.com", own, ""},
		{"A.example.com", a, ""},
		{"c.example.com", a, "unrecognized name"}, {"y.x.b.example.com", b, "unrecognized name"}, {"b.example.com", b, "unrecognized name"},
	} {
		c, err := handshake(at, x.name, x.roots, nil)
		if err == nil {
			c.Close()
		}
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		}
	}
	m.flowOf("a name without a certificate", func(r *record.Record) bool {
		return r.SNI == "c.example.com" && r.Reason == "no-certificate" && r.Verdict == record.Denied
	})
	// By an address alone the certificate that holds the address is shown.
	c, err := handshake(at, "", own, func(c *tls.Config) { c.ServerName = "127.0.0.1" })
	if err != nil {
		t.Errorf("by its address: %v", err)
	} else {
		c.Close()
	}
	// The oldest versions are not spoken.
	if _, err := handshake(at, "a.example.com", a, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11; c.MinVersion = tls.VersionTLS10 }); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	m.flowOf("TLS 1.1", func(r *record.Record) bool { return r.Reason == "client-tls" })
}

func TestACertificateThatDoesNotHoldTheNameIsNotShown(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	s := &secrets{t: t, folder: t.TempDir()}
	roots := s.hold("a", "else.example.com")
	m.rules(twoShops)
	_, at, _ := m.tlsIngress(s)
	for _, name := range []string{"a.example.com", "else.example.com", "x.b.example.com"} { // of the last there is no file
		if _, err := handshake(at, name, roots, func(c *tls.Config) { c.InsecureSkipVerify = true }); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Requests come by HTTP/1.1 and HTTP/2, as the client chooses by ALPN, and the service learns
// that they came by TLS and from where, in our words alone.
func TestRequestsComeInByTLSInBothVersions(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	s := &secrets{t: t, folder: t.TempDir()}
	roots := s.hold("a", "a.example.com")
	m.rules(twoShops)
	_, at, _ := m.tlsIngress(s)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	for _, two := range []bool{false, true} {
		transport := &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: two,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "tcp", at)
			},
		}
		client := &http.Client{Transport: transport, Timeout: patience}
		for i := range 3 {
			request, err := http.NewRequest("POST", "https://a.example.com/x", bytes.NewReader(make([]byte, i*100_000)))
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				request.Method, request.Body, request.ContentLength = "GET", nil, 0
			}
			request.Header.Set("X-Forwarded-Client-Cert", "By=mine")
			for _, name := range []string{"X-Forwarded-Port", "X-Forwarded-Ssl", "X-Forwarded-Prefix", "X-Forwarded-Server", "X-Original-Url", "X-Rewrite-Url"} {
				request.Header.Set(name, "mine")
			}
			request.Header.Set("X-Forwarded-Proto", "ftp")
			request.Header.Set("X-Forwarded-For", "192.0.2.1")
			response, err := client.Do(request)
			if err != nil {
				t.Fatalf("HTTP/2 %v, request %d: %v", two, i, err)
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if head := strings.ToLower(string(body)); err != nil && i == 0 || response.StatusCode != 200 || (response.ProtoMajor == 2) != two ||
				i == 0 && (!strings.Contains(head, "x-forwarded-proto: https\n") || !strings.Contains(head, "x-forwarded-for: 127.0.0.1\n") ||
					strings.Contains(head, "mine") || strings.Contains(head, "ftp") || strings.Contains(head, "192.0.2.1") || !strings.Contains(head, "host: a.example.com\n")) {
				t.Errorf("HTTP/2 %v, request %d: %s %d %v %q", two, i, response.Status, response.ProtoMajor, err, body)
			}
			if i > 0 {
				break // tellHead reads no bodies: what follows one would be read as a head
			}
		}
		transport.CloseIdleConnections()
	}
	m.flowOf("a request by TLS", func(r *record.Record) bool {
		return r.SNI == "a.example.com" && r.Host == "a.example.com" && r.Rule == "ingress/default/a" && r.Verdict == record.Allowed
	})
}

// What is asked for on a connection is of the name that its certificate was shown for: else a
// request would get around the client certificate of another host, or reach it unproved.
func TestARequestForAnotherHostThanItsHandshakeIsMisdirected(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	s := &secrets{t: t, folder: t.TempDir()}
	a, own := s.hold("a", "a.example.com"), s.hold("own", "own.example.com", "www.own.example.com")
	s.hold("b", "*.b.example.com")
	m.rules(twoShops)
	_, at, _ := m.tlsIngress(s)
	ask := func(name string, roots []byte, host string) int {
		t.Helper()
		c, err := handshake(at, name, roots, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n").StatusCode
	}
	for _, x := range []struct {
		name  string
		roots []byte
		host  string
		want  int
	}{
		{"a.example.com", a, "a.example.com", 200}, {"a.example.com", a, "A.example.com.:443", 200},
		{"a.example.com", a, "x.b.example.com", 421}, {"a.example.com", a, "own.example.com", 421}, {"a.example.com", a, "127.0.0.1", 421},
		{"own.example.com", own, "www.own.example.com", 200}, {"own.example.com", own, "a.example.com", 421}, {"own.example.com", own, "none.example.com", 421},
	} {
		if got := ask(x.name, x.roots, x.host); got != x.want {
			t.Errorf("%s by %s: %d, want %d", x.host, x.name, got, x.want)
		}
	}
	m.flowOf("a misdirected request", func(r *record.Record) bool {
		return r.Reason == "misdirected-request" && r.Status == 421 && r.Verdict == record.Denied
	})
}

// A client certificate is asked for where the rule says so, and proved by the secret's ca.crt.
func TestAClientShowsItsCertificateWhereTheRuleAsksForIt(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	s := &secrets{t: t, folder: t.TempDir()}
	server, key := pairOf(t, "a.example.com")
	clientCert, clientKey := pairOf(t, "client")
	strangerCert, strangerKey := pairOf(t, "client")
	s.put("a", map[string][]byte{"tls.crt": server, "tls.key": key, "ca.crt": clientCert})
	s.hold("b", "x.b.example.com")
	m.rules(strings.Replace(twoShops, "{name: a}", "{name: a, annotations: {ingress.sluice.dev/client-certificates: required}}", 1))
	_, at, _ := m.tlsIngress(s)
	for name, x := range map[string]struct {
		certificate, key []byte
		ok               bool
	}{"its own": {clientCert, clientKey, true}, "a stranger's": {strangerCert, strangerKey, false}, "none": {}} {
		c, err := handshake(at, "a.example.com", server, func(c *tls.Config) {
			if x.certificate != nil {
				pair, err := tls.X509KeyPair(x.certificate, x.key)
				if err != nil {
					t.Error(err)
				}
				c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
			}
		})
		status := 0
		if err == nil {
			c.SetDeadline(time.Now().Add(patience))
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n")
			if response, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
				status = response.StatusCode
			}
			c.Close()
		}
		if (status == 200) != x.ok {
			t.Errorf("%s: %d", name, status)
		}
	}
	m.flowOf("a client without a certificate", func(r *record.Record) bool {
		return r.Reason == "client-tls" && strings.Contains(r.Detail, "certificate") && !strings.Contains(r.Detail, "PRIVATE")
	})
}

// Files that are changed are read anew; while the two do not fit, what was there before is
// shown; a secret that is gone is not.
func TestACertificateIsReadAnewWhenItsFilesChange(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	s := &secrets{t: t, folder: t.TempDir()}
	before := s.hold("a", "a.example.com")
	m.rules(twoShops)
	_, at, later := m.tlsIngress(s)
	shows := func(roots []byte) error {
		c, err := handshake(at, "a.example.com", roots, nil)
		if err == nil {
			c.Close()
		}
		return err
	}
	if err := shows(before); err != nil {
		t.Fatal(err)
	}
	after := s.hold("a", "a.example.com")
	later()
	if err := shows(after); err != nil {
		t.Errorf("after the swap: %v", err)
	}
	half, _ := pairOf(t, "a.example.com")
	_, key := pairOf(t, "a.example.com")
	s.put("a", map[string][]byte{"tls.crt": half, "tls.key": key})
	later()
	if err := shows(after); err != nil {
		t.Errorf("while certificate and key do not fit: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(s.folder, "default", "a")); err != nil {
		t.Fatal(err)
	}
	later()
	if err := shows(after); err == nil {
		t.Error("a certificate whose files are gone is shown")
	}
}

func TestAnIngressSendsItsClientsToTLS(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	s := &secrets{t: t, folder: t.TempDir()}
	s.hold("a", "a.example.com")
	m.rules(strings.Replace(twoShops, "{name: a}", "{name: a, annotations: {ingress.sluice.dev/https-redirect: \"true\"}}", 1))
	plain, secure, _ := m.tlsIngress(s)
	_, port, _ := net.SplitHostPort(secure)
	for request, want := range map[string]string{
		"GET /x?y=1 HTTP/1.1\r\nHost: A.example.com:8080\r\n\r\n":                   "301 https://a.example.com:" + port + "/x?y=1",
		"POST /x HTTP/1.1\r\nHost: a.example.com\r\ncontent-length: 0\r\n\r\n":      "308 https://a.example.com:" + port + "/x",
		"GET / HTTP/1.1\r\nHost: other.example.com\r\n\r\n":                         "200 ",
		"GET http://a.example.com/\t HTTP/1.1\r\nHost: a.example.com\r\n\r\n":       "400 ",
		"GET /%0d%0aset-cookie:%20x HTTP/1.1\r\nHost: a.example.com\r\n\r\n":        "301 https://a.example.com:" + port + "/%0d%0aset-cookie:%20x",
		"GET / HTTP/1.1\r\nHost: a.example.com\r\nX-Forwarded-Proto: https\r\n\r\n": "301 https://a.example.com:" + port + "/",
	} {
		c, err := net.Dial("tcp", plain)
		if err != nil {
			t.Fatal(err)
		}
		response, _ := sends(t, c, request)
		if got := fmt.Sprint(response.StatusCode, " ", response.Header.Get("location")); got != want {
			t.Errorf("%q: %s, want %s", request, got, want)
		}
	}
}
