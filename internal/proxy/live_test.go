package proxy

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
)

// patience is how long a test waits for what must happen; it says nothing of how
// long that may take.
const patience = time.Minute

// within fails the test where do does not return in time.
func within(t *testing.T, d time.Duration, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatalf("after %v: %s", d, what)
	}
}

// liveKind is one kind of live connection: open makes one that is allowed by rule
// and lives.
type liveKind struct {
	name string
	rule policy.Rule
	open func(t *testing.T, m *meshOf) net.Conn
}

func liveKinds(t *testing.T, n *fakeNet) []liveKind {
	t.Helper()
	asked := make(chan struct{}, 16)
	n.site("db.example.com", "93.184.215.14", 5000, echo)
	n.site("full.example.com", "93.184.215.17", 5001, func(net.Conn) { <-t.Context().Done() }) // reads nothing
	n.site("www.example.com", "93.184.215.15", 443, n.overTLS(echo, "www.example.com"))
	n.site("api.example.com", "93.184.215.16", 80, hello)
	n.site("slow.example.com", "93.184.215.18", 80, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			asked <- struct{}{}
			io.Copy(io.Discard, c) // and never answers
		}
	})
	n.site("ws.example.com", "93.184.215.19", 80, func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err == nil {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
			io.Copy(c, r)
		}
	})
	pinged := func(t *testing.T, c net.Conn) net.Conn {
		t.Helper()
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, "ping")
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	return []liveKind{
		{"TCP", rule(t, "db.example.com:5000"), func(t *testing.T, m *meshOf) net.Conn {
			return pinged(t, m.dial("db.example.com", 5000))
		}},
		{"TCP to a server that does not read", rule(t, "full.example.com:5001"), func(t *testing.T, m *meshOf) net.Conn {
			c := m.dial("full.example.com", 5001)
			for { // until nothing goes any more
				c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
				if _, err := c.Write(make([]byte, 1<<20)); err != nil {
					return c
				}
			}
		}},
		{"TLS that is passed through", rule(t, "www.example.com"), func(t *testing.T, m *meshOf) net.Conn {
			roots := x509.NewCertPool()
			roots.AddCert(n.ca)
			return pinged(t, tls.Client(m.dial("www.example.com", 443), &tls.Config{ServerName: "www.example.com", RootCAs: roots}))
		}},
		{"HTTP between two requests", rule(t, "api.example.com:80"), func(t *testing.T, m *meshOf) net.Conn {
			c := m.dial("api.example.com", 80)
			if resp := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n"); resp.StatusCode != 200 {
				t.Fatalf("status %d", resp.StatusCode)
			}
			return c
		}},
		{"HTTP whose answer has not come", rule(t, "slow.example.com:80"), func(t *testing.T, m *meshOf) net.Conn {
			c := m.dial("slow.example.com", 80)
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: slow.example.com\r\n\r\n")
			<-asked
			return c
		}},
		{"HTTP whose request has not ended", rule(t, "slow.example.com:80"), func(t *testing.T, m *meshOf) net.Conn {
			c := m.dial("slow.example.com", 80)
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: slow.example.com\r\nContent-Length: 1000000\r\n\r\nhalf")
			<-asked
			return c
		}},
		{"an upgraded connection", rule(t, "ws.example.com:80"), func(t *testing.T, m *meshOf) net.Conn {
			c := m.dial("ws.example.com", 80)
			c.SetDeadline(time.Now().Add(patience))
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: ws.example.com\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
			if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 101 {
				t.Fatalf("%+v, %v", resp, err)
			}
			return pinged(t, c)
		}},
	}
}

// ends waits until the other side ends the connection.
func ends(t *testing.T, c net.Conn) {
	t.Helper()
	from := time.Now()
	c.SetDeadline(from.Add(patience))
	for {
		if _, err := c.Read(make([]byte, 4096)); err != nil {
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				t.Fatalf("it lives on after %v", patience)
			}
			break
		}
	}
	t.Logf("it took %v", time.Since(from).Round(time.Microsecond)) // a second is promised; a test's machine may be slow
}

// insideKinds are those inside the mesh, whose services it attaches; they need no
// rule.
func insideKinds(m *meshOf) []liveKind {
	m.t.Helper()
	asked := make(chan struct{}, 16)
	m.service("echo", echo)
	m.service("slow", func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			asked <- struct{}{}
			io.Copy(io.Discard, c)
		}
	})
	m.service("details", hello)
	return []liveKind{
		{name: "bytes to a service", open: func(t *testing.T, m *meshOf) net.Conn {
			c := m.dial("echo.default.svc.cluster.local", 9080)
			c.SetDeadline(time.Now().Add(patience))
			c.Write([]byte{0, 1, 2, 3})
			if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			return c
		}},
		{name: "HTTP to a service between two requests", open: func(t *testing.T, m *meshOf) net.Conn {
			c := m.dial("details.default.svc.cluster.local", 9080)
			if resp := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: details\r\n\r\n"); resp.StatusCode != 200 {
				t.Fatalf("status %d", resp.StatusCode)
			}
			return c
		}},
		{name: "HTTP to a service whose answer has not come", open: func(t *testing.T, m *meshOf) net.Conn {
			c := m.dial("slow.default.svc.cluster.local", 9080)
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: slow\r\n\r\n")
			<-asked
			return c
		}},
	}
}

