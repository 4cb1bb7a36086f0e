package proxy

import (
	"bufio"
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/internal/record"
)

// battlefield is an internet in which each server tells who was reached.
type battlefield struct {
	*fakeNet
	mu      sync.Mutex
	reached map[string]int
}

func newBattlefield(t *testing.T) *battlefield {
	b := &battlefield{fakeNet: newFakeNet(t), reached: make(map[string]int)}
	for name, x := range map[string]struct {
		address string
		port    uint16
	}{
		"good.example.com": {"93.184.215.14", 80}, "other.example.com": {"93.184.215.15", 80},
		"evil.example.com": {"93.184.215.66", 80},
		// Where no name may lead.
		"loopback.good.example.net": {"127.0.0.1", 80}, "metadata.good.example.net": {"169.254.169.254", 80},
		"private.good.example.net": {"10.0.0.1", 80}, "carrier.good.example.net": {"100.64.0.1", 80},
		"gate.good.example.net": {"198.18.0.1", 80}, "synthetic.good.example.net": {"198.19.0.1", 80},
		"nowhere.good.example.net": {"0.0.0.0", 80}, "everybody.good.example.net": {"224.0.0.1", 80},
	} {
		b.site(name, x.address, x.port, b.counted(name, hello))
	}
	b.site("www.example.com", "93.184.215.17", 443, b.counted("www.example.com", b.overTLS(hello, "www.example.com")))
	b.site("mail.example.com", "93.184.215.66", 443, b.counted("evil.example.com", b.overTLS(hello, "mail.example.com")))
	return b
}

func (b *battlefield) counted(name string, serve func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		b.mu.Lock()
		b.reached[name]++
		b.mu.Unlock()
		serve(c)
	}
}

// onlyReached fails the test where a server but those was reached.
func (b *battlefield) onlyReached(t *testing.T, names ...string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	want := make(map[string]bool)
	for _, name := range names {
		want[name] = true
	}
	for name := range b.reached {
		if !want[name] {
			t.Errorf("%s was reached", name)
		}
	}
	clear(b.reached)
}

// say sends a whole conversation and returns all that is answered until want answers
// came, or the other side ended.
func say(t *testing.T, c net.Conn, text string, want int) []*http.Response {
	t.Helper()
	c.SetDeadline(time.Now().Add(patience))
	go io.WriteString(c, text)
	r := bufio.NewReader(c)
	var all []*http.Response
	for len(all) < want {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				t.Fatalf("after %d answers: %v", len(all), err)
			}
			return all
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body = io.NopCloser(bytes.NewReader(body))
		all = append(all, resp)
	}
	return all
}

