package proxy

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// ranged is a rule on a range of addresses, for tcp.
func ranged(cidr string, port uint16) policy.Rule {
	return policy.Rule{
		ID: "ranged", CIDRs: []netip.Prefix{netip.MustParsePrefix(cidr)}, Ports: []policy.Port{{Port: port, Protocol: policy.ProtocolTCP}},
	}
}

// got asks one request and returns "status reason body".
func got(t *testing.T, c net.Conn, request string) string {
	t.Helper()
	resp := exchange(t, c, bufio.NewReader(c), request)
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode == 200 {
		return fmt.Sprintf("200 %s", body)
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, resp.Header.Get("x-sluice-reason"))
}

// shake is a TLS handshake as a client of the fake internet has it; sni may be "".
func (n *fakeNet) shake(c net.Conn, sni string) error {
	roots := x509.NewCertPool()
	roots.AddCert(n.ca)
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	return tls.Client(c, &tls.Config{ServerName: sni, RootCAs: roots, InsecureSkipVerify: sni == ""}).Handshake()
}

func (n *fakeNet) wasAsked(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[name]
}

// A rule that relays bytes to a range of addresses does not open the requests on the
// same port that a rule on names holds, and what that rule allows goes to our own
// resolution of the name, never to the address that was dialled.
func TestARuleOnAddressesOpensNoRequestThatARuleOnNamesHolds(t *testing.T) {
	n := newFakeNet(t)
	answers := func(who string) func(net.Conn) {
		return func(c net.Conn) {
			bufio.NewReader(c).ReadString('\n')
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(who), who)
		}
	}
	n.site("www.example.com", "93.184.216.34", 80, answers("resolved"))
	n.site("dialled.invalid", "93.184.217.1", 80, answers("dialled"))
	www := rule(t, "www.example.com:80")
	www.HTTP = []policy.HTTPMatch{{Methods: []string{"GET"}, Paths: []string{"/public/*"}}}
	m := newMesh(t, n, ranged("93.184.217.0/24", 80), www)
	for path, want := range map[string]string{
		"/secret": "403 request-not-allowed", "/public/a": "200 resolved", "/public/../secret": "403 request-not-allowed",
	} {
		c := m.dialAddress(netip.MustParseAddrPort("93.184.217.1:80"))
		if got := got(t, c, "GET "+path+" HTTP/1.1\r\nHost: www.example.com\r\n\r\n"); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// A range as wide as the internet says "anywhere", not "here": neither the gate nor the
// dial takes it for consent to an address of the machine's own network.
func TestAWideRangeIsNoConsentToASpecialAddress(t *testing.T) {
	for _, wide := range []string{"0.0.0.0/0", "128.0.0.0/1", "169.0.0.0/8"} {
		n := newFakeNet(t)
		var reached atomic.Int32
		count := func(net.Conn) { reached.Add(1) }
		n.site("metadata.example.org", "169.254.169.254", 80, count)
		n.site("metadata5.example.org", "169.254.169.254", 5000, count)
		web := ranged(wide, 80)
		web.Ports[0].Protocol = policy.ProtocolHTTP
		m := newMesh(t, n, web, ranged(wide, 5000))
		for host, c := range map[string]net.Conn{
			"metadata.example.org": m.dial("metadata.example.org", 80), "169.254.169.254": m.dialAddress(netip.MustParseAddrPort("169.254.169.254:80")),
		} {
			if got := got(t, c, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); got != "403 private-address" {
				t.Errorf("%s, a request to %s: %s", wide, host, got)
			}
		}
		for what, c := range map[string]net.Conn{
			"a name": m.dial("metadata5.example.org", 5000), "a literal": m.dialAddress(netip.MustParseAddrPort("169.254.169.254:5000")),
		} {
			if err := ended(c); err != nil {
				t.Errorf("%s, bytes to %s: %v", wide, what, err)
			}
		}
		m.closed(4)
		for _, f := range m.ring.Recent(10, record.Filter{}) {
			if f.Verdict != record.Denied || f.Reason != refusal.PrivateAddress {
				t.Errorf("%s: a record says %+v", wide, f)
			}
		}
		if reached.Load() > 0 {
			t.Errorf("%s: the server was reached", wide)
		}
	}
}

// A name under the mesh's domain belongs to the mesh, whether a service of that name is
// there, has left, or never was: nobody outside is asked for it.
func TestANameOfTheMeshIsNeverResolvedOutside(t *testing.T) {
	n := newFakeNet(t)
	const details, left, never = "details.default.svc.cluster.local", "reviews.default.svc.cluster.local", "nobody.default.svc.cluster.local"
	for i, name := range []string{details, left, never} {
		n.site(name, fmt.Sprintf("93.184.220.%d", i+1), 80, hello)
	}
	for _, outbound := range []string{"Deny", "Audit"} {
		m := newMesh(t, n)
		m.service("details", hello)
		m.service("reviews", hello)
		m.peers = m.peers[:1]
		m.outbound = outbound
		m.allow(rule(t, "*:80"), rule(t, "*:443"), rule(t, "*:5000"))
		for _, name := range []string{details, left, never} {
			before := m.ring.Added()
			c := m.dialAddress(netip.MustParseAddrPort("93.184.220.9:80"))
			if got := got(t, c, "GET / HTTP/1.1\r\nHost: "+name+"\r\n\r\n"); got != "403 mesh-name" {
				t.Errorf("%s, Host %s: %s", outbound, name, got)
			}
			if err := n.shake(m.dialAddress(netip.MustParseAddrPort("93.184.220.9:443")), name); err == nil || !strings.Contains(err.Error(), "access denied") {
				t.Errorf("%s, SNI %s: %v", outbound, name, err)
			}
			m.closed(before + 2)
			if f := m.lastFlow(); f.Verdict != record.Denied || f.Reason != refusal.MeshName {
				t.Errorf("%s, SNI %s: the record says %+v", outbound, name, f)
			}
		}
		if got := got(t, m.dial(left, 80), "GET / HTTP/1.1\r\nHost: "+left+"\r\n\r\n"); got != "403 mesh-name" {
			t.Errorf("%s, dialled after it left: %s", outbound, got)
		}
		if err := ended(m.dial(left, 5000)); err != nil {
			t.Errorf("%s, bytes after it left: %v", outbound, err)
		}
	}
	for _, name := range []string{details, left, never} {
		if n.wasAsked(name) {
			t.Errorf("the resolver was asked for %s", name)
		}
	}
}

// No server name exists for an address (RFC 6066, section 3): TLS to one that a rule
// allows passes where the server shows a certificate of that address.
func TestTLSToAnAddressIsProvedByItsCertificate(t *testing.T) {
	n := newFakeNet(t)
	n.site("one.invalid", "151.101.1.20", 443, n.overTLS(hello, "151.101.1.20"))
	n.site("two.invalid", "151.101.1.21", 443, n.overTLS(hello, "two.invalid"))
	m := newMesh(t, n, rule(t, "151.101.1.20:443"), rule(t, "151.101.1.21:443"))
	if err := n.shake(m.dialAddress(netip.MustParseAddrPort("151.101.1.20:443")), ""); err != nil {
		t.Errorf("a server that proves its address: %v", err)
	}
	if err := n.shake(m.dialAddress(netip.MustParseAddrPort("151.101.1.21:443")), ""); err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("a server that does not: %v", err)
	}
	m.closed(2)
	denied := m.ring.Recent(2, record.Filter{Verdict: record.Denied}) // either may have been closed last
	if len(denied) != 1 || denied[0].Dialled != "151.101.1.21" || denied[0].Reason != refusal.CertificateFail || denied[0].Treatment != policy.Passthrough {
		t.Errorf("the records say %+v", denied)
	}
	if err := n.shake(m.dialAddress(netip.MustParseAddrPort("151.101.1.22:443")), ""); err == nil {
		t.Error("an address without a rule is reached")
	}
}

