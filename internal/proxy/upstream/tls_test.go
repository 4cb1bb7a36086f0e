package upstream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/internal/refusal"
)

// certificate makes one of a name that is its own authority.
func certificate(t testing.TB, name string) (tls.Certificate, *x509.CertPool) {
	return certificateOf(t, func(c *x509.Certificate) { c.DNSNames = []string{name} })
}

func certificateOf(t testing.TB, change func(*x509.Certificate)) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

func TestAServerIsVerifiedBeforeAnythingIsSent(t *testing.T) {
	good, roots := certificate(t, "a.example")
	_, strangers := certificate(t, "a.example")
	var got atomic.Int64
	serve := func(config *tls.Config) string {
		return server(t, func(c net.Conn) {
			n, _ := io.Copy(c, tls.Server(c, config))
			got.Add(n)
		})
	}
	address := serve(&tls.Config{Certificates: []tls.Certificate{good}})
	other := serve(&tls.Config{Certificates: []tls.Certificate{good}, NextProtos: []string{"imap"}})
	silent := server(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	plain := server(t, func(c net.Conn) { c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) })
	for _, tc := range []struct {
		name, address, server string
		roots                 *x509.CertPool
		says                  string
	}{
		{"the right one", address, "a.example", roots, ""},
		{"another name", address, "b.example", roots, "valid for a.example"},
		{"an unknown authority", address, "a.example", strangers, "unknown authority"},
		{"a server without HTTP/1.1", other, "a.example", roots, "no application protocol"},
		{"a server without TLS", plain, "a.example", roots, "TLS handshake"},
		{"a server that says nothing", silent, "a.example", roots, "it did not answer in time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wait := patience
			if tc.address == silent {
				wait = time.Second / 10
			}
			p := newPool(t, Config{Dial: dialTo(tc.address), TLS: &tls.Config{ServerName: tc.server, RootCAs: tc.roots}, HandshakeTimeout: wait})
			c, err := p.Dial(context.Background())
			if tc.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				c.Release(false)
				return
			}
			var failure *refusal.Error
			if !errors.As(err, &failure) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want %q", err, tc.says)
			}
			if s := p.Stats(); s != (Stats{}) {
				t.Errorf("connections are left: %+v", s)
			}
		})
	}
	if got.Load() != 0 {
		t.Error("a server that was not verified was sent something")
	}
}

// The name of the pool is what counts, as RFC 9525 says, and is what is asked for.
func TestWhichCertificatesAreOfAName(t *testing.T) {
	names := func(texts ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.DNSNames = texts }
	}
	for _, tc := range []struct {
		name, server string
		certificate  func(*x509.Certificate)
		max          uint16
		says         string // "" where it is accepted
	}{
		{"a wildcard", "api.a.example", names("*.a.example"), 0, ""},
		{"a wildcard, in another case", "api.a.example", names("*.A.Example"), 0, ""},
		{"a wildcard's apex", "a.example", names("*.a.example"), 0, "valid for"},
		{"two labels under a wildcard", "x.api.a.example", names("*.a.example"), 0, "valid for"},
		{"a wildcard within a label", "api.a.example", names("a*.a.example"), 0, "valid for"},
		{"the second of two names", "b.example", names("a.example", "b.example"), 0, ""},
		{"an address", "192.0.2.1", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} }, 0, ""},
		{"an IPv6 address", "2001:db8::1", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("2001:db8::1")} }, 0, ""},
		{"another address", "192.0.2.2", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} }, 0, "valid for"},
		{"an address as a name", "192.0.2.1", names("192.0.2.1"), 0, "doesn't contain any IP SANs"},
		{"a common name alone", "a.example", func(c *x509.Certificate) { c.Subject.CommonName = "a.example" }, 0, "SANs"},
		{"an expired one", "a.example", func(c *x509.Certificate) {
			c.DNSNames, c.NotAfter = []string{"a.example"}, time.Now().Add(-time.Minute)
		}, 0, "expired"},
		{"one for clients", "a.example", func(c *x509.Certificate) {
			c.DNSNames, c.ExtKeyUsage = []string{"a.example"}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}, 0, "key usage"},
		{"TLS 1.2", "a.example", names("a.example"), tls.VersionTLS12, ""},
		{"TLS 1.1", "a.example", names("a.example"), tls.VersionTLS11, "protocol version"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cert, roots := certificateOf(t, tc.certificate)
			asked := make(chan string, 1)
			address := server(t, func(c net.Conn) {
				config := &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tc.max, Certificates: []tls.Certificate{cert}}
				config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
					asked <- hello.ServerName
					return nil, nil
				}
				io.Copy(c, tls.Server(c, config))
			})
			p := newPool(t, Config{Dial: dialTo(address), TLS: &tls.Config{ServerName: tc.server, RootCAs: roots, MinVersion: tls.VersionTLS10}})
			c, err := p.Dial(context.Background())
			if err == nil {
				c.Release(false)
			}
			if tc.says == "" && err != nil || tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
				t.Errorf("%v, want %q", err, tc.says)
			}
			want := tc.server
			if net.ParseIP(want) != nil {
				want = "" // RFC 6066, section 3: no address is a server name
			}
			if got := <-asked; got != want {
				t.Errorf("the server was asked for %q, want %q", got, want)
			}
		})
	}
}

