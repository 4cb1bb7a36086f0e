package policy

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sluice.dev/sluice/internal/addresses"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/refusal"
)

// drawRule draws rules over few hosts, ranges and ports, so that they meet.
func drawRule(t *rapid.T, id string) Rule {
	hosts := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"*", "*.b", "*b", "*.a.b", "*-a.b", "a.b", "b", "a.a.b", "b-a.b"}), 0, 3, rapid.ID).Draw(t, "hosts")
	cidrs := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"10.0.0.0/8", "10.1.0.0/16", "10.1.0.1/32", "0.0.0.0/0"}), 0, 2, rapid.ID).Draw(t, "cidrs")
	ports := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"443/https", "443/tcp", "443/tls", "443/http", "80/http", "80/tcp"}), 1, 3, rapid.ID).Draw(t, "ports")
	r := rule(id, strings.Join(append(hosts, cidrs...), " "), ports...)
	if rapid.IntRange(0, 3).Draw(t, "private answers") == 0 {
		r.PrivateAnswers = []netip.Prefix{netip.MustParsePrefix("10.7.0.0/16")}
	}
	r.TLS.Mode = rapid.SampledFrom([]TLSMode{"", TLSAuto, TLSOriginate, TLSPassthrough}).Draw(t, "mode")
	switch rapid.IntRange(0, 4).Draw(t, "http") {
	case 0:
		r = r.requests("GET", "/a/*")
	case 1:
		r = r.requests("GET POST", "")
	}
	return r
}

func drawRules(t *rapid.T) []Rule {
	var rules []Rule
	for i := range rapid.IntRange(0, 6).Draw(t, "rules") {
		rules = append(rules, drawRule(t, fmt.Sprintf("egress-policy/default/%02d", i)))
	}
	return rules
}

// drawChain draws a chain whose links agree.
func drawChain(t *rapid.T) Chain {
	c := Chain{Port: rapid.SampledFrom([]uint16{443, 80}).Draw(t, "port")}
	n := rapid.SampledFrom([]string{"a.b", "b", "a.a.b", "c.b", "b-a.b", "x.a.b", "zb", "other", "x_y.a.b", ""}).Draw(t, "name")
	if n != "" {
		c.Dialled = name(n)
	} else {
		c.Addr = netip.MustParseAddr(rapid.SampledFrom([]string{"10.0.0.1", "10.1.0.1", "10.1.0.2", "192.0.2.1", "198.19.0.1"}).Draw(t, "addr"))
	}
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		return c.opaque()
	case 1:
		return c.tls(n)
	case 2:
		return c.tls("")
	}
	host := n
	if n == "" {
		host = c.Addr.String()
	}
	return c.get(rapid.SampledFrom([]string{host, ""}).Draw(t, "host"), rapid.SampledFrom([]string{"/", "/a/x", "/a/../b", "/a/*"}).Draw(t, "path")).
		method(rapid.SampledFrom([]string{"GET", "POST", "PUT"}).Draw(t, "method"))
}

// naive is the rule of "which rules count", written down another way: list
// everything that matches with how specific it is, sort, and look at the first.
func naive(rules []Rule, c Chain) []string {
	type match struct {
		specificity int
		outcome     string
		meant       bool
		tcp         bool
		unwanted    bool
	}
	var matches []match
	for i := range rules {
		r := &rules[i]
		specificity := -1
		for _, h := range r.Hosts {
			if c.Dialled.IsZero() || !regexp.MustCompile("^"+strings.ReplaceAll(regexp.QuoteMeta(h.String()), `\*`, ".+")+"$").MatchString(c.Dialled.String()) {
				continue
			}
			s := len(h.String())
			if !strings.Contains(h.String(), "*") {
				s += 10000
			}
			specificity = max(specificity, s)
		}
		if c.Dialled.IsZero() && !slices.ContainsFunc(addresses.OwnPrefixes(), func(p netip.Prefix) bool { return p.Contains(c.Addr) }) {
			for _, p := range r.CIDRs {
				if p.Contains(c.Addr) {
					specificity = max(specificity, p.Bits())
				}
			}
		}
		if specificity < 0 {
			continue
		}
		for _, p := range r.Ports {
			if p.Port != c.Port {
				continue
			}
			matches = append(matches, match{specificity, naiveOutcome(r, p.Protocol, c), naiveMeant(p.Protocol, c), p.Protocol == ProtocolTCP, naiveSpecial(r, c)})
		}
	}
	slices.SortFunc(matches, func(a, b match) int { return b.specificity - a.specificity })
	var outcomes []string
	meant := slices.ContainsFunc(matches, func(m match) bool { return m.meant && m.specificity == matches[0].specificity })
	for _, m := range matches {
		if m.specificity == matches[0].specificity && m.outcome != "" && !(m.tcp && meant) && !m.unwanted {
			outcomes = append(outcomes, m.outcome)
		}
	}
	return outcomes
}