// What a workload may say to the address of an allowed name: whatever it is, no other
// server is reached.
func TestNoRequestReachesAServerThatNoRuleAllows(t *testing.T) {
	b := newBattlefield(t)
	m := newMesh(t, b.fakeNet, rule(t, "good.example.com:80"), rule(t, "*.good.example.net:80"), rule(t, "www.example.com"))
	get := func(host string) string { return "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n" }
	cases := []struct {
		what   string
		dialed string // a name, or an address
		say    string
		want   []string // "status reason", an answer each
	}{
		{"the Host of another", "good.example.com", get("evil.example.com"), []string{"403 name-mismatch"}},
		{"the Host of another that is allowed", "good.example.com", get("a.good.example.net"), []string{"403 name-mismatch"}},
		{"an allowed Host on a hostile address", "93.184.215.66", get("good.example.com"), []string{"200 "}},
		{"an allowed Host on a private address", "10.0.0.1", get("good.example.com"), []string{"200 "}},
		{"a denied Host on the address of an allowed name", "93.184.215.14", get("evil.example.com"), []string{"403 no-rule"}},
		{"the same name spelled otherwise", "good.example.com", get("GOOD.Example.COM."), []string{"200 "}},
		{"the port that was dialled", "good.example.com", get("good.example.com:80"), []string{"200 "}},
		{"another port", "good.example.com", get("good.example.com:443"), []string{"403 port-mismatch"}},
		{"an absolute target of another", "good.example.com", "GET http://evil.example.com/ HTTP/1.1\r\nHost: good.example.com\r\n\r\n", []string{"4"}},
		{"an absolute target beside the Host of another", "good.example.com", "GET http://good.example.com/ HTTP/1.1\r\nHost: evil.example.com\r\n\r\n", []string{"4"}},
		{"an absolute target that says https", "good.example.com", "GET https://evil.example.com/ HTTP/1.1\r\nHost: evil.example.com\r\n\r\n", []string{"4"}},
		{"CONNECT", "good.example.com", "CONNECT evil.example.com:80 HTTP/1.1\r\nHost: evil.example.com:80\r\n\r\n", []string{"501 connect-not-supported"}},
		{"CONNECT with a request behind it", "good.example.com", "CONNECT good.example.com:80 HTTP/1.1\r\nHost: good.example.com:80\r\n\r\n" + get("evil.example.com"), []string{"501 connect-not-supported"}},
		{"two Hosts", "good.example.com", "GET / HTTP/1.1\r\nHost: good.example.com\r\nHost: evil.example.com\r\n\r\n", []string{"400 request-malformed"}},
		{"a Host with a login", "good.example.com", get("good.example.com@evil.example.com"), []string{"4"}},
		{"a Host with a path", "good.example.com", get("evil.example.com/good.example.com"), []string{"4"}},
		{"a second request to another", "good.example.com", get("good.example.com") + get("evil.example.com"), []string{"200 ", "403 name-mismatch"}},
		{"a second request in the body of the first", "good.example.com", "POST / HTTP/1.1\r\nHost: good.example.com\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get("evil.example.com"), []string{"400 request-malformed"}},
		{"two lengths", "good.example.com", "POST / HTTP/1.1\r\nHost: good.example.com\r\nContent-Length: 0\r\nContent-Length: 60\r\n\r\n" + get("evil.example.com"), []string{"400 request-malformed"}},
		{"an upgrade that is not granted, with a request behind it", "good.example.com", "GET / HTTP/1.1\r\nHost: good.example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" + get("evil.example.com"), []string{"200 ", "403 name-mismatch"}},
		{"no Host on the address of a name", "good.example.com", "GET / HTTP/1.0\r\n\r\n", []string{"200 "}},
		{"an empty Host on the address of a name", "good.example.com", get(""), []string{"400 request-malformed"}},
		{"no Host on an address", "93.184.215.14", "GET / HTTP/1.0\r\n\r\n", []string{"4"}},
		{"HTTP/2 by prior knowledge", "good.example.com", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", nil},
	}
	for _, label := range []string{"loopback", "metadata", "private", "carrier", "gate", "synthetic", "nowhere", "everybody"} {
		name := label + ".good.example.net"
		cases = append(cases, struct {
			what, dialed, say string
			want              []string
		}{"a name of the rule that leads to " + label, name, get(name), []string{"403 private-address"}})
	}
	for _, literal := range []string{
		"127.0.0.1", "127.1", "0x7f.1", "0x7f000001", "2130706433", "0177.0.0.1", "017700000001", "127.0.0.1.", "[::1]", "[::ffff:127.0.0.1]",
		"[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[fe80::1%25lo]", "[::]", "0", "0.0.0.0", "169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "93.184.215.66", "localhost", "%31%32%37.0.0.1", "①②⑦.0.0.1",
	} {
		cases = append(cases, struct {
			what, dialed, say string
			want              []string
		}{"the literal " + literal, "good.example.com", get(literal), []string{"4"}})
	}
	for _, address := range []string{"10.0.0.1", "169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00:ec2::254", "93.184.215.66", "198.19.77.77", "224.0.0.1"} {
		host := address
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		cases = append(cases, struct {
			what, dialed, say string
			want              []string
		}{"the address " + address, address, get(host), []string{"4"}})
	}
	for _, x := range cases {
		t.Run(x.what, func(t *testing.T) {
			var c net.Conn
			if a, err := netip.ParseAddr(x.dialed); err == nil {
				c = m.dialAddress(netip.AddrPortFrom(a, 80))
			} else {
				c = m.dial(x.dialed, 80)
			}
			got := say(t, c, x.say, len(x.want))
			if len(got) != len(x.want) {
				t.Errorf("%d answers, want %d", len(got), len(x.want))
			}
			for i, resp := range got {
				said := fmt.Sprintf("%d %s", resp.StatusCode, resp.Header.Get("x-sluice-reason"))
				if !strings.HasPrefix(said, x.want[i]) {
					t.Errorf("answer %d is %q, want %q", i, said, x.want[i])
				}
				if body, _ := io.ReadAll(resp.Body); resp.StatusCode == 200 && !strings.HasPrefix(strings.ToLower(string(body)), "good.example.com") {
					t.Errorf("answer %d is of %s", i, body)
				}
			}
			b.onlyReached(t, "good.example.com")
		})
	}
}

// `*` opens every name and no address.
func TestAStarOpensNoAddressAndNoPrivateServer(t *testing.T) {
	b := newBattlefield(t)
	m := newMesh(t, b.fakeNet, rule(t, "*:80"))
	for _, host := range []string{"127.0.0.1", "0x7f.1", "2130706433", "[::1]", "169.254.169.254", "93.184.215.66", "metadata.good.example.net", "loopback.good.example.net"} {
		c := m.dialAddress(netip.MustParseAddrPort("93.184.215.66:80"))
		if got := say(t, c, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n", 1); len(got) == 0 || got[0].StatusCode/100 != 4 {
			t.Errorf("%s: %+v", host, got)
		}
	}
	b.onlyReached(t)
}

func TestNoHelloReachesAServerThatNoRuleAllows(t *testing.T) {
	b := newBattlefield(t)
	b.site("rebound.example.com", "127.0.0.1", 443, b.counted("evil.example.com", b.overTLS(hello, "rebound.example.com")))
	b.site("liar.example.com", "93.184.215.66", 443, b.counted("liar", b.overTLS(hello, "evil.example.com")))
	m := newMesh(t, b.fakeNet, rule(t, "www.example.com"), rule(t, "rebound.example.com"), rule(t, "liar.example.com"), rule(t, "good.example.com:80"))
	roots := x509.NewCertPool()
	roots.AddCert(b.ca)
	const passed, denied, unknown = "", "tls: access denied", "tls: unrecognized name"
	for _, x := range []struct {
		what, dialed, sni string
		port              uint16
		want              string
		reached           []string
	}{
		{"the name that was dialled", "www.example.com", "www.example.com", 443, passed, []string{"www.example.com"}},
		{"the SNI of another", "www.example.com", "mail.example.com", 443, unknown, nil},
		{"the SNI of another that is allowed", "www.example.com", "rebound.example.com", 443, unknown, nil},
		{"no SNI", "www.example.com", "", 443, unknown, nil},
		{"an allowed SNI on a hostile address", "93.184.215.66", "www.example.com", 443, passed, []string{"www.example.com"}},
		{"a denied SNI on the address of an allowed name", "93.184.215.17", "mail.example.com", 443, denied, nil},
		{"no SNI on an address", "93.184.215.17", "", 443, unknown, nil},
		{"a name that leads to loopback", "rebound.example.com", "rebound.example.com", 443, denied, nil},
		{"a server that shows the certificate of another", "liar.example.com", "liar.example.com", 443, denied, []string{"liar"}},
		{"TLS where plain HTTP is allowed", "good.example.com", "good.example.com", 80, denied, nil},
	} {
		t.Run(x.what, func(t *testing.T) {
			var c net.Conn
			if a, err := netip.ParseAddr(x.dialed); err == nil {
				c = m.dialAddress(netip.AddrPortFrom(a, x.port))
			} else {
				c = m.dial(x.dialed, x.port)
			}
			c.SetDeadline(time.Now().Add(patience))
			err := tls.Client(c, &tls.Config{ServerName: x.sni, RootCAs: roots, InsecureSkipVerify: x.sni == ""}).Handshake()
			if (err == nil) != (x.want == passed) || err != nil && !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v, want %q", err, x.want)
			}
			b.onlyReached(t, x.reached...)
		})
	}
}

// Inside an upgraded connection all bytes are the server's own: they are no requests
// of ours, and go nowhere else.
func TestAnUpgradedConnectionIsNoWayElsewhere(t *testing.T) {
	b := newBattlefield(t)
	got := make(chan string, 1)
	b.site("ws.example.com", "93.184.215.20", 80, b.counted("ws.example.com", func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
		all, _ := io.ReadAll(r)
		got <- string(all)
	}))
	m := newMesh(t, b.fakeNet, rule(t, "ws.example.com:80"), rule(t, "good.example.com:80"))
	const inner = "GET / HTTP/1.1\r\nHost: good.example.com\r\n\r\nGET / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n"
	c := m.dial("ws.example.com", 80)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: ws.example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"+inner)
	c.CloseWrite()
	select {
	case all := <-got:
		if all != inner {
			t.Errorf("the server got %q", all)
		}
	case <-time.After(patience):
		t.Error("the server got nothing")
	}
	b.onlyReached(t, "ws.example.com")
}

