package policy

import (
	"net/netip"
	"testing"

	"sluice.dev/sluice/internal/httppath"
)

// chainOf adds what only some tests need to a chain.
func (c Chain) upgrade(protocol string) Chain { c.Upgrade = protocol; return c }
func (c Chain) https() Chain                  { c.HTTPS = true; return c }

func TestARuleOnANameClaimsARequestThatIsSentToAnAddressOfAnother(t *testing.T) {
	s := newSet(t, rule("net", "93.184.217.0/24", "80/tcp"), rule("web", "www.example.com", "80/http").requests("GET", "/public/*"))
	at := "93.184.217.1"
	if got := s.AtConnect(TCP, 80, name(""), netip.MustParseAddr(at)); got.AsBytes || got.ServerFirst || !got.Possible {
		t.Errorf("at connect: %+v", got)
	}
	check(t, s, "a path that the name's rule does not list", dialledAddr(at, 80).get("www.example.com", "/secret"), "request-not-allowed")
	v := check(t, s, "one that it lists", dialledAddr(at, 80).get("www.example.com", "/public/a"), "forward by web")
	if v.Name != name("www.example.com") || v.Addr.IsValid() {
		t.Errorf("decided on %s %s: the address that was dialled counts", v.Name, v.Addr)
	}
	check(t, s, "what names no host is the address's", dialledAddr(at, 80).get(at, "/secret"), "relay by net")
}

func TestOnlyARangeInsideOneBlockIsConsentToSpecialAddresses(t *testing.T) {
	metadata := netip.MustParseAddr("169.254.169.254")
	for cidr, consents := range map[string]bool{
		"0.0.0.0/0": false, "0.0.0.0/1": false, "168.0.0.0/7": false, "169.254.0.0/16": true, "169.254.169.254/32": true,
	} {
		s := newSet(t, rule("net", cidr, "80/tcp"))
		v := s.Decide(&Chain{Port: 80, Dialled: name("a.example"), Sniffed: Opaque})
		if !v.Passes() {
			t.Errorf("%s: a name is %s", cidr, v)
		}
		if got := v.Consent.Judge(metadata) == ""; got != consents && netip.MustParsePrefix(cidr).Contains(metadata) {
			t.Errorf("%s: a name may lead to %s: %t", cidr, metadata, got)
		}
		want := "private-address"
		if !netip.MustParsePrefix(cidr).Contains(metadata) {
			want = "no-rule"
		} else if consents {
			want = "relay by net"
		}
		check(t, s, cidr+": the address itself", dialledAddr(metadata.String(), 80).opaque(), want)
	}
}

func TestNamesOfTheMeshAreNeverAllowedOutside(t *testing.T) {
	s, err := NewSet([]Rule{rule("all", "*", "80/http", "443/https"), rule("named", "gone.default.svc.cluster.local", "80/http")},
		Options{Domain: name("cluster.local"), Outbound: Audit})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"details.default.svc.cluster.local", "gone.default.svc.cluster.local", "cluster.local"} {
		check(t, s, n, dialledAddr("93.184.217.1", 80).get(n, "/"), "mesh-name")
		check(t, s, n, dialledAddr("93.184.217.1", 443).tls(n), "mesh-name")
		check(t, s, n, dialled(n, 80).get(n, "/"), "mesh-name")
	}
	check(t, s, "another name", dialled("notcluster.local", 80).get("notcluster.local", "/"), "forward by all")
}

func TestWhereRequestsAreListedUpgradesAreToo(t *testing.T) {
	listed := rule("listed", "ws.example.com", "80/http").requests("GET", "/chat")
	listed.HTTP[0].Upgrades = []string{"websocket"}
	s := newSet(t, listed, rule("paths", "www.example.com", "80/http").requests("", "/a"), rule("any", "any.example.com", "80/http"))
	for _, c := range []struct{ host, path, upgrade, want string }{
		{"ws.example.com", "/chat", "websocket", "forward by listed"},
		{"ws.example.com", "/chat", "WebSocket", "forward by listed"},
		{"ws.example.com", "/chat", "", "forward by listed"},
		{"ws.example.com", "/chat", "h2", "upgrade-not-allowed"},
		{"ws.example.com", "/other", "websocket", "request-not-allowed"},
		{"www.example.com", "/a", "", "forward by paths"},
		{"www.example.com", "/a", "websocket", "upgrade-not-allowed"},
		{"www.example.com", "/a", "HTTP/2.0", "upgrade-not-allowed"},
		{"www.example.com", "/a", "TLS/1.0", "upgrade-not-allowed"},
		{"any.example.com", "/a", "anything", "forward by any"},
	} {
		check(t, s, c.host+c.path+" "+c.upgrade, dialled(c.host, 80).get(c.host, c.path).upgrade(c.upgrade), c.want)
	}
}

