package tunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/internal/refusal"
)

// proxyThat listens as a proxy which serves each connection by serve, and returns what
// dials it.
func proxyThat(t *testing.T, change func(*Config), serve func(net.Conn)) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	at := listener.Addr().(*net.TCPAddr).AddrPort()
	c := Config{Host: at.Addr().String(), Port: at.Port(), Dial: dialTCP, Lookup: noLookup}
	if change != nil {
		change(&c)
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func dialTCP(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

func noLookup(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("not looked up") }

// asked reads a CONNECT.
func asked(conn net.Conn) *http.Request {
	request, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return nil
	}
	return request
}

// answers is a proxy that says one thing to every CONNECT, and waits for the client to go.
func answers(text string) func(net.Conn) {
	return func(conn net.Conn) {
		asked(conn)
		io.WriteString(conn, text)
		io.Copy(io.Discard, conn)
	}
}

func reasonOf(err error) refusal.Reason {
	if err == nil {
		return ""
	}
	return refusal.Of(err).Reason
}

func TestTheProxyIsAskedForTheNameAndGivenItsCredentials(t *testing.T) {
	saw := make(chan *http.Request, 1)
	p := proxyThat(t, func(c *Config) { c.Authorization = "Basic dTpw" }, func(conn net.Conn) {
		saw <- asked(conn)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	})
	conn, err := p.Open(t.Context(), "db.example.com", 5432)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if r := <-saw; r.Method != "CONNECT" || r.RequestURI != "db.example.com:5432" || r.Host != "db.example.com:5432" || r.Header.Get("Proxy-Authorization") != "Basic dTpw" {
		t.Errorf("the proxy saw %+v", r)
	}
	conn, err = p.Open(t.Context(), "2001:db8::1", 443)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if r := <-saw; r.RequestURI != "[2001:db8::1]:443" {
		t.Errorf("an IPv6 address is asked for as %q", r.RequestURI)
	}
}

// Whatever comes after the head of a success is the other end's, though it came in one
// piece with it and though the head speaks of a body.
func TestWhatFollowsTheHeadIsTheStream(t *testing.T) {
	for what, head := range map[string]string{
		"plain":                  "HTTP/1.1 200 Connection established\r\n\r\n",
		"HTTP/1.0, no phrase":    "HTTP/1.0 200\r\n\r\n",
		"a length":               "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
		"chunked":                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"another 2xx":            "HTTP/1.1 204 No Content\r\n\r\n",
		"bare LF":                "HTTP/1.1 200 OK\nVia: x\n\n",
		"answers of 1xx, before": "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
	} {
		for _, early := range []string{"", "220 hello\r\n", "\r\n\r\n"} {
			p := proxyThat(t, nil, func(conn net.Conn) {
				asked(conn)
				io.WriteString(conn, head+early)
				io.Copy(conn, conn) // an echo is at the other end
			})
			conn, err := p.Open(t.Context(), "a.example.com", 25)
			if err != nil {
				t.Errorf("%s: %v", what, err)
				continue
			}
			io.WriteString(conn, "ping")
			conn.CloseWrite()
			if got, err := io.ReadAll(conn); err != nil || string(got) != early+"ping" {
				t.Errorf("%s: the stream is %q, %v; want %q", what, got, err, early+"ping")
			}
			conn.Close()
		}
	}
}

// A head that comes byte by byte ends where it ends.
func TestAHeadInPiecesEndsWhereItEnds(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nA: b\r\n\r\n"
	p := proxyThat(t, nil, func(conn net.Conn) {
		conn.(*net.TCPConn).SetNoDelay(true)
		asked(conn)
		for i := range head {
			io.WriteString(conn, head[i:i+1])
		}
		io.WriteString(conn, "\r\nrest")
	})
	conn, err := p.Open(t.Context(), "a.example.com", 443)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, _ := io.ReadAll(conn); string(got) != "\r\nrest" {
		t.Errorf("the stream is %q", got)
	}
}

func TestAnAnswerThatOpensNoTunnelSaysWhy(t *testing.T) {
	for _, c := range []struct {
		what, answer, login string
		reason              refusal.Reason
		says                []string
	}{
		{"refused", "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nno!!", "", refusal.ViaProxyRefused, []string{"refused CONNECT a.example.com:22: 403 Forbidden", "port 443 alone"}},
		{"a redirect", "HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n", "", refusal.ViaProxyRefused, []string{"302 Found"}},
		{"bad gateway", "HTTP/1.1 502 Bad Gateway\r\n\r\n", "", refusal.ViaProxyFailed, []string{"did not reach a.example.com:22: 502 Bad Gateway"}},
		{"credentials", "HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic realm=x\r\n\r\n", "", refusal.ViaProxyAuthentication, []string{"wants credentials", "--via-proxy-credentials"}},
		{"wrong credentials", "HTTP/1.1 407 Auth\r\nProxy-Authenticate: Negotiate\r\nproxy-authenticate: basic realm=x\r\n\r\n", "Basic dTpw", refusal.ViaProxyAuthentication, []string{"did not accept the credentials", "Negotiate, basic"}},
		{"NTLM", "HTTP/1.1 407 Auth\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n", "Basic dTpw", refusal.ViaProxyAuthentication, []string{"not supported", "NTLM, Negotiate", "supported is Basic"}},
		{"digest", "HTTP/1.1 407 Auth\r\nProxy-Authenticate: Digest realm=\"x\", nonce=\"y\"\r\n\r\n", "", refusal.ViaProxyAuthentication, []string{"not supported", "Digest"}},
		{"another protocol", "SSH-2.0-OpenSSH_9.9\r\n\r\n", "", refusal.ViaProxyAnswer, []string{"SSH-2.0", "not HTTP/1"}},
		{"HTTP/2", "HTTP/2 200\r\n\r\n", "", refusal.ViaProxyAnswer, []string{"not HTTP/1"}},
		{"a switch", "HTTP/1.1 101 Switching\r\n\r\n", "", refusal.ViaProxyAnswer, []string{"another protocol"}},
		{"a line that is none", "HTTP/1.1 200 OK\r\nwhat is this\r\n\r\n", "", refusal.ViaProxyAnswer, []string{"not a field"}},
		{"a folded line", "HTTP/1.1 200 OK\r\nA: b\r\n c: d\r\n\r\n", "", refusal.ViaProxyAnswer, []string{"not a field"}},
		{"many answers of 1xx", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", MaxInterim+1) + "HTTP/1.1 200 OK\r\n\r\n", "", refusal.ViaProxyAnswer, []string{"more than 4 answers"}},
		{"a long head", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", MaxHead), "", refusal.ViaProxyAnswer, []string{"more than 16384 bytes"}},
		{"a phrase that would paint the terminal", "HTTP/1.1 403 \x1b[31m" + strings.Repeat("x", 500) + "\r\n\r\n", "", refusal.ViaProxyRefused, []string{"?[31mx"}},
	} {
		p := proxyThat(t, func(f *Config) { f.Authorization = c.login }, answers(c.answer))
		conn, err := p.Open(t.Context(), "a.example.com", 22)
		if conn != nil || reasonOf(err) != c.reason {
			t.Errorf("%s: %v, reason %q, want %q", c.what, err, reasonOf(err), c.reason)
			continue
		}
		for _, says := range append(c.says, p.String()) {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %q does not say %q", c.what, err, says)
			}
		}
		if len(err.Error()) > 500 || strings.ContainsRune(err.Error(), '\x1b') {
			t.Errorf("%s: the error shows more of the proxy's words than is good: %q", c.what, err)
		}
	}
}

func TestAProxyThatEndsOrNeverEndsItsHeadFails(t *testing.T) {
	endless := func(conn net.Conn) {
		asked(conn)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
		for {
			if _, err := io.WriteString(conn, "A: b\r\n"); err != nil {
				return
			}
		}
	}
	silent := func(conn net.Conn) { asked(conn); io.Copy(io.Discard, conn) }
	for what, c := range map[string]struct {
		serve  func(net.Conn)
		reason refusal.Reason
		says   string
	}{
		"an endless head":    {endless, refusal.ViaProxyAnswer, "more than 16384 bytes"},
		"silence":            {silent, refusal.ViaProxyFailed, "did not answer in time"},
		"half a head":        {answers("HTTP/1.1 200 OK\r\nA: b\r\n"), refusal.ViaProxyFailed, "did not answer in time"},
		"an end at once":     {func(net.Conn) {}, refusal.ViaProxyFailed, ""},
		"an end in the head": {func(c net.Conn) { asked(c); io.WriteString(c, "HTTP/1.1 200 OK\r\n") }, refusal.ViaProxyFailed, "EOF"},
	} {
		p := proxyThat(t, func(f *Config) {
			if c.says == "did not answer in time" {
				f.Timeout = 50 * time.Millisecond
			}
		}, c.serve)
		if conn, err := p.Open(t.Context(), "a.example.com", 443); conn != nil || reasonOf(err) != c.reason || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, reason %q, want %q that says %q", what, err, reasonOf(err), c.reason, c.says)
		}
	}
}

func TestAProxyThatIsNotThereIsNamed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := listener.Addr().(*net.TCPAddr).AddrPort()
	listener.Close()
	for host, lookup := range map[string]func(context.Context, string) ([]netip.Addr, error){
		"127.0.0.1":       noLookup,
		"proxy.corp.test": func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no such host") },
		"empty.corp.test": func(context.Context, string) ([]netip.Addr, error) { return nil, nil },
	} {
		p, err := New(Config{Host: host, Port: at.Port(), Dial: dialTCP, Lookup: lookup})
		if err != nil {
			t.Fatal(err)
		}
		if conn, err := p.Open(t.Context(), "a.example.com", 443); conn != nil || reasonOf(err) != refusal.ViaProxyUnreachable || !strings.Contains(err.Error(), fmt.Sprintf("proxy %s:%d could not be reached", host, at.Port())) {
			t.Errorf("%s: %v, reason %q", host, err, reasonOf(err))
		}
	}
}