// Audit lets pass what no rule allows, says so, and lifts nothing else.
func TestAuditLiftsTheLackOfARuleAlone(t *testing.T) {
	n := newFakeNet(t)
	n.site("web.example.com", "93.184.221.1", 80, hello)
	n.site("tls.example.com", "93.184.221.2", 443, n.overTLS(hello, "tls.example.com"))
	n.site("wrong.example.com", "93.184.221.3", 443, n.overTLS(hello, "other.example.com"))
	n.site("db.example.com", "93.184.221.4", 5000, echo)
	n.site("private.example.com", "10.0.0.1", 80, hello)
	n.site("ruled.example.com", "93.184.221.5", 80, hello)
	ruled := rule(t, "ruled.example.com:80")
	ruled.HTTP = []policy.HTTPMatch{{Methods: []string{"GET"}}}
	m := newMesh(t, n)
	m.outbound = "Audit"
	m.allow(ruled)
	request := func(host string) string { return "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n" }
	ask := func(dialled, say string) func() string {
		return func() string { return got(t, m.dial(dialled, 80), say) }
	}
	shake := func(name, sni string) func() string {
		return func() string {
			if err := n.shake(m.dial(name, 443), sni); err != nil {
				return "denied"
			}
			return "passed"
		}
	}
	for _, x := range []struct {
		what    string
		do      func() string
		want    string
		verdict record.Verdict
		reason  refusal.Reason
		rule    string
	}{
		{"a request", ask("web.example.com", request("web.example.com")), "200 web.example.com", record.Audited, refusal.NoRule, policy.AuditRule},
		{"plain HTTP to a TLS port", func() string { return got(t, m.dial("tls.example.com", 443), request("tls.example.com")) }, "200 tls.example.com", record.Audited, refusal.NoRule, policy.AuditRule},
		{"the Host of another", ask("web.example.com", request("ruled.example.com")), "403 name-mismatch", record.Denied, refusal.NameMismatch, ""},
		{"another port in the Host", ask("web.example.com", request("web.example.com:81")), "403 port-mismatch", record.Denied, refusal.PortMismatch, ""},
		{"a private address", ask("private.example.com", request("private.example.com")), "403 private-address", record.Denied, refusal.PrivateAddress, policy.AuditRule},
		{"a request that a rule on the host denies", ask("ruled.example.com", "DELETE / HTTP/1.1\r\nHost: ruled.example.com\r\n\r\n"), "403 request-not-allowed", record.Denied, refusal.MethodOrPath, ruled.ID},
		{"a request that a rule allows", ask("ruled.example.com", request("ruled.example.com")), "200 ruled.example.com", record.Allowed, "", ruled.ID},
		{"two Hosts", ask("web.example.com", "GET / HTTP/1.1\r\nHost: web.example.com\r\nHost: x\r\n\r\n"), "400 request-malformed", record.Denied, refusal.RequestMalformed, ""},
		{"a Host that is none", ask("web.example.com", request("a..b")), "403 bad-host", record.Denied, refusal.BadHost, ""},
		{"TLS", shake("tls.example.com", "tls.example.com"), "passed", record.Audited, refusal.NoRule, policy.AuditRule},
		{"the SNI of another", shake("tls.example.com", "web.example.com"), "denied", record.Denied, refusal.NameMismatch, ""},
		{"TLS without an SNI", shake("tls.example.com", ""), "denied", record.Denied, refusal.NoServerName, ""},
		{"a server that is another", shake("wrong.example.com", "wrong.example.com"), "denied", record.Denied, refusal.CertificateFail, policy.AuditRule},
	} {
		before := m.ring.Added()
		if got := x.do(); got != x.want {
			t.Errorf("%s: %s, want %s", x.what, got, x.want)
		}
		m.closed(before + 1)
		if f := m.lastFlow(); f.Verdict != x.verdict || f.Reason != x.reason || f.Rule != x.rule {
			t.Errorf("%s: the record says %s %s %q, want %s %s %q", x.what, f.Verdict, f.Reason, f.Rule, x.verdict, x.reason, x.rule)
		}
	}
}

