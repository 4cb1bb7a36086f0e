package policy

import (
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func TestANameThatOnlyAddressRulesAllowIsDialledWithinThem(t *testing.T) {
	s := newSet(t,
		rule("w1", "91.198.174.192/27", "443/tcp"), rule("w2", "103.102.166.224/27", "443/tcp"), rule("w3", "198.35.26.96/27", "443/tcp"),
		rule("w4", "208.80.152.0/22", "443/tcp"), rule("w5", "2620:0:862:ed1a::/64", "443/tcp"), rule("x", "www.example.com", "443/https"))
	n := "www.wikipedia.org"
	for _, chain := range []Chain{dialled(n, 443).tls(n), dialled(n, 443).tls(""), dialled(n, 443).get(n, "/"), dialled(n, 443).opaque()} {
		v := check(t, s, "a name without a rule, "+chain.Sniffed.String(), chain, "relay by w1")
		if len(v.Consent.Ranges()) != 5 || v.Name != name(n) {
			t.Errorf("within %v", v.Consent.Ranges())
		}
	}
	if v := check(t, s, "a name with a rule", dialled("www.example.com", 443).tls("www.example.com"), "passthrough by x"); v.Consent.Ranges() != nil {
		t.Errorf("within %v", v.Consent.Ranges())
	}
	check(t, s, "an address of theirs", dialledAddr("208.80.154.224", 443).opaque(), "relay by w4")
}

func TestANarrowerRangeThatSaysOtherwiseIsCutOut(t *testing.T) {
	s := newSet(t, rule("wide", "10.0.0.0/8", "443/tcp"), rule("narrow", "10.1.0.0/16", "443/https"), rule("inner", "10.1.2.0/24", "443/tcp"))
	n := "a.example"
	v := check(t, s, "opaque bytes", dialled(n, 443).opaque(), "relay by inner")
	for addr, want := range map[string]bool{"10.0.0.1": true, "10.1.0.1": false, "10.1.2.1": true, "10.1.3.1": false, "10.255.0.1": true, "11.0.0.1": false} {
		if got := contains(v.Consent.Ranges(), netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s within: %t, want %t", addr, got, want)
		}
	}
}

// What is spoken to a server is the rule's that allows its address: where ranges say HTTP/2 and
// HTTP/1.1, a name is dialled within those of the first rule alone.
func TestANameIsNotDialledWhereItsRuleSpeaksAnotherVersion(t *testing.T) {
	s := newSet(t, rule("a", "10.1.0.0/16", "80/http2"), rule("b", "10.2.0.0/16", "80/http"), rule("c", "10.3.0.0/16", "80/grpc"))
	v := check(t, s, "a request", dialled("a.example", 80).get("a.example", "/"), "forward by a")
	for addr, want := range map[string]bool{"10.1.0.1": true, "10.2.0.1": false, "10.3.0.1": true} {
		if got := contains(v.Consent.Ranges(), netip.MustParseAddr(addr)); got != want || !v.Protocol.SpeaksHTTP2() {
			t.Errorf("%s within: %t, want %t; spoken is %s", addr, got, want, v.Protocol)
		}
	}
}

func contains(ranges []netip.Prefix, addr netip.Addr) bool {
	for _, r := range ranges {
		if r.Contains(addr) {
			return true
		}
	}
	return false
}

// TestWithinIsWhatTheAddressesThemselvesAllow: a name is dialled at an address
// exactly where a connection to that address, of the same kind, is allowed.
func TestWithinIsWhatTheAddressesThemselvesAllow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var rules []Rule
		for i := range rapid.IntRange(1, 8).Draw(t, "rules") {
			bits := rapid.IntRange(0, 32).Draw(t, "bits")
			last := rapid.SampledFrom([]uint8{0, 1, 2, 3, 128, 192, 255}).Draw(t, "last")
			prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, last}), bits).Masked()
			protocol := rapid.SampledFrom([]string{"443/tcp", "443/https", "443/tls"}).Draw(t, "protocol")
			rules = append(rules, rule(fmt.Sprint(i), prefix.String(), protocol))
		}
		s := newSet2(t, rules)
		n := "a.example"
		kind := rapid.SampledFrom([]Chain{dialled(n, 443).opaque(), dialled(n, 443).tls(n), dialled(n, 443).tls("")}).Draw(t, "chain")
		v := s.Decide(&kind)
		for range 16 {
			addr := netip.AddrFrom4([4]byte{rapid.SampledFrom([]uint8{10, 11, 198}).Draw(t, "a"), rapid.SampledFrom([]uint8{0, 19}).Draw(t, "b"), 0, rapid.Uint8().Draw(t, "d")})
			at, _ := s.ports[443].lookupAddr(addr)
			want := false
			if at != nil {
				j := at.judge(&kind)
				want = j.reason == "" && j.treatment == v.Treatment
			}
			if got := v.Action == Allow && contains(v.Consent.Ranges(), addr); got != want {
				t.Fatalf("%s: within %t, want %t (%s, %v)", addr, got, want, v, v.Consent.Ranges())
			}
		}
	})
}

