package policy

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"sluice.dev/sluice/internal/refusal"
)

func auditing(t *testing.T, rules ...Rule) *Set {
	t.Helper()
	s, err := NewSet(rules, Options{Outbound: Audit, Domain: name("cluster.local")})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAuditLetsPassWhatNoRuleAllowsAndSaysSo(t *testing.T) {
	s := auditing(t)
	n := "a.example.com"
	for _, c := range []struct {
		say   string
		chain Chain
		want  Treatment
	}{
		{"plain HTTP", dialled(n, 80).get(n, "/"), Forward},
		{"plain HTTP to a port of TLS", dialled(n, 443).get(n, "/"), Originate},
		{"TLS", dialled(n, 443).tls(n), Passthrough},
		{"bytes to a name", dialled(n, 22).opaque(), Relay},
		{"bytes to an address", dialledAddr("8.8.8.8", 22).opaque(), Relay},
	} {
		v := s.Decide(&c.chain)
		if v.Action != Audit || v.Treatment != c.want || v.Reason != refusal.NoRule || v.Rule == nil || v.Rule.ID != AuditRule {
			t.Errorf("%s: %+v", c.say, v)
		}
		if v.Consent.Judge(netip.MustParseAddr("8.8.8.8")) != "" || v.Consent.Judge(netip.MustParseAddr("10.0.0.1")) != refusal.PrivateAddress {
			t.Errorf("%s: it may lead elsewhere than to public addresses", c.say)
		}
		if !s.AtConnect(TCP, c.chain.Port, c.chain.Dialled, c.chain.Addr).Possible {
			t.Errorf("%s: at connect it is not possible", c.say)
		}
	}
}

func TestAuditLiftsNothingButTheLackOfARule(t *testing.T) {
	s := auditing(t, rule("paths", "www.example.com", "80/http").requests("GET", "/ok"), rule("tls", "tls.example.com", "443/tls"))
	www := "www.example.com"
	badSNI, badHost := dialled(www, 443).tls(""), dialled(www, 80).get("", "/")
	badSNI.SNIBad, badHost.HostBad = true, true
	for _, c := range []struct {
		say   string
		chain Chain
		want  string
	}{
		{"names differ", dialled("a.example", 443).tls("b.example"), "name-mismatch"},
		{"ports differ", dialled("a.example", 80).get("a.example:81", "/"), "port-mismatch"},
		{"a malformed SNI", badSNI, "bad-host"},
		{"a malformed Host", badHost, "bad-host"},
		{"TLS without SNI", dialled("a.example", 443).tls(""), "no-server-name"},
		{"a private address", dialledAddr("10.0.0.1", 22).opaque(), "private-address"},
		{"the metadata service", dialledAddr("169.254.169.254", 81).get("169.254.169.254", "/"), "private-address"},
		{"an address of Sluice", dialledAddr("198.19.0.1", 22).opaque(), "private-address"},
		{"a name of the mesh", dialledAddr("8.8.8.8", 81).get("x.default.svc.cluster.local", "/"), "mesh-name"},
		{"a path that the host's rule does not list", dialled(www, 80).get(www, "/no"), "request-not-allowed"},
		{"another protocol than the host's rule", dialled("tls.example.com", 443).opaque(), "protocol-mismatch"},
	} {
		check(t, s, c.say, c.chain, c.want)
	}
	denying, err := NewSet(nil, Options{Outbound: Audit, Deny: refusal.StaleSnapshot})
	if err != nil {
		t.Fatal(err)
	}
	check(t, denying, "a stale snapshot", dialled("a.example", 80).get("a.example", "/"), "stale-snapshot")
}

func TestAuditNeverComesAboutByItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules, c := drawRules(t), drawChain(t)
		v := newSet2(t, rules).Decide(&c)
		if v.Action == Audit {
			t.Fatalf("%s without an outbound default", v)
		}
		s, err := NewSet(rules, Options{Outbound: Audit})
		if err != nil {
			t.Fatal(err)
		}
		with := s.Decide(&c)
		switch {
		case with.Action == Audit && v.Reason != refusal.NoRule:
			t.Fatalf("audit lifts %s", v)
		case with.Action != Audit && (with.Action != v.Action || with.Reason != v.Reason && v.Reason != refusal.NoRule):
			t.Fatalf("audit turns %s into %s", v, with)
		}
	})
}

func TestAnOutboundDefaultOfAllowIsRefused(t *testing.T) {
	if _, err := NewSet(nil, Options{Outbound: Allow}); err == nil {
		t.Error("it is taken")
	}
}