// A hello whose real name is hidden proves nothing by the name that it shows, on a
// port of bytes as little as on one of TLS.
func TestAHiddenNameIsNoWayThroughAServerThatWouldFollowIt(t *testing.T) {
	key, list := echKey(t, "front.example.com")
	b := newBattlefield(t)
	front := b.fronted(key, "front.example.com", "hidden.example.com")
	b.site("front.example.com", "93.184.215.21", 443, front)
	b.fakeNet.mu.Lock()
	b.sites[netip.MustParseAddrPort("93.184.215.21:5000")] = b.sites[netip.MustParseAddrPort("93.184.215.21:443")]
	b.fakeNet.mu.Unlock()
	m := newMesh(t, b.fakeNet, rule(t, "front.example.com"), rule(t, "front.example.com:5000"))
	roots := x509.NewCertPool()
	roots.AddCert(b.ca)
	for _, port := range []uint16{443, 5000} {
		c := m.dial("front.example.com", port)
		c.SetDeadline(time.Now().Add(patience))
		err := tls.Client(c, &tls.Config{ServerName: "hidden.example.com", RootCAs: roots, MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: list}).Handshake()
		if err == nil {
			t.Errorf("port %d: hidden.example.com was reached", port)
		}
		if f := m.lastFlow(); f.Verdict != record.Denied || f.Reason != "encrypted-client-hello" {
			t.Errorf("port %d: the account says %+v", port, f)
		}
	}
	b.onlyReached(t)
}