// What lives by audit alone ends when the mesh asks for it no more.
func TestWhatLivesByAuditEndsWithIt(t *testing.T) {
	n := newFakeNet(t)
	for _, kind := range liveKinds(t, n) {
		t.Run(kind.name, func(t *testing.T) {
			m := newMesh(t, n)
			m.outbound = "Audit"
			m.allow()
			c := kind.open(t, m)
			m.allow(rule(t, "other.example.com")) // is none of its business
			for _, f := range m.proxy.Live(10, record.Filter{}) {
				if f.Verdict != record.Audited || f.Reason != refusal.NoRule || f.Rule != policy.AuditRule {
					t.Errorf("the open record says %+v", f)
				}
			}
			m.outbound = "Deny"
			within(t, patience, "the swap waits for a connection", func() { m.allow() })
			ends(t, c)
		})
	}
}

// A request whose target is an https URL asks for TLS: a rule that forwards plain HTTP is
// not for it. One that sends it over TLS is.
func TestAnHTTPSTargetIsNotForwardedInTheClear(t *testing.T) {
	n := newFakeNet(t)
	n.site("www.example.com", "93.184.223.1", 80, hello)
	n.site("tls.example.com", "93.184.223.2", 443, n.overTLS(hello, "tls.example.com"))
	for _, outbound := range []string{"Deny", "Audit"} {
		m := newMesh(t, n)
		m.outbound = outbound
		m.allow(rule(t, "www.example.com:80"), rule(t, "tls.example.com"))
		c := m.dial("www.example.com", 80)
		r := bufio.NewReader(c)
		for _, x := range []struct{ target, want string }{
			{"http://www.example.com/", ""}, {"https://www.example.com/", "scheme-mismatch"}, {"/", ""},
		} {
			resp := exchange(t, c, r, "GET "+x.target+" HTTP/1.1\r\nHost: www.example.com\r\n\r\n")
			if got := resp.Header.Get("x-sluice-reason"); got != x.want {
				t.Errorf("%s, %s: %d %q, want %q", outbound, x.target, resp.StatusCode, got, x.want)
			}
		}
		if got := got(t, m.dial("tls.example.com", 443), "GET https://tls.example.com/ HTTP/1.1\r\nHost: tls.example.com\r\n\r\n"); got != "200 tls.example.com" {
			t.Errorf("%s, over TLS: %s", outbound, got)
		}
	}
}