// A session that one pool began is not resumed by another: its roots may be others.
func TestPoolsDoNotShareSessions(t *testing.T) {
	cert, roots := certificate(t, "a.example")
	address := server(t, func(c net.Conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: false})
		io.Copy(s, s)
	})
	shared := tls.NewLRUClientSessionCache(8)
	_, strangers := certificate(t, "a.example")
	exchange := func(roots *x509.CertPool) error {
		p := newPool(t, Config{Dial: dialTo(address), TLS: &tls.Config{ServerName: "a.example", RootCAs: roots, ClientSessionCache: shared}})
		c, err := p.Dial(context.Background())
		if err != nil {
			return err
		}
		defer c.Release(false)
		_, err = c.Exchange([]byte("x"), make([]byte, 1))
		return err
	}
	if err := exchange(roots); err != nil {
		t.Fatal(err)
	}
	if err := exchange(strangers); err == nil {
		t.Error("a pool with other roots took the session over")
	}
}

// tlsEcho is an echo server and a pool that leads to it.
func tlsEcho(t testing.TB, max uint16) *Pool {
	cert, roots := certificate(t, "a.example")
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: max}
	address := server(t, func(c net.Conn) {
		s := tls.Server(c, config)
		b := make([]byte, 32<<10)
		for {
			n, err := s.Read(b)
			if err != nil {
				s.CloseWrite()
				return
			}
			if _, err := s.Write(b[:n]); err != nil {
				return
			}
		}
	})
	return newPool(t, Config{Dial: dialTo(address), TLS: &tls.Config{ServerName: "a.example", RootCAs: roots}})
}

func TestExchangesOverTLS(t *testing.T) {
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			p := tlsEcho(t, version)
			c := mustDial(t, p)
			b := make([]byte, 64<<10)
			for _, size := range []int{1, 100, 16 << 10, 40 << 10} {
				for range 3 {
					text := strings.Repeat("a", size)
					n, err := c.Exchange([]byte(text), b)
					for err == nil && n < size {
						var m int
						m, err = c.Exchange(nil, b[n:])
						n += m
					}
					if err != nil || string(b[:n]) != text {
						t.Fatalf("%d of %d bytes, %v", n, size, err)
					}
				}
			}
			// Two goroutines at once, and back to one.
			piece := make([]byte, 16<<10)
			if err := c.Send(piece); err != nil {
				t.Fatal(err)
			}
			var writing sync.WaitGroup
			writing.Go(func() {
				for range 99 {
					c.Write(piece)
				}
			})
			for total := 0; total < 100*16<<10; {
				n, err := c.Exchange(nil, b)
				if err != nil {
					t.Fatal(err)
				}
				total += n
			}
			writing.Wait()
			c.Release(true)
			if p.Take() != c {
				t.Fatal("the connection was not kept")
			}
			if n, err := c.Exchange([]byte("x"), b); err != nil || string(b[:n]) != "x" {
				t.Errorf("%q, %v", b[:n], err)
			}
			c.CloseWrite()
			if _, err := c.Exchange(nil, b); !errors.Is(err, io.EOF) {
				t.Errorf("%v", err)
			}
			c.Release(false)
			// A second connection resumes the session and is verified all the same.
			c = mustDial(t, p)
			if !c.tls.ConnectionState().DidResume {
				t.Error("the session was not resumed")
			}
			c.Release(false)
		})
	}
}
