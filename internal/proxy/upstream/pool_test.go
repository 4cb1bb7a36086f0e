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

// patience is how long a test waits for what must come; nothing waits longer than
// it has to.
const patience = time.Minute

// server accepts connections and gives each to handle.
func server(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				handle(c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
	return l.Addr().String()
}

func dialTo(address string) func(context.Context) (*net.TCPConn, error) {
	return func(ctx context.Context) (*net.TCPConn, error) {
		var d net.Dialer
		d.SetMultipathTCP(false)
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		return c.(*net.TCPConn), nil
	}
}

func newPool(t testing.TB, c Config) *Pool {
	t.Helper()
	p, err := NewPool(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(true) })
	return p
}

func mustDial(t testing.TB, p *Pool) *Conn {
	t.Helper()
	c, err := p.Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// echo sends back what comes.
func echo(c net.Conn) { io.Copy(c, c) }

func TestTheLastConnectionPutIsTheFirstTaken(t *testing.T) {
	p := newPool(t, Config{Dial: dialTo(server(t, echo)), MaxIdle: 2})
	if p.Take(false) != nil {
		t.Error("an empty pool gave a connection")
	}
	a, b, c := mustDial(t, p), mustDial(t, p), mustDial(t, p)
	if s := p.Stats(); s != (Stats{Busy: 3}) {
		t.Errorf("%+v", s)
	}
	for _, conn := range []*Conn{a, b, c} {
		p.Put(conn)
	}
	if s := p.Stats(); s != (Stats{Idle: 2}) {
		t.Errorf("beyond MaxIdle: %+v", s)
	}
	if p.Take(true) != b || p.Take(false) != a || p.Take(false) != nil || !a.Reused() || c.Reused() {
		t.Error("not in the order of a stack")
	}
	a.Close()
	b.Close()
	if s := p.Stats(); s != (Stats{}) {
		t.Errorf("%+v", s)
	}
}

func TestAnExchangeWritesWaitsAndReads(t *testing.T) {
	p := newPool(t, Config{Dial: dialTo(server(t, echo))})
	c := mustDial(t, p)
	defer c.Close()
	b := make([]byte, 10)
	if n, err := c.Exchange([]byte("hello"), b); err != nil || string(b[:n]) != "hello" {
		t.Errorf("%q, %v", b[:n], err)
	}
	if _, err := c.Write([]byte("again")); err != nil {
		t.Error(err)
	}
	if n, err := c.Exchange(nil, b); err != nil || string(b[:n]) != "again" {
		t.Errorf("%q, %v", b[:n], err)
	}
	c.CloseWrite()
	if n, err := c.Exchange(nil, b); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d, %v", n, err)
	}
	if c.Remote().Addr().String() != "127.0.0.1" {
		t.Errorf("remote %v", c.Remote())
	}
}

func TestALongWriteParksUntilThereIsRoom(t *testing.T) {
	const size = 20 << 20
	p := newPool(t, Config{Dial: dialTo(server(t, func(c net.Conn) {
		time.Sleep(50 * time.Millisecond) // the buffers fill
		n, _ := io.CopyN(io.Discard, c, size)
		if n == size {
			c.Write([]byte("done"))
		}
	}))})
	c := mustDial(t, p)
	defer c.Close()
	b := make([]byte, 10)
	if n, err := c.Exchange(make([]byte, size), b); err != nil || string(b[:n]) != "done" {
		t.Errorf("%q, %v", b[:n], err)
	}
}

func TestAbortEndsAnExchange(t *testing.T) {
	p := newPool(t, Config{Dial: dialTo(server(t, func(c net.Conn) { io.Copy(io.Discard, c) }))})
	c := mustDial(t, p)
	time.AfterFunc(10*time.Millisecond, c.Abort)
	if _, err := c.Exchange([]byte("x"), make([]byte, 10)); !IsTimeout(err) {
		t.Errorf("%v", err)
	}
	p.Put(c)
	if s := p.Stats(); s != (Stats{}) {
		t.Errorf("an aborted connection was kept: %+v", s)
	}
}

func TestIdleConnectionsAreClosedWhenOldOrWhenTheirPeerIs(t *testing.T) {
	t.Run("old", func(t *testing.T) {
		var now atomic.Int64
		p := newPool(t, Config{Dial: dialTo(server(t, echo)), IdleTimeout: 40 * time.Millisecond, Now: func() time.Duration { return time.Duration(now.Load()) }})
		p.Put(mustDial(t, p))
		p.sweep()
		if s := p.Stats(); s.Idle != 1 {
			t.Errorf("too early: %+v", s)
		}
		now.Store(int64(time.Minute))
		eventually(t, "the sweep closes it", func() bool { return p.Stats().Idle == 0 })
	})
	t.Run("closed", func(t *testing.T) {
		p := newPool(t, Config{Dial: dialTo(server(t, func(c net.Conn) {})), IdleTimeout: 40 * time.Millisecond, Now: func() time.Duration { return 0 }})
		p.Put(mustDial(t, p))
		eventually(t, "the sweep closes it", func() bool { return p.Stats().Idle == 0 })
	})
	t.Run("speaking unasked", func(t *testing.T) {
		var spoken sync.WaitGroup
		spoken.Add(1)
		p := newPool(t, Config{Dial: dialTo(server(t, func(c net.Conn) {
			c.Write([]byte("HTTP/1.1 408 Request Timeout\r\n\r\n"))
			spoken.Done()
			io.Copy(io.Discard, c)
		}))})
		p.Put(mustDial(t, p))
		spoken.Wait()
		eventually(t, "Take gives no such connection", func() bool {
			c := p.Take(true)
			if c != nil {
				p.Put(c)
			}
			return c == nil
		})
	})
}