// Where a rule lists requests, what they may ask to change to is listed too: nobody reads
// on after the change.
func TestAnUpgradeThatNoRuleListsIsDenied(t *testing.T) {
	n := newFakeNet(t)
	switches := func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(req.Header.Get("Upgrade")), req.Header.Get("Upgrade"))
		}
	}
	n.site("some.example.com", "93.184.223.3", 80, switches)
	n.site("any.example.com", "93.184.223.4", 80, switches)
	some := rule(t, "some.example.com:80")
	some.HTTP = []policy.HTTPMatch{{Methods: []string{"GET"}, Upgrades: []string{"websocket"}}}
	m := newMesh(t, n, some, rule(t, "any.example.com:80"))
	for _, x := range []struct{ host, upgrade, want string }{
		{"some.example.com", "websocket", "200 websocket"}, {"some.example.com", "WebSocket", "200 WebSocket"},
		{"some.example.com", "h2", "403 upgrade-not-allowed"}, {"some.example.com", "HTTP/2.0", "403 upgrade-not-allowed"},
		{"some.example.com", "TLS/1.0", "403 upgrade-not-allowed"}, {"any.example.com", "anything", "200 anything"},
	} {
		before := m.ring.Added()
		request := "GET / HTTP/1.1\r\nHost: " + x.host + "\r\nConnection: upgrade\r\nUpgrade: " + x.upgrade + "\r\n\r\n"
		if got := got(t, m.dial(x.host, 80), request); got != x.want {
			t.Errorf("%s to %s: %s, want %s", x.upgrade, x.host, got, x.want)
		}
		m.closed(before + 1)
		if f := m.lastFlow(); f.Upgrade != x.upgrade {
			t.Errorf("the record says %q", f.Upgrade)
		}
	}
}