// Of a proxy's addresses the first that takes the connection is used, and of very many
// only some are tried.
func TestAddressesOfTheProxyAreTriedInTurn(t *testing.T) {
	p := proxyThat(t, nil, answers("HTTP/1.1 200 OK\r\n\r\n"))
	good := netip.MustParseAddr(p.config.Host)
	var addrs []netip.Addr
	var dialled atomic.Int32
	p.config.Host = "proxy.corp.test"
	p.config.Lookup = func(context.Context, string) ([]netip.Addr, error) { return addrs, nil }
	p.config.Dial = func(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
		if dialled.Add(1); to.Addr() != good {
			return nil, errors.New("no route")
		}
		return dialTCP(ctx, to)
	}
	bad := netip.MustParseAddr("192.0.2.1")
	addrs = []netip.Addr{bad, good}
	conn, err := p.Open(t.Context(), "a.example.com", 443)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	dialled.Store(0)
	addrs = []netip.Addr{bad, bad, bad, bad, bad, good}
	if conn, err := p.Open(t.Context(), "a.example.com", 443); conn != nil || dialled.Load() != MaxAddresses {
		t.Errorf("%d addresses were tried, %v; want %d", dialled.Load(), err, MaxAddresses)
	}
}

func TestWhoGivesUpWaitsNoLonger(t *testing.T) {
	reached := make(chan struct{})
	p := proxyThat(t, nil, func(conn net.Conn) {
		asked(conn)
		close(reached)
		io.Copy(io.Discard, conn)
	})
	left := errors.New("the client left")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-reached
		cancel(left)
	}()
	if conn, err := p.Open(ctx, "a.example.com", 443); conn != nil || !errors.Is(err, left) {
		t.Errorf("got %v, want the cause of the context", err)
	}
}

func FuzzParseAnswer(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 407\r\nProxy-Authenticate: Basic realm=\"x\"\r\nProxy-Authenticate: NTLM\r\n\r\n",
		"HTTP/1.1 200 OK\nA: b\n\n", "HTTP/1.1 99 x\r\n\r\n", "\n\n", "HTTP/1.1 200\r\n: x\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		// However it comes in pieces, a head ends at one place.
		end := headEnd(head, 0)
		for known := range end {
			if got := headEnd(head, known); got != end {
				t.Fatalf("with %d bytes known the head ends at %d, not at %d", known, got, end)
			}
		}
		a, err := parseAnswer(head)
		if err != nil {
			return
		}
		if a.status < 100 || a.status > 599 || len(a.phrase) > maxPhrase || len(a.schemes) > maxSchemes {
			t.Fatalf("%q becomes %+v", head, a)
		}
		p := Proxy{at: "p:1"}
		if err := p.judge(a, "a:443"); (err == nil) != (a.status < 300) {
			t.Fatalf("status %d becomes %v", a.status, err)
		} else if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%q shows as %q", head, err)
		}
	})
}
