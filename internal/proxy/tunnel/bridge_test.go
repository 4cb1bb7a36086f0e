package tunnel

import (
	"bytes"
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
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/internal/refusal"
)

// secureProxy is a proxy that is spoken to by TLS and serves what is inside of it.
func secureProxy(t *testing.T, change func(*Config), serve func(*tls.Conn)) *Proxy {
	t.Helper()
	certificate, roots := certificate(t)
	return proxyThat(t, func(c *Config) {
		c.Secure, c.Roots = true, roots
		if change != nil {
			change(c)
		}
	}, func(conn net.Conn) {
		inside := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}})
		if inside.Handshake() == nil {
			serve(inside)
		}
	})
}

// certificate is one of 127.0.0.1 that is its own authority.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
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

func TestATunnelThroughTLSCarriesBothWaysToTheirEnds(t *testing.T) {
	p := secureProxy(t, nil, func(conn *tls.Conn) {
		asked(conn)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\nhello ")
		io.Copy(conn, conn)
		conn.CloseWrite()
	})
	conn, err := p.Open(t.Context(), "a.example.com", 443)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		conn.Write(sent)
		conn.CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || len(got) != len(sent)+len("hello ") || !bytes.Equal(got[len("hello "):], sent) {
		t.Errorf("%d bytes came back, %v; want %d", len(got), err, len(sent)+len("hello "))
	}
	conn.Close()
	ended(t, p)
}

// ended waits until nothing is held of the tunnels of a proxy.
func ended(t *testing.T, p *Proxy) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); len(p.secure) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d tunnels are held", len(p.secure))
		}
	}
}

// A stream that is cut by a reset, or by bytes that are not TLS, does not look like one that
// ended.
func TestACutStreamIsAReset(t *testing.T) {
	for what, cut := range map[string]func(*tls.Conn){
		"bytes that are not TLS": func(c *tls.Conn) { c.NetConn().Write([]byte("HTTP/1.1 200 OK\r\n\r\n")) },
		"a reset":                func(c *tls.Conn) { c.NetConn().(*net.TCPConn).SetLinger(0); c.NetConn().Close() },
	} {
		p := secureProxy(t, nil, func(conn *tls.Conn) {
			asked(conn)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			one := make([]byte, 1)
			conn.Read(one)
			cut(conn)
		})
		conn, err := p.Open(t.Context(), "a.example.com", 443)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte("x"))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: reading says %v, want a reset", what, err)
		}
		conn.Close()
		ended(t, p)
	}
}

// Who closes the near end for good ends the tunnel, though the other side goes on.
func TestATunnelEndsWithItsNearEnd(t *testing.T) {
	p := secureProxy(t, nil, func(conn *tls.Conn) {
		asked(conn)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		for {
			if _, err := conn.Write(make([]byte, 1<<10)); err != nil {
				return
			}
		}
	})
	conn, err := p.Open(t.Context(), "a.example.com", 443)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	ended(t, p)
}

func TestOnlyAProxyThatIsVerifiedSeesTheCredentials(t *testing.T) {
	_, others := certificate(t)
	saw := make(chan bool, 1)
	p := secureProxy(t, func(c *Config) { c.Roots, c.Authorization = others, "Basic dTpw" }, func(conn *tls.Conn) {
		saw <- asked(conn) != nil
	})
	conn, err := p.Open(t.Context(), "a.example.com", 443)
	if conn != nil || reasonOf(err) != refusal.ViaProxyUnreachable || !strings.Contains(err.Error(), "TLS handshake") || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v, reason %q", err, reasonOf(err))
	}
	select {
	case got := <-saw: // TLS 1.3: the server's side may be done before the client objects
		if got {
			t.Error("a proxy that is not trusted got a request")
		}
	default:
	}
	ended(t, p)
}

func TestTunnelsThroughTLSAreBounded(t *testing.T) {
	p := secureProxy(t, nil, func(conn *tls.Conn) {
		asked(conn)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	})
	for range MaxSecure {
		p.secure <- struct{}{}
	}
	if conn, err := p.Open(t.Context(), "a.example.com", 443); conn != nil || reasonOf(err) != refusal.ViaProxyUnreachable || !strings.Contains(err.Error(), "1024 connections") {
		t.Errorf("got %v, reason %q", err, reasonOf(err))
	}
	<-p.secure
	conn, err := p.Open(t.Context(), "a.example.com", 443)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// The far end of a near one that is gone is noticed by the kernel's probes, not only half
// closed: here the kernel has given it up.
func TestAConnectionThatTheKernelGaveUpIsToldFromAHalfClosedOne(t *testing.T) {
	near, far, err := pair(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near.CloseWrite()
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	if closed(far) {
		t.Error("a half closed connection counts as gone")
	}
	near.SetLinger(0)
	near.Close()
	for deadline := time.Now().Add(time.Minute); !closed(far); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a connection that was reset does not count as gone")
		}
	}
}
