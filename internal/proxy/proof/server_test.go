package proof

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/sniff"
)

// authority is a certificate authority of a test.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pool *x509.CertPool
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{key: newKey(t), pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// issue makes a server certificate; change may be nil.
func (a *authority) issue(t testing.TB, name string, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// server is a TLS server on loopback. It counts who connects.
type server struct {
	addr        netip.AddrPort
	connections atomic.Int32
}

func serve(t testing.TB, config *tls.Config) *server {
	return serveRaw(t, func(c net.Conn) {
		conn := tls.Server(c, config)
		if conn.Handshake() == nil {
			io.Copy(io.Discard, conn)
		}
	})
}

func serveRaw(t testing.TB, handle func(net.Conn)) *server {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().(*net.TCPAddr).AddrPort()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.connections.Add(1)
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				handle(c)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return s
}

// dial is a Request's Dial for the server.
func (s *server) dial(ctx context.Context) (*net.TCPConn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

const host = "www.example.com"

// request asks for a proof of host at s.
func (s *server) request(roots *authority) Request {
	return Request{
		Key:   Key{Name: names.MustParse(host), Addr: s.addr, RootsID: "test"},
		Roots: roots.pool,
		Dial:  s.dial,
		Hello: sniff.Result{MaxVersion: tls.VersionTLS13, ALPN: []string{"h2", "http/1.1"}, Groups: []uint16{0x1a1a, 4588, 29}},
	}
}

func newProver(t testing.TB, config Config) *Prover {
	p := NewProver(config)
	t.Cleanup(p.Close)
	return p
}