// Whoever says too little at first is looked at when it says more: neither silence, nor
// half a word, nor empty lines, nor a name that leads into the range opens the requests
// that a rule on names holds.
func TestNoBeginningOfAConnectionHidesARequestFromARuleOnNames(t *testing.T) {
	n := newFakeNet(t)
	var reached atomic.Int32
	serve := func(c net.Conn) {
		if _, err := bufio.NewReader(c).ReadString('\n'); err == nil {
			reached.Add(1)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		}
	}
	n.site("www.example.com", "93.184.217.34", 80, serve)
	n.site("evil.example", "93.184.217.34", 80, serve)
	www := rule(t, "www.example.com:80")
	www.HTTP = []policy.HTTPMatch{{Methods: []string{"GET"}, Paths: []string{"/public/*"}}}
	m := newMesh(t, n, ranged("93.184.217.0/24", 80), www)
	const secret = "GET /secret HTTP/1.1\r\nHost: www.example.com\r\n\r\n"
	server := netip.MustParseAddrPort("93.184.217.34:80")
	for _, x := range []struct {
		say         string
		first, rest string
		name        string // dialled; "": the server's address
		want        string
	}{
		{say: "silence", rest: secret, want: "403 request-not-allowed"},
		{say: "half a word", first: "G", rest: secret[1:], want: "403 request-not-allowed"},
		{say: "a method that is longer than any", first: strings.Repeat("A", 40), rest: secret[3:], want: "403 request-not-allowed"},
		{say: "a version in small letters", first: "GET /secret http/1.1\r\nHost: www.example.com\r\n\r\n", want: "400 request-malformed"},
		{say: "empty lines", first: "\r\n\r\n\r\n\r\n" + secret, want: "400 request-malformed"},
		{say: "a name of its own", first: secret, name: "evil.example", want: "403 name-mismatch"},
	} {
		t.Run(x.say, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			var c net.Conn
			if x.name != "" {
				c = m.dial(x.name, 80)
			} else {
				c = m.dialAddress(server)
			}
			io.WriteString(c, x.first)
			if x.rest != "" {
				time.Sleep(sniff.DefaultSilence + 500*time.Millisecond) // longer than it is waited for
			}
			if got := got(t, c, x.rest); got != x.want {
				t.Errorf("%s, want %s", got, x.want)
			}
			if reached.Load() > 0 {
				t.Error("the server was asked")
			}
		})
	}
}

// A server that speaks first is reached where rules on names are on its port too, by a
// client that waits for it.
func TestAServerThatSpeaksFirstIsReachedBesideRulesOnNames(t *testing.T) {
	n := newFakeNet(t)
	n.site("mail.example.org", "93.184.217.1", 80, func(c net.Conn) {
		io.WriteString(c, "220 hello\r\n")
		echo(c)
	})
	m := newMesh(t, n, ranged("93.184.217.0/24", 80), rule(t, "www.example.com:80"))
	for say, request := range map[string]string{"its own protocol": "EHLO me\r\n", "a request": "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"} {
		t.Run(say, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			c := m.dialAddress(netip.MustParseAddrPort("93.184.217.1:80"))
			c.SetDeadline(time.Now().Add(patience))
			r := bufio.NewReader(c)
			if line, err := r.ReadString('\n'); err != nil || line != "220 hello\r\n" {
				t.Fatalf("it says %q, %v", line, err)
			}
			io.WriteString(c, request)
			line, err := r.ReadString('\n')
			if isHTTP := say == "a request"; isHTTP != (err != nil) || !isHTTP && line != request {
				t.Errorf("%q is answered with %q, %v", request, line, err)
			}
		})
	}
}
