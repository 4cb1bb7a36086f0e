package policy

import (
	"testing"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/refusal"
)

func TestWhichRuleLetsANameBeResolvedBeforeItIsDialled(t *testing.T) {
	of := func(id string, most int, hosts ...string) Rule {
		r := Rule{ID: id, MaxNewNames: most, Ports: []Port{{Port: 443, Protocol: ProtocolHTTPS}}}
		for _, host := range hosts {
			r.Hosts = append(r.Hosts, names.MustParsePattern(host))
		}
		return r
	}
	rules := []Rule{
		of("a-wild", 0, "*.example.com"), of("b-tight", 7, "*.example.com"), of("c-loose", 9, "*.example.com"),
		of("d-exact", 0, "www.example.com"), of("e-any", 5, "*"), of("f-mesh", 0, "*.mesh.local"),
	}
	for _, c := range []struct {
		say, name, rule string
		exactly         bool
		rules           []Rule
		options         Options
	}{
		{"the lowest bound of a wildcard counts", "x.example.com", "b-tight", false, rules, Options{}},
		{"a name that is spelled out", "www.example.com", "d-exact", true, rules, Options{}},
		{"any name", "www.example.org", "e-any", false, rules, Options{}},
		{"any name without that rule", "www.example.org", "", false, rules[:4], Options{}},
		{"any name where all is audited", "www.example.org", AuditRule, false, rules[:4], Options{Outbound: Audit}},
		{"a name of the mesh", "x.mesh.local", "", false, rules, Options{Domain: names.MustParse("mesh.local")}},
		{"before the first rules", "www.example.com", "", false, rules, Options{Deny: refusal.NoSnapshot}},
	} {
		set, err := NewSet(c.rules, c.options)
		if err != nil {
			t.Fatal(err)
		}
		rule, exactly := set.Resolves(names.MustParse(c.name))
		id := ""
		if rule != nil {
			id = rule.ID
		}
		if id != c.rule || exactly != c.exactly {
			t.Errorf("%s: %q, exactly %v", c.say, id, exactly)
		}
	}
}