// naiveSpecial: an address that is not public was dialled, and the rule holds it by
// a range that says "anywhere".
func naiveSpecial(r *Rule, c Chain) bool {
	if _, special := addresses.Special(c.Addr); !c.Dialled.IsZero() || !special {
		return false
	}
	return !slices.ContainsFunc(slices.Concat(r.CIDRs, r.PrivateAnswers), func(p netip.Prefix) bool {
		return p.Contains(c.Addr) && addresses.InOneBlock(p)
	})
}

func naiveMeant(p Protocol, c Chain) bool {
	return strings.Contains(map[Sniffed]string{HTTP: " http https ", ClientHello: " https tls "}[c.Sniffed], " "+p.String()+" ")
}

func naiveOutcome(r *Rule, p Protocol, c Chain) string {
	asks := len(r.HTTP) > 0
	mode := r.TLS.Mode
	if mode == "" {
		mode = TLSAuto
	}
	switch fmt.Sprintf("%s over %s", c.Sniffed, p) {
	case "http over tcp", "tls over tcp", "opaque over tcp":
		if !asks {
			return "relay by " + r.ID
		}
	case "tls over https", "tls over tls":
		if !asks && mode != TLSOriginate && (!c.SNI.IsZero() || c.Dialled.IsZero()) {
			return "passthrough by " + r.ID
		}
	case "http over http", "http over https":
		if p == ProtocolHTTPS && mode == TLSPassthrough || c.Host.IsZero() && c.Dialled.IsZero() {
			return ""
		}
		if asks {
			m := r.HTTP[0]
			if !slices.Contains(m.Methods, c.Method) || len(m.Paths) > 0 && !(strings.HasPrefix(c.Path, "/a/") && path.Clean(c.Path) == c.Path) {
				return ""
			}
		}
		if p == ProtocolHTTP {
			return "forward by " + r.ID
		}
		return "originate by " + r.ID
	}
	return ""
}

func outcome(v Verdict) string {
	if v.Action != Allow {
		return ""
	}
	return v.Treatment.String() + " by " + v.Rule.ID
}

func TestDecideIsTheNaiveModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules, c := drawRules(t), drawChain(t)
		s := newSet2(t, rules)
		v := s.Decide(&c)
		if v.Consent.Ranges() != nil || v.Reason == refusal.NoRule && !v.Name.IsZero() {
			return // names by address rules: within_test.go
		}
		want := naive(rules, c)
		if len(want) == 0 && !v.Name.IsZero() && s.ports[portOf(c.Transport, c.Port)] != nil {
			if _, ok := s.nameTier(portOf(c.Transport, c.Port), v.Name); !ok {
				return // address rules that do not carry it
			}
		}
		got := outcome(v)
		if (got == "") != (len(want) == 0) || got != "" && !slices.Contains(want, got) {
			t.Fatalf("%s; the model says %q", v, want)
		}
	})
}

func TestARuleElsewhereNeverChangesAVerdict(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules, c := drawRules(t), drawChain(t)
		before := newSet2(t, rules)
		was := before.Decide(&c)
		other := drawRule(t, "egress-policy/default/0-other")
		switch rapid.IntRange(0, 1).Draw(t, "disjoint by") {
		case 0: // other ports
			for i := range other.Ports {
				other.Ports[i].Port += 1000
			}
		case 1: // other destinations
			other.Hosts = []names.Pattern{names.MustParsePattern("*.elsewhere"), names.MustParsePattern("elsewhere")}
			other.CIDRs = nil
		}
		after := newSet2(t, append(slices.Clone(rules), other))
		is := after.Decide(&c)
		if outcome(was) != outcome(is) || was.Action == Deny && was.Reason != is.Reason && was.Reason != refusal.NoRule {
			t.Fatalf("%s became %s by %v", was, is, other)
		}
	})
}

func TestAWiderRuleNeverChangesWhatANarrowerTierDecides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules, c := drawRules(t), drawChain(t)
		if c.Dialled.IsZero() {
			return
		}
		exact := rule("egress-policy/default/exact", "a.b b a.a.b c.b b-a.b x.a.b zb other *.a.b", "443/https", "80/http")
		s := newSet2(t, append(slices.Clone(rules), exact))
		any := rule("egress-policy/default/0-any", "*", "443/https", "443/tcp", "443/tls", "443/http", "80/http", "80/tcp")
		with := newSet2(t, append(slices.Clone(rules), exact, any))
		if was, is := s.Decide(&c), with.Decide(&c); outcome(was) != outcome(is) || was.Reason != is.Reason {
			t.Fatalf("%s became %s", was, is)
		}
	})
}
