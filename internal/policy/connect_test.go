package policy

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/refusal"
)

func TestWhatMayNotBeAllowedIsNeverAllowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, err := NewSet(drawRules(t), Options{})
		if err != nil {
			t.Fatal(err)
		}
		c := drawChain(t)
		if rapid.Bool().Draw(t, "literal") { // the same links, on an address that was resolved elsewhere
			c.Dialled, c.Addr = names.Name{}, netip.MustParseAddr("192.0.2.1")
		}
		if v := s.Decide(&c); v.Action == Allow && !s.AtConnect(TCP, c.Port, c.Dialled, c.Addr).Possible {
			t.Fatalf("%+v is allowed by %s", c, v.Rule.ID)
		}
	})
}

func TestOnlyTheDestinationSaysWhatMayBeAllowed(t *testing.T) {
	s, err := NewSet([]Rule{rule("web", "*.example.com", "443/https"), rule("db", "192.0.2.0/24", "5432/tcp")}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	address := netip.MustParseAddr("198.51.100.1")
	for _, x := range []struct {
		what string
		port uint16
		name string
		want bool
	}{
		{"a name of the rule", 443, "www.example.com", true},
		{"another name on its port", 443, "www.example.org", false},
		{"an address on its port, for the client may name what the rule holds", 443, "", true},
		{"a name on the port of an address rule, for it may lead there", 5432, "www.example.org", true},
		{"a port without a rule", 3306, "www.example.com", false},
	} {
		var name names.Name
		if x.name != "" {
			name = names.MustParse(x.name)
		}
		if got := s.AtConnect(TCP, x.port, name, address).Possible; got != x.want {
			t.Errorf("%s: %v, want %v", x.what, got, x.want)
		}
	}
	stale, err := NewSet([]Rule{rule("web", "*.example.com", "443/https")}, Options{Deny: refusal.StaleSnapshot})
	if err != nil {
		t.Fatal(err)
	}
	if stale.AtConnect(TCP, 443, names.MustParse("www.example.com"), netip.Addr{}).Possible || stale.DeniesAll() != refusal.StaleSnapshot {
		t.Error("a stale set may allow")
	}
}