func TestAnHTTPSTargetIsNotForwardedInTheClear(t *testing.T) {
	s, err := NewSet([]Rule{
		rule("plain", "www.example.com", "80/http"), rule("tls", "www.example.com", "443/https"), rule("net", "93.184.216.0/24", "8080/http"),
	}, Options{Outbound: Audit})
	if err != nil {
		t.Fatal(err)
	}
	n := "www.example.com"
	check(t, s, "an http rule", dialled(n, 80).get(n, "/").https(), "scheme-mismatch")
	check(t, s, "an https rule, under which Sluice makes the TLS", dialled(n, 443).get(n, "/").https(), "originate by tls")
	check(t, s, "rules on addresses", dialled("a.example", 8080).get("a.example", "/").https(), "scheme-mismatch")
	check(t, s, "no rule, with audit", dialled("a.example", 80).get("a.example", "/").https(), "scheme-mismatch")
	check(t, s, "an http target", dialled(n, 80).get(n, "/"), "forward by plain")
}

func TestPathsThatAreNotUTF8AreNotNormal(t *testing.T) {
	for path, normal := range map[string]bool{
		"/books/v1/%c0%ae%c0%ae/admin": false, // an overlong ".."
		"/a/%e0%80%af":                 false, // an overlong "/"
		"/%ff":                         false,
		"/%C3":                         false, // half a character
		"/%C3/%A9":                     false,
		"/%ed%a0%80":                   false, // half of a surrogate pair
		"/%f4%90%80%80":                false, // above U+10FFFF
		"/%C3%A9/%e2%82%ac":            true,
		"/%f0%9f%98%80":                true,
		"/%EF%BF%BD":                   true, // U+FFFD itself, spelled right
		"/a%20b":                       true,
	} {
		if httppath.IsNormal(path) != normal {
			t.Errorf("%s: normal is not %t", path, normal)
		}
	}
}

func TestTLSToAnAddressNamesNobodyAndIsHeldAgainstTheAddress(t *testing.T) {
	s := newSet(t, rule("fastly", "151.101.1.20/32", "443/https", "444/tls"))
	v := check(t, s, "without SNI", dialledAddr("151.101.1.20", 443).tls(""), "passthrough by fastly")
	if v.Addr != netip.MustParseAddr("151.101.1.20") || !v.Name.IsZero() {
		t.Errorf("decided on %s %s", v.Name, v.Addr)
	}
	check(t, s, "as tls", dialledAddr("151.101.1.20", 444).tls(""), "passthrough by fastly")
	check(t, s, "another address", dialledAddr("151.101.1.21", 443).tls(""), "no-server-name")
	check(t, s, "a name without SNI", dialled("a.example", 443).tls(""), "no-server-name")
}

func TestPortsOfAnotherTransportHaveNoTierHere(t *testing.T) {
	s := newSet(t, rule("web", "www.example.com", "443/https"))
	udp := dialled("www.example.com", 443).opaque()
	udp.Transport = UDP
	check(t, s, "udp/443", udp, "no-rule")
	if s.AtConnect(UDP, 443, name("www.example.com"), netip.Addr{}).Possible {
		t.Error("udp/443 may be allowed by a rule on tcp/443")
	}
}

// Whoever dials chooses the name under a wildcard or in a range, and may let it lead to
// the server of a name that another rule holds for some requests.
func TestANameThatTheClientChoseIsNoWayAroundARuleOnRequests(t *testing.T) {
	for say, wide := range map[string]Rule{"a range": rule("wide", "93.184.217.0/24", "80/tcp"), "a wildcard": rule("wide", "*", "80/tcp")} {
		s := newSet(t, wide, rule("web", "www.example.com", "80/http").requests("GET", "/public/*"))
		if got := s.AtConnect(TCP, 80, name("evil.example"), netip.Addr{}); got.AsBytes || got.ServerFirst || !got.Watch {
			t.Errorf("%s: at connect: %+v", say, got)
		}
		check(t, s, say, dialled("evil.example", 80).get("www.example.com", "/secret"), "name-mismatch")
		check(t, s, say, dialled("evil.example", 80).get("evil.example", "/"), "relay by wide")
	}
	s := newSet(t, rule("db", "db.example.com", "80/tcp"), rule("web", "www.example.com", "80/http"))
	if got := s.AtConnect(TCP, 80, name("db.example.com"), netip.Addr{}); !got.AsBytes || got.Watch {
		t.Errorf("a name that a tcp rule spells out: at connect: %+v", got)
	}
}

// A rule on addresses that lists upgrades and nothing else says the same of a name that
// leads into its range as of the address.
func TestUpgradesThatARuleOnAddressesDoesNotListAreDeniedForNamesToo(t *testing.T) {
	net := rule("net", "93.184.217.0/24", "80/http")
	net.HTTP = []HTTPMatch{{Upgrades: []string{"websocket"}}}
	s := newSet(t, net)
	for upgrade, want := range map[string]string{"": "forward by net", "WebSocket": "forward by net", "h2c": "upgrade-not-allowed"} {
		check(t, s, "an address, "+upgrade, dialledAddr("93.184.217.1", 80).get("93.184.217.1", "/").upgrade(upgrade), want)
		check(t, s, "a name, "+upgrade, dialled("a.example", 80).get("a.example", "/").upgrade(upgrade), want)
	}
}