// fronted serves TLS that follows the hidden name, and counts who asked for it.
func (b *battlefield) fronted(key tls.EncryptedClientHelloKey, shown, hidden string) func(net.Conn) {
	serve := b.overTLSConfig(&tls.Config{EncryptedClientHelloKeys: []tls.EncryptedClientHelloKey{key}}, shown, hidden)
	return func(c net.Conn) {
		s := serve(c)
		if s.Handshake() == nil && s.ConnectionState().ServerName == hidden {
			b.counted(hidden, echo)(s)
		}
	}
}

// echKey makes a key of Encrypted Client Hello (RFC 9849, section 4) and the list that
// a client is given.
func echKey(t *testing.T, public string) (tls.EncryptedClientHelloKey, []byte) {
	t.Helper()
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	contents := []byte{1, 0, 0x20} // config_id, DHKEM(X25519, HKDF-SHA256)
	contents = binary.BigEndian.AppendUint16(contents, 32)
	contents = append(contents, private.PublicKey().Bytes()...)
	contents = append(contents, 0, 4, 0, 1, 0, 1, 32) // HKDF-SHA256, AES-128-GCM; maximum_name_length
	contents = append(append(contents, byte(len(public))), public...)
	contents = append(contents, 0, 0) // no extensions
	config := binary.BigEndian.AppendUint16([]byte{0xfe, 0x0d}, uint16(len(contents)))
	config = append(config, contents...)
	list := append(binary.BigEndian.AppendUint16(nil, uint16(len(config))), config...)
	return tls.EncryptedClientHelloKey{Config: config, PrivateKey: private.Bytes(), SendAsRetry: true}, list
}

