package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/refusal"
)

func name(s string) names.Name {
	if s == "" {
		return names.Name{}
	}
	return names.MustParse(s)
}

// rule builds a rule from "host or cidr", "port/protocol" words.
func rule(id string, to string, ports ...string) Rule {
	r := Rule{ID: id}
	for _, word := range strings.Fields(to) {
		if strings.Contains(word, "/") {
			r.CIDRs = append(r.CIDRs, netip.MustParsePrefix(word))
		} else {
			r.Hosts = append(r.Hosts, names.MustParsePattern(word))
		}
	}
	for _, word := range ports {
		number, protocol, _ := strings.Cut(word, "/")
		var p Port
		if _, err := fmt.Sscan(number, &p.Port); err != nil {
			panic(err)
		}
		var err error
		if p.Protocol, err = ParseProtocol(protocol); err != nil {
			panic(err)
		}
		r.Ports = append(r.Ports, p)
	}
	return r
}

func (r Rule) requests(methods, paths string) Rule {
	r.HTTP = append(r.HTTP, HTTPMatch{Methods: strings.Fields(methods), Paths: strings.Fields(paths)})
	return r
}

func (r Rule) mode(m TLSMode) Rule { r.TLS.Mode = m; return r }

func newSet(t testing.TB, rules ...Rule) *Set {
	t.Helper()
	s, err := NewSet(rules, Options{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Chains, said in words.

func dialled(n string, port uint16) Chain { return Chain{Dialled: name(n), Port: port} }

func dialledAddr(a string, port uint16) Chain { return Chain{Addr: netip.MustParseAddr(a), Port: port} }

func (c Chain) tls(sni string) Chain {
	c.Sniffed, c.SNI = ClientHello, name(sni)
	return c
}

func (c Chain) get(host, path string) Chain {
	c.Sniffed, c.Method, c.Path = HTTP, "GET", path
	if host != "" {
		h, err := names.ParseHost(host)
		if err != nil {
			panic(err)
		}
		c.Host = h
	}
	return c
}

func (c Chain) opaque() Chain { c.Sniffed = Opaque; return c }

func (c Chain) method(m string) Chain { c.Method = m; return c }

// check decides and compares with "treatment by rule" or a reason.
func check(t *testing.T, s *Set, say string, c Chain, want string) Verdict {
	t.Helper()
	v := s.Decide(&c)
	got := string(v.Reason)
	if v.Action == Allow {
		got = v.Treatment.String() + " by " + v.Rule.ID
		if v.Reason != "" {
			t.Errorf("%s: allowed with reason %s", say, v.Reason)
		}
	} else if v.Treatment != Refuse || v.Consent.Ranges() != nil || v.ECH {
		t.Errorf("%s: a denial with %+v", say, v)
	}
	if got != want {
		t.Errorf("%s: %s, want %s", say, got, want)
	}
	return v
}

const googleapis, google = "www.googleapis.com", "www.google.com"

func TestTheNameChain(t *testing.T) {
	s := newSet(t, rule("apis", "*.googleapis.com", "443/https"), rule("plain", "www.example.com", "80/http"),
		rule("db", "db.example.com", "5432/tcp"), rule("all", "*", "8443/https"), rule("net", "192.0.2.0/24", "5432/tcp", "8080/http"))
	for _, c := range []struct {
		say   string
		chain Chain
		want  string
	}{
		{"SNI equal to the name dialled", dialled(googleapis, 443).tls(googleapis), "passthrough by apis"},
		{"Host equal to the name dialled", dialled(googleapis, 443).get(googleapis, "/"), "originate by apis"},
		{"Host with the port, as Istio 0.5 had it", dialled(googleapis, 443).get(googleapis+":443", "/"), "originate by apis"},
		{"SNI of another allowed name", dialled(googleapis, 443).tls("fcm.googleapis.com"), "name-mismatch"},
		{"Host of another allowed name", dialled(googleapis, 443).get("fcm.googleapis.com", "/"), "name-mismatch"},
		{"SNI of a denied name behind an allowed one", dialled(googleapis, 443).tls(google), "name-mismatch"},
		{"an allowed SNI behind a denied name", dialled(google, 443).tls(googleapis), "name-mismatch"},
		{"an allowed Host behind a denied name", dialled(google, 443).get(googleapis, "/"), "name-mismatch"},
		{"an allowed Host at a hostile address: the address is ignored", dialledAddr("203.0.113.66", 443).get(googleapis, "/"), "originate by apis"},
		{"an allowed SNI at a hostile address: the address is ignored", dialledAddr("203.0.113.66", 443).tls(googleapis), "passthrough by apis"},
		{"a denied SNI at a hard-coded address", dialledAddr("203.0.113.66", 443).tls(google), "no-rule"},
		{"TLS without SNI to an allowed name", dialled(googleapis, 443).tls(""), "no-server-name"},
		{"TLS without SNI to a tcp rule's name", dialled("db.example.com", 5432).tls(""), "relay by db"},
		{"TLS without SNI to a tcp rule's address", dialledAddr("192.0.2.1", 5432).tls(""), "relay by net"},
		{"TLS without SNI to an address", dialledAddr("203.0.113.66", 443).tls(""), "no-server-name"},
		{"HTTP without Host to an allowed name", dialled("www.example.com", 80).get("", "/"), "forward by plain"},
		{"HTTP without Host to an address", dialledAddr("203.0.113.66", 80).get("", "/"), "no-host"},
		{"HTTP without Host to an address with an http rule", dialledAddr("192.0.2.1", 8080).get("", "/"), "no-host"},
		{"HTTP without Host to an address with a tcp rule", dialledAddr("192.0.2.1", 5432).get("", "/"), "relay by net"},
		{"Host is an address that a rule holds", dialledAddr("192.0.2.1", 8080).get("192.0.2.1:8080", "/"), "forward by net"},
		{"Host is another address than the one dialled", dialledAddr("192.0.2.1", 8080).get("192.0.2.2:8080", "/"), "name-mismatch"},
		{"Host is an address behind a name", dialled("www.example.com", 80).get("192.0.2.1", "/"), "name-mismatch"},
		{"Host is an address under \"*\"", dialledAddr("203.0.113.66", 8443).get("203.0.113.66", "/"), "address-literal"},
		{"an address under \"*\"", dialledAddr("203.0.113.66", 8443).opaque(), "address-literal"},
		{"Host with another port", dialled("www.example.com", 80).get("www.example.com:8080", "/"), "port-mismatch"},
		{"on a tcp rule nothing of a request is looked at", dialled("db.example.com", 5432).get("db.example.com:80", "/"), "relay by db"},
		{"the apex of a wildcard", dialled("googleapis.com", 443).tls("googleapis.com"), "no-rule"},
		{"a neighbour of a wildcard", dialled("evilgoogleapis.com", 443).tls("evilgoogleapis.com"), "no-rule"},
		{"an allowed name on another port", dialled(googleapis, 9090).tls(googleapis), "no-rule"},
		{"an address without a rule", dialledAddr("198.51.100.1", 5432).opaque(), "address-literal"},
		{"a synthetic address that nobody was given, with no name", dialledAddr("198.19.0.7", 5432).opaque(), "address-literal"},
		{"a synthetic address as Host", Chain{Port: 8080}.get("198.19.0.7", "/"), "no-rule"},
		{"a v4-mapped address is the v4 one", dialledAddr("::ffff:192.0.2.1", 5432).opaque(), "relay by net"},
		{"nothing at all", Chain{Port: 443}.opaque(), "address-literal"},
		{"SNI and inner Host differ", Chain{Port: 443, SNI: name(googleapis)}.get("fcm.googleapis.com", "/"), "name-mismatch"},
		{"a different SNI on a tcp rule", dialled("db.example.com", 5432).tls("other.example.com"), "name-mismatch"},
	} {
		check(t, s, c.say, c.chain, c.want)
	}
	bad := dialled(googleapis, 443).tls("")
	bad.SNIBad = true
	check(t, s, "an SNI that is not a valid name", bad, "bad-host")
	bad = dialled(googleapis, 443).get("", "/")
	bad.HostBad = true
	check(t, s, "a Host that is not a valid authority", bad, "bad-host")
}

func TestSyntheticAddressesNeverMatchARange(t *testing.T) {
	s := newSet(t, rule("all", "0.0.0.0/0 ::/0", "443/tcp"), rule("own", "198.19.0.0/24 198.18.0.1/32 2001:2::/64", "443/tcp"))
	for addr, want := range map[string]string{
		"198.19.0.7": "no-rule", "198.18.0.1": "no-rule", "2001:2::1": "no-rule", "fd00:5c::1": "no-rule",
		"8.8.8.8": "relay by all", "2600::1": "relay by all", "192.0.2.1": "private-address", "2001:db8::1": "private-address",
	} {
		check(t, s, addr, dialledAddr(addr, 443).opaque(), want)
	}
}

func TestProtocols(t *testing.T) {
	n := "www.example.com"
	kinds := []Chain{dialled(n, 443).get(n, "/"), dialled(n, 443).tls(n), dialled(n, 443).opaque()}
	for _, c := range []struct {
		say  string
		rule Rule
		want [3]string // of HTTP, TLS, opaque
	}{
		{"https", rule("r", n, "443/https"), [3]string{"originate by r", "passthrough by r", "protocol-mismatch"}},
		{"https, Originate", rule("r", n, "443/https").mode(TLSOriginate), [3]string{"originate by r", "protocol-mismatch", "protocol-mismatch"}},
		{"https, Passthrough", rule("r", n, "443/https").mode(TLSPassthrough), [3]string{"protocol-mismatch", "passthrough by r", "protocol-mismatch"}},
		{"tls", rule("r", n, "443/tls"), [3]string{"protocol-mismatch", "passthrough by r", "protocol-mismatch"}},
		{"http", rule("r", n, "443/http"), [3]string{"forward by r", "protocol-mismatch", "protocol-mismatch"}},
		{"tcp", rule("r", n, "443/tcp"), [3]string{"relay by r", "relay by r", "relay by r"}},
		{"mongo", rule("r", n, "443/mongo"), [3]string{"relay by r", "relay by r", "relay by r"}},
		{"https and tcp", rule("r", n, "443/tcp", "443/https"), [3]string{"originate by r", "passthrough by r", "relay by r"}},
		{"http and tcp", rule("r", n, "443/http", "443/tcp"), [3]string{"forward by r", "relay by r", "relay by r"}},
		{"tls and tcp", rule("r", n, "443/tls", "443/tcp"), [3]string{"relay by r", "passthrough by r", "relay by r"}},
		{"https that asks for a path", rule("r", n, "443/https").requests("GET", "/"), [3]string{"originate by r", "protocol-mismatch", "protocol-mismatch"}},
		{"tcp that asks for a path", rule("r", n, "443/tcp").requests("GET", "/"), [3]string{"protocol-mismatch", "protocol-mismatch", "protocol-mismatch"}},
		{"requests that ask for nothing", rule("r", n, "443/https").requests("", ""), [3]string{"originate by r", "passthrough by r", "protocol-mismatch"}},
	} {
		s := newSet(t, c.rule)
		for i, chain := range kinds {
			check(t, s, c.say+": "+chain.Sniffed.String(), chain, c.want[i])
		}
	}
}

func TestAPathRuleIsNotWalkedAroundByTCP(t *testing.T) {
	s := newSet(t, rule("a", "www.example.com", "80/http").requests("GET", "/ok"), rule("b", "www.example.com", "80/tcp"))
	check(t, s, "the path", dialled("www.example.com", 80).get("www.example.com", "/ok"), "forward by a")
	check(t, s, "another path", dialled("www.example.com", 80).get("www.example.com", "/secret"), "request-not-allowed")
	check(t, s, "what is not HTTP", dialled("www.example.com", 80).opaque(), "relay by b")
}

func TestMethodsAndPaths(t *testing.T) {
	s := newSet(t, rule("r", "api.example.com", "80/http").requests("GET HEAD", "/books/v1/* /exact").requests("POST", "/in"))
	for _, c := range []struct {
		method, path string
		want         bool
	}{
		{"GET", "/books/v1/volumes", true},
		{"HEAD", "/books/v1/volumes", true},
		{"GET", "/books/v1/", true},
		{"GET", "/books/v1", false},
		{"GET", "/books/v10", false},
		{"GET", "/exact", true},
		{"GET", "/exact/", false},
		{"POST", "/in", true},
		{"POST", "/exact", false},
		{"GET", "/in", false},
		{"get", "/exact", false},
		{"DELETE", "/exact", false},
		{"GET", "/books/v1/a%20b", true},
		{"GET", "/books/v1/%C3%A9", true},
		{"GET", "/books/v1/a/", true},
		{"GET", "/books/v1/..", false},
		{"GET", "/books/v1/../secret", false},
		{"GET", "/books/v1/./x", false},
		{"GET", "/books/v1/x/../../../secret", false},
		{"GET", "/books/v1/%2e%2e/secret", false},
		{"GET", "/books/v1/%2E%2E/secret", false},
		{"GET", "/books/v1/.%2e/secret", false},
		{"GET", "/books/v1/..%2fsecret", false},
		{"GET", "/books/v1/..%5csecret", false},
		{"GET", `/books/v1/..\secret`, false},
		{"GET", "/books/v1/..;/secret", false},
		{"GET", "/books/v1/x;y=z", false},
		{"GET", "/books/v1/%3b/x", false},
		{"GET", "/books/v1//x", false},
		{"GET", "//books/v1/x", false},
		{"GET", "/books/v1/%252e%252e/secret", false},
		{"GET", "/books/v1/%00", false},
		{"GET", "/books/v1/%0d%0a", false},
		{"GET", "/books/v1/%7", false},
		{"GET", "/books/v1/%", false},
		{"GET", "/books/v1/%zz", false},
		{"GET", "/books/v1/%61", false},
		{"GET", "/books/v1/x?y", false},
		{"GET", "/books/v1/x#y", false},
		{"GET", "/books/v1/\x80", false},
		{"GET", "/books/v1/a b", false},
		{"GET", "/books/v1/a\tb", false},
		{"GET", "http://api.example.com/books/v1/x", false},
		{"GET", "books/v1/x", false},
		{"OPTIONS", "*", false},
		{"GET", "", false},
	} {
		want := "request-not-allowed"
		if c.want {
			want = "forward by r"
		}
		check(t, s, c.method+" "+c.path, dialled("api.example.com", 80).get("api.example.com", c.path).method(c.method), want)
	}
}

func TestARuleWithMethodsAloneTakesAnyPath(t *testing.T) {
	s := newSet(t, rule("r", "api.example.com", "80/http").requests("GET", ""))
	check(t, s, "an odd path", dialled("api.example.com", 80).get("api.example.com", "/a/../b;c//d"), "forward by r")
	check(t, s, "another method", dialled("api.example.com", 80).get("api.example.com", "/").method("PUT"), "request-not-allowed")
}

func TestTheMostSpecificTierWins(t *testing.T) {
	s := newSet(t,
		rule("1-any", "*", "443/https"),
		rule("2-com", "*.example.com", "443/tcp"),
		rule("3-deep", "*.api.example.com", "443/tls"),
		rule("4-exact", "www.api.example.com", "443/http"),
		rule("5-other-port", "www.example.com", "8443/https"),
		rule("6-wide", "10.0.0.0/8", "443/tcp"),
		rule("7-narrow", "10.1.0.0/16", "443/https"))
	for n, want := range map[string]string{
		"www.api.example.com": "protocol-mismatch",
		"v2.api.example.com":  "passthrough by 3-deep",
		"www.example.com":     "relay by 2-com",
		"example.com":         "passthrough by 1-any",
		"example.org":         "passthrough by 1-any",
	} {
		check(t, s, n, dialled(n, 443).tls(n), want)
	}
	check(t, s, "the longer prefix", dialledAddr("10.1.2.3", 443).opaque(), "protocol-mismatch")
	check(t, s, "the shorter prefix", dialledAddr("10.2.2.3", 443).opaque(), "relay by 6-wide")
}

func TestWithinATierTheFirstRuleByIDIsNamed(t *testing.T) {
	s := newSet(t, rule("c", "a.example", "443/https"), rule("a", "a.example", "443/https").mode(TLSOriginate), rule("b", "a.example", "443/https"))
	check(t, s, "TLS", dialled("a.example", 443).tls("a.example"), "passthrough by b")
	check(t, s, "HTTP", dialled("a.example", 443).get("a.example", "/"), "originate by a")
}

func TestAPatternThatIsAnAddressIsARuleOnTheAddress(t *testing.T) {
	s := newSet(t, rule("r", "10.0.0.100", "80/http", "443/https"))
	check(t, s, "the address", dialledAddr("10.0.0.100", 80).get("10.0.0.100", "/"), "forward by r")
	check(t, s, "another address", dialledAddr("10.0.0.101", 80).get("10.0.0.101", "/"), "no-rule")
}

func TestEncryptedHelloIsLeftToTheProof(t *testing.T) {
	s := newSet(t, rule("r", "a.example", "443/https"))
	c := dialled("a.example", 443).tls("a.example")
	if v := s.Decide(&c); v.ECH {
		t.Error("a flag without ECH")
	}
	c.ECH = true
	if v := check(t, s, "names agree", c, "passthrough by r"); !v.ECH {
		t.Error("no flag for ECH")
	}
	c.SNI = name("public.example")
	check(t, s, "names differ", c, "name-mismatch")
}

func TestADenyingSetDeniesEverything(t *testing.T) {
	for _, reason := range []refusal.Reason{refusal.NoSnapshot, refusal.StaleSnapshot} {
		s, err := NewSet([]Rule{rule("r", "*", "443/tcp")}, Options{Deny: reason})
		if err != nil {
			t.Fatal(err)
		}
		check(t, s, "anything", dialled("a.example", 443).tls("a.example"), string(reason))
		if s.AtConnect(TCP, 443, name("a.example"), netip.Addr{}) != (Connect{}) {
			t.Error("a denying set dials at once")
		}
	}
	var zero Verdict
	if zero.Action != Deny || zero.Treatment != Refuse {
		t.Error("the zero verdict allows")
	}
}

func TestOnlyWhereTCPAloneCanBeMeantAServerIsDialledFirst(t *testing.T) {
	s := newSet(t,
		rule("db", "db.example.com", "5432/tcp", "27017/mongo"),
		rule("both", "both.example.com", "5432/tcp", "5432/https"),
		rule("web", "www.example.com", "443/https"),
		rule("net", "192.0.2.0/24", "3306/tcp", "443/tcp"),
		rule("mixed", "192.0.2.0/25", "3307/tcp"), rule("mixed2", "192.0.2.0/24", "3307/http"))
	for _, c := range []struct {
		say  string
		port uint16
		name string
		addr string
		want bool // the server may speak first
	}{
		{"a tcp name", 5432, "db.example.com", "", true},
		{"a mongo name", 27017, "db.example.com", "", true},
		{"tcp and https of one name", 5432, "both.example.com", "", false},
		{"an https name", 443, "www.example.com", "", false},
		{"a name that no rule holds", 5432, "x.example.com", "", false},
		{"a port that no rule holds", 1, "db.example.com", "", false},
		{"a tcp address", 3306, "", "192.0.2.1", true},
		{"a mapped tcp address", 3306, "", "::ffff:192.0.2.1", true},
		{"a name where only tcp addresses are", 3306, "x.example.com", "", true},
		{"a tcp address where an SNI could name an https host", 443, "", "192.0.2.1", false},
		{"an address that no rule holds", 3306, "", "203.0.113.1", false},
		{"an address that no rule holds, a tcp name on the port", 5432, "", "203.0.113.1", false},
		{"a name where addresses are tcp and http", 3307, "x.example.com", "", false},
		{"an address whose own tier is tcp", 3307, "", "192.0.2.1", true},
	} {
		var addr netip.Addr
		if c.addr != "" {
			addr = netip.MustParseAddr(c.addr)
		}
		if got := s.AtConnect(TCP, c.port, name(c.name), addr); got.ServerFirst != c.want || got.AsBytes != c.want {
			t.Errorf("%s: %+v, want %t", c.say, got, c.want)
		}
		// What is dialled at once must be what the verdict on nothing read allows.
		chain := Chain{Port: c.port, Dialled: name(c.name), Addr: addr}
		if v := s.Decide(&chain); (v.Action == Allow) != c.want {
			t.Errorf("%s: unseen, the verdict is %s", c.say, v)
		}
	}
}

func TestNamesReportsWhatRulesNameMoreSpecificallyThanAny(t *testing.T) {
	s := newSet(t, rule("a", "*", "443/https"), rule("b", "*.example.com", "443/https"), rule("c", "exact.example", "1/tcp"))
	for n, want := range map[string]bool{"www.example.com": true, "example.com": false, "exact.example": true, "other.example": false} {
		if got := s.Names(name(n)); got != want {
			t.Errorf("Names(%s) = %t", n, got)
		}
	}
}

func TestNewSetRefusesWhatItCannotCarry(t *testing.T) {
	for want, r := range map[string]Rule{
		"protocol udp on port 53: not supported yet": rule("r", "a.example", "53/udp"),
		`TLS mode "Intercept": not supported yet`:    rule("r", "a.example", "443/https").mode("Intercept"),
		"port 0":                        {ID: "r", Hosts: []names.Pattern{names.MustParsePattern("*")}, Ports: []Port{{Port: 0, Protocol: ProtocolTCP}}},
		"an address range is not valid": {ID: "r", CIDRs: []netip.Prefix{{}}, Ports: []Port{{Port: 1, Protocol: ProtocolTCP}}},
		fmt.Sprintf("more than %d dest", MaxEntries): {ID: "r", Hosts: make([]names.Pattern, 1<<11), Ports: make([]Port, 1<<11)},
	} {
		if _, err := NewSet([]Rule{r}, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestProtocolWords(t *testing.T) {
	for p := ProtocolHTTP; p <= ProtocolQUIC; p++ {
		text, err := p.MarshalText()
		var again Protocol
		if err != nil || again.UnmarshalText([]byte(strings.ToUpper(string(text)))) != nil || again != p {
			t.Errorf("%d does not survive its text %q", p, text)
		}
	}
	if _, err := ProtocolNone.MarshalText(); err == nil {
		t.Error("no protocol has a text")
	}
	if _, err := ParseProtocol("sctp"); err == nil {
		t.Error("sctp was read")
	}
	if _, err := ParseProtocol(""); err == nil {
		t.Error("\"\" was read")
	}
}