func TestACallInsideTheMeshEndsWithItsService(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	kinds := insideKinds(m)
	peers := m.peers
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			m.peers = peers
			m.allow()
			c := kind.open(t, m)
			m.allow(rule(t, "other.example.com")) // is none of its business
			m.peers = nil
			within(t, patience, "the swap waits for a connection", func() { m.allow() })
			ends(t, c)
			if f := m.lastFlow(); kind.name != "HTTP to a service between two requests" && (f.Verdict != record.Failed || f.Reason != "no-healthy-upstream") {
				t.Errorf("the account says %+v", f)
			}
		})
	}
	t.Run("but not where it was gone for a moment", func(t *testing.T) {
		m.peers = nil
		without := m.compile()
		m.peers = peers
		with := m.compile()
		for moment := gate.Grace; moment >= gate.Grace; { // or it was gone for longer than a moment
			m.holder.Swap(with)
			c := kinds[0].open(t, m)
			gone := time.Now()
			m.holder.Swap(without)
			m.holder.Swap(with)
			if moment = time.Since(gone); moment >= gate.Grace {
				continue
			}
			c.Write([]byte{0, 1, 2, 3})
			if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestStaleRulesEndEachKindOfLiveConnection(t *testing.T) {
	n := newFakeNet(t)
	kinds := liveKinds(t, n)
	for i := range 3 + len(kinds) {
		m := newMesh(t, n)
		all := append(insideKinds(m), kinds...)
		kind := all[i]
		t.Run(kind.name, func(t *testing.T) {
			if kind.rule.ID != "" {
				m.allow(kind.rule)
			}
			c := kind.open(t, m)
			within(t, patience, "the swap waits for a connection", m.turnStale)
			ends(t, c)
		})
	}
}

func TestEachKindOfLiveConnectionEndsWhenItsRuleIsWithdrawn(t *testing.T) {
	n := newFakeNet(t)
	for _, kind := range liveKinds(t, n) {
		t.Run(kind.name, func(t *testing.T) {
			m := newMesh(t, n, kind.rule)
			c := kind.open(t, m)
			m.allow(kind.rule, rule(t, "other.example.com"))
			within(t, patience, "the swap waits for a connection", func() { m.allow() })
			ends(t, c)
		})
	}
}

// A hundred changes a second, none of which is its business, neither end a
// connection nor keep the change that is from ending it.
func TestAConnectionLivesThroughAStormOfRulesAndEndsWithItsOwn(t *testing.T) {
	n := newFakeNet(t)
	for _, kind := range liveKinds(t, n) {
		t.Run(kind.name, func(t *testing.T) {
			m := newMesh(t, n, kind.rule)
			storm := [2]*snapshot.Snapshot{m.compile(kind.rule, rule(t, "one.example.com")), m.compile(kind.rule, rule(t, "two.example.com:5000"))}
			stop, stopped := make(chan struct{}), make(chan struct{})
			turn := make(chan bool, 1)
			go func() {
				defer close(stopped)
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(10 * time.Millisecond):
						m.holder.Swap(storm[i%2])
						select {
						case turn <- true:
						default:
						}
					}
				}
			}()
			c := kind.open(t, m)
			for range 20 {
				<-turn
			}
			close(stop)
			<-stopped
			within(t, patience, "the swap waits for a connection", func() { m.allow(rule(t, "one.example.com")) })
			ends(t, c)
		})
	}
}

// A snapshot may come while a request is decided about, inside the callback of its
// socket: whoever closes that there waits for itself.
func TestARuleThatIsWithdrawnWhileItIsDecidedAboutEndsTheConnection(t *testing.T) {
	n := newFakeNet(t)
	n.site("api.example.com", "93.184.215.16", 80, hello)
	api := rule(t, "api.example.com:80")
	m := newMesh(t, n, api)
	c := m.dial("api.example.com", 80)
	r := bufio.NewReader(c)
	const request = "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
	exchange(t, c, r, request)
	raw, err := m.carried.Load().SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	within(t, patience, "it waits for itself", func() {
		raw.Control(func(uintptr) { // which holds the descriptor as the engine's callback does
			m.holder.Swap(m.compile())
		})
	})
	ends(t, c)
}

// What a rule says of addresses counts for those that are in use already.
func TestAConnectionEndsWhenItsAddressIsNotConsentedToAnyMore(t *testing.T) {
	n := newFakeNet(t)
	n.site("db.example.com", "10.1.2.3", 5000, echo)
	n.site("api.example.com", "10.1.2.4", 80, hello)
	consent := func(text string, answers ...string) policy.Rule {
		r := rule(t, text)
		for _, a := range answers {
			r.PrivateAnswers = append(r.PrivateAnswers, netip.MustParsePrefix(a))
		}
		return r
	}
	m := newMesh(t, n, consent("db.example.com:5000", "10.0.0.0/8"), consent("api.example.com:80", "10.0.0.0/8"))
	db, api := m.dial("db.example.com", 5000), m.dial("api.example.com", 80)
	r := bufio.NewReader(api)
	const request = "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
	alive := func() {
		t.Helper()
		db.SetDeadline(time.Now().Add(patience))
		io.WriteString(db, "ping")
		if _, err := io.ReadFull(db, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		if resp := exchange(t, api, r, request); resp.StatusCode != 200 {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	alive()
	m.allow(consent("db.example.com:5000", "10.1.0.0/16"), consent("api.example.com:80", "10.1.0.0/16"))
	alive()
	m.allow(consent("db.example.com:5000"), consent("api.example.com:80", "10.2.0.0/16"))
	ends(t, db)
	if resp := exchange(t, api, r, request); resp.StatusCode != 403 || resp.Header.Get("x-sluice-reason") != "private-address" {
		t.Errorf("status %d, reason %q", resp.StatusCode, resp.Header.Get("x-sluice-reason"))
	}
}

// An upgraded connection outlives the pool that it was taken from. It does not outlive
// the consent to its address.
func TestAnUpgradedConnectionEndsWhenItsAddressIsNotConsentedToAnyMore(t *testing.T) {
	n := newFakeNet(t)
	n.site("ws.example.com", "10.1.2.3", 80, func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			request, err := http.ReadRequest(r)
			switch {
			case err != nil:
				return
			case request.Header.Get("Upgrade") == "":
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			default:
				io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
				io.Copy(c, r)
				return
			}
		}
	})
	ws := func(private string, paths ...string) policy.Rule {
		r := rule(t, "ws.example.com:80")
		r.HTTP = []policy.HTTPMatch{{Paths: paths, Upgrades: []string{"echo"}}}
		if private != "" {
			r.PrivateAnswers = []netip.Prefix{netip.MustParsePrefix(private)}
		}
		return r
	}
	m := newMesh(t, n, ws("10.0.0.0/8", "/first", "/ws"))
	c := m.dial("ws.example.com", 80)
	c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(c)
	if resp := exchange(t, c, r, "GET /first HTTP/1.1\r\nHost: ws.example.com\r\n\r\n"); resp.StatusCode != 200 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: ws.example.com\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 101 {
		t.Fatalf("%+v, %v", resp, err)
	}
	alive := func() {
		t.Helper()
		io.WriteString(c, "ping")
		if _, err := io.ReadFull(r, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
	}
	alive()
	m.allow(ws("10.0.0.0/8", "/ws")) // the pool's first request is not allowed any more
	alive()
	m.allow(ws("", "/ws"))
	ends(t, c)
}

// A server speaks first and goes on; the client has said something and does not read. It
// is ended all the same, without its help.
func TestAServerThatSpeaksFirstIsEndedThoughItsClientDoesNotRead(t *testing.T) {
	for what, end := range map[string]func(m *meshOf){
		"its rule is withdrawn": func(m *meshOf) { m.allow() },
		"the rules grow stale":  func(m *meshOf) { m.turnStale() },
		"the proxy ends":        func(m *meshOf) { m.proxy.Close() },
		"the client is reset": func(m *meshOf) {
			m.dialled.Load().SetLinger(0)
			m.dialled.Load().Close()
		},
	} {
		for _, says := range []string{"", "x"} {
			t.Run(what+", the client said "+strconv.Quote(says), func(t *testing.T) {
				n := newFakeNet(t)
				heard, over := make(chan struct{}), make(chan struct{})
				var written atomic.Int64
				n.site("db.example.com", "93.184.215.14", 3306, func(c net.Conn) {
					defer close(over)
					go func() {
						io.ReadFull(c, make([]byte, len(says)))
						close(heard)
					}()
					for {
						if _, err := c.Write(make([]byte, 1<<16)); err != nil {
							return
						}
						written.Add(1)
					}
				})
				m := newMesh(t, n, rule(t, "db.example.com:3306"))
				c := m.dial("db.example.com", 3306)
				c.SetDeadline(time.Now().Add(patience))
				if _, err := io.ReadFull(c, make([]byte, 1<<20)); err != nil { // it is under way
					t.Fatal(err)
				}
				for last, still := int64(0), 0; still < 20; time.Sleep(5 * time.Millisecond) { // until nothing goes any more
					if now := written.Load(); now != last {
						last, still = now, 0
					} else {
						still++
					}
				}
				io.WriteString(c, says)
				within(t, patience, "what the client says does not come through", func() { <-heard })
				end(m)
				within(t, patience, "the server's connection lives on", func() { <-over })
				within(t, patience, "the connection is carried still", m.carrying.Wait)
			})
		}
	}
}