// A hello in the forms that no client sends, but that some server takes for one, is no way
// around a name: neither where only tcp rules hold the destination, nor beside rules on
// names. What no server can take for a hello is bytes.
func TestNoFormOfAHelloHidesItsNameFromATCPRule(t *testing.T) {
	n := newFakeNet(t)
	var reached atomic.Int32
	serve := func(c net.Conn) {
		b := make([]byte, 1)
		if _, err := io.ReadFull(c, b); err == nil {
			reached.Add(1)
			c.Write(b)
		}
	}
	n.site("db.example.com", "93.184.217.34", 5000, serve)
	n.site("mixed.example.com", "93.184.217.34", 5001, serve)
	m := newMesh(t, n, rule(t, "db.example.com:5000/tcp"), ranged("93.184.217.0/24", 5001), rule(t, "www.example.com:5001/https"))
	whole := helloFor(t, "evil.example.com")
	split := slices.Concat([]byte{0x16, 3, 1, 0, 20}, whole[5:25], []byte{0x16, 4, 1, byte((len(whole) - 25) >> 8), byte(len(whole) - 25)}, whole[25:])
	version := func(v byte) []byte {
		b := slices.Clone(whole)
		b[1] = v
		return b
	}
	mongo := append([]byte{0x16, 3, 0, 0, 7, 1, 0, 0, 0, 0, 0, 0, 0xdd, 7, 0, 0}, make([]byte, 790-16)...)
	for what, x := range map[string]struct {
		bytes  []byte
		passes bool
	}{
		"as clients send it":       {whole, false},
		"behind an empty record":   {append([]byte{0x16, 3, 1, 0, 0}, whole...), false},
		"behind a warning":         {append([]byte{0x15, 3, 1, 0, 2, 1, 90}, whole...), false},
		"in a record of version 4": {version(4), false},
		"in records of two":        {split, false},
		"MongoDB's 790 bytes":      {mongo, true},
		"a few bytes":              {[]byte{0x16, 9, 9, 9, 9, 9, 9, 9, 9, 9}, true},
	} {
		for _, port := range []uint16{5000, 5001} {
			t.Run(fmt.Sprintf("%s to port %d", what, port), func(t *testing.T) {
				reached.Store(0)
				c := m.dial("db.example.com", port)
				if port == 5001 {
					c = m.dialAddress(netip.MustParseAddrPort("93.184.217.34:5001"))
				}
				c.SetDeadline(time.Now().Add(patience))
				c.Write(x.bytes)
				b := make([]byte, 7)
				got, _ := io.ReadAtLeast(c, b, 1)
				switch {
				case x.passes && (got != 1 || b[0] != x.bytes[0]):
					t.Errorf("the client gets % x", b[:got])
				case !x.passes && (got != 7 || b[0] != 0x15): // an alert
					t.Errorf("the client gets % x", b[:got])
				case (reached.Load() > 0) != x.passes:
					t.Errorf("the server got bytes: %v", !x.passes)
				}
			})
		}
	}
}

// helloFor is the hello of Go's client.
func helloFor(t *testing.T, name string) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		tls.Client(client, &tls.Config{ServerName: name}).Handshake()
		client.Close()
	}()
	b := make([]byte, 64<<10)
	read, err := server.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:read]
}