func newSet2(t *rapid.T, rules []Rule) *Set {
	s, err := NewSet(rules, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNamesAllowedByAddressRulesWithPaths(t *testing.T) {
	s := newSet(t, rule("a", "192.0.2.0/25", "80/http").requests("GET", "/a"), rule("b", "192.0.2.128/25", "80/http").requests("GET", "/b"))
	n := "a.example"
	for path, want := range map[string]string{"/a": "192.0.2.0/25", "/b": "192.0.2.128/25"} {
		chain := dialled(n, 80).get(n, path)
		v := s.Decide(&chain)
		if v.Action != Allow || fmt.Sprint(v.Consent.Ranges()) != "["+want+"]" {
			t.Errorf("%s: %s within %v", path, v, v.Consent.Ranges())
		}
	}
	check(t, s, "another path", dialled(n, 80).get(n, "/c"), "request-not-allowed")
}

func TestRulesWithOtherTLSSettingsAreNotPutTogether(t *testing.T) {
	a := rule("a", "192.0.2.0/25", "443/https")
	b := rule("b", "192.0.2.128/25", "443/https")
	b.TLS.CABundle = "PEM"
	s := newSet(t, b, a)
	chain := dialled("a.example", 443).tls("a.example")
	if v := s.Decide(&chain); v.Rule.ID != "a" || fmt.Sprint(v.Consent.Ranges()) != "[192.0.2.0/25]" {
		t.Errorf("%s within %v", v, v.Consent.Ranges())
	}
}

func TestMoreRangesThanTheBoundAreRefused(t *testing.T) {
	wide := Rule{ID: "wide"}
	for i := range MaxWithin + 1 {
		wide.CIDRs = append(wide.CIDRs, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32))
	}
	wide.Ports = []Port{{Port: 443, Protocol: ProtocolTCP}}
	if _, err := NewSet([]Rule{wide}, Options{}); err == nil {
		t.Error("more ranges than the bound were taken")
	}
}

func TestConsentToAddressesThatAreNotPublic(t *testing.T) {
	listed := rule("listed", "db.example.com", "5432/tcp")
	listed.PrivateAnswers = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}
	s := newSet(t, listed, rule("net", "192.168.1.0/24", "443/tcp"), rule("everywhere", "0.0.0.0/0", "443/tcp", "444/tcp"))
	for _, c := range []struct {
		chain Chain
		addr  string
		want  bool
	}{
		{dialled("db.example.com", 5432).opaque(), "10.0.0.1", true},
		{dialled("db.example.com", 5432).opaque(), "::ffff:10.0.0.1", false},
		{dialled("db.example.com", 5432).opaque(), "10.0.1.1", false},
		{dialled("db.example.com", 5432).opaque(), "127.0.0.1", false},
		{dialled("a.example", 443).opaque(), "192.168.1.1", true},
		{dialled("a.example", 443).opaque(), "192.168.2.1", false},
		{dialled("a.example", 443).opaque(), "127.0.0.1", false},
		{dialled("a.example", 444).opaque(), "169.254.169.254", false},
		{dialled("x.example", 5432).opaque(), "10.0.0.1", false},
	} {
		v := s.Decide(&c.chain)
		if got := (v.Consent.Judge(netip.MustParseAddr(c.addr)) == ""); got != c.want {
			t.Errorf("%s consents to %s: %t", v, c.addr, got)
		}
	}
}

func TestManyHolesInOneRangeAreCutInGoodTime(t *testing.T) {
	rules := []Rule{rule("all", "0.0.0.0/0 ::/0", "443/tcp")}
	holes := rule("holes", "", "443/https")
	for i := range 4000 {
		holes.CIDRs = append(holes.CIDRs, netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 1}), 32))
	}
	s := newSet(t, append(rules, holes)...)
	c := dialled("a.example", 443).opaque()
	v := s.Decide(&c)
	for addr, want := range map[string]bool{"20.0.0.1": false, "20.1.1.1": false, "20.0.0.2": true, "8.8.8.8": true, "198.19.0.1": false, "2001:db8::1": true, "2001:2::1": false} {
		if got := contains(v.Consent.Ranges(), netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s within: %t", addr, got)
		}
	}
}