func TestAPoolHasABound(t *testing.T) {
	p := newPool(t, Config{Dial: dialTo(server(t, echo)), MaxConns: 2})
	a, b := mustDial(t, p), mustDial(t, p)
	defer b.Close()
	if _, err := p.Dial(context.Background()); !errors.Is(err, ErrOverflow) {
		t.Errorf("%v", err)
	}
	a.Close()
	mustDial(t, p).Close()
}

func TestAClosedPoolGivesNothing(t *testing.T) {
	for _, abort := range []bool{false, true} {
		p := newPool(t, Config{Dial: dialTo(server(t, echo))})
		idle, busy := mustDial(t, p), mustDial(t, p)
		p.Put(idle)
		p.Close(abort)
		if !p.Closed() {
			t.Error("the pool is not closed")
		}
		if _, err := p.Dial(context.Background()); !errors.Is(err, ErrWithdrawn) || p.Take(false) != nil {
			t.Errorf("%v", err)
		}
		_, err := busy.Exchange([]byte("x"), make([]byte, 1))
		if abort != IsTimeout(err) || !abort && err != nil {
			t.Errorf("abort %v: %v", abort, err)
		}
		p.Put(busy)
		if s := p.Stats(); s != (Stats{}) {
			t.Errorf("connections are left: %+v", s)
		}
	}
}

func TestAPoolClosedDuringADialGivesNothing(t *testing.T) {
	address := server(t, echo)
	var p *Pool
	p = newPool(t, Config{Dial: func(ctx context.Context) (*net.TCPConn, error) {
		p.Close(true)
		return dialTo(address)(ctx)
	}})
	if _, err := p.Dial(context.Background()); !errors.Is(err, ErrWithdrawn) {
		t.Errorf("%v", err)
	}
}

func TestAConfigurationThatCannotBeRightIsRefused(t *testing.T) {
	dial := dialTo("127.0.0.1:1")
	for name, c := range map[string]Config{
		"no dialer":                    {},
		"no name to verify":            {Dial: dial, TLS: &tls.Config{}},
		"verification is switched off": {Dial: dial, TLS: &tls.Config{ServerName: "a.example", InsecureSkipVerify: true}},
	} {
		if _, err := NewPool(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

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
		{"a server that says nothing", silent, "a.example", roots, "deadline exceeded"},
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
				c.Close()
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
				c.Close()
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
		defer c.Close()
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
			c.SetBlocking(true)
			var writing sync.WaitGroup
			writing.Go(func() {
				piece := make([]byte, 16<<10)
				for range 100 {
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
			p.Put(c)
			c = p.Take(true)
			if c == nil {
				t.Fatal("the connection was not kept")
			}
			if n, err := c.Exchange([]byte("x"), b); err != nil || string(b[:n]) != "x" {
				t.Errorf("%q, %v", b[:n], err)
			}
			c.CloseWrite()
			if _, err := c.Exchange(nil, b); !errors.Is(err, io.EOF) {
				t.Errorf("%v", err)
			}
			c.Close()
			// A second connection resumes the session and is verified all the same.
			c = mustDial(t, p)
			if !c.tls.ConnectionState().DidResume {
				t.Error("the session was not resumed")
			}
			c.Close()
		})
	}
}

// TestAnExchangeAllocatesNothingOfItsOwn counts both ends: crypto/tls allocates
// once for each read, at the server as at the client.
func TestAnExchangeAllocatesNothingOfItsOwn(t *testing.T) {
	if raceDetector {
		t.Skip("under the race detector sync.Pool drops what it is given")
	}
	for name, tc := range map[string]struct {
		pool *Pool
		most float64
	}{
		"plain": {newPool(t, Config{Dial: dialTo(server(t, func(c net.Conn) {
			b := make([]byte, 4096)
			for {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				c.Write(b[:n])
			}
		}))}), 0},
		"tls": {tlsEcho(t, tls.VersionTLS13), 2},
	} {
		c := mustDial(t, tc.pool)
		defer c.Close()
		out, in := make([]byte, 1024), make([]byte, 4096)
		n := testing.AllocsPerRun(500, func() {
			if n, err := c.Exchange(out, in); err != nil || n != len(out) {
				t.Fatal(n, err)
			}
		})
		if n > tc.most {
			t.Errorf("%s: %v allocations, want at most %v", name, n, tc.most)
		}
	}
}

func BenchmarkExchange(b *testing.B) {
	run := func(b *testing.B, p *Pool) {
		c := mustDial(b, p)
		defer c.Close()
		out, in := make([]byte, 1024), make([]byte, 4096)
		b.ReportAllocs()
		for b.Loop() {
			if n, err := c.Exchange(out, in); err != nil || n != len(out) {
				b.Fatal(n, err)
			}
		}
	}
	b.Run("plain", func(b *testing.B) { run(b, newPool(b, Config{Dial: dialTo(server(b, echo))})) })
	b.Run("tls", func(b *testing.B) { run(b, tlsEcho(b, tls.VersionTLS13)) })
}
