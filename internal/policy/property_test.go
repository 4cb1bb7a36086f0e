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

	"sluice.dev/sluice/api"
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
			if _, ok := s.ports[portOf(c.Transport, c.Port)].names.Lookup(v.Name); !ok {
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

// drawRefused draws what the dial may find out after the verdict: a name that
// leads nowhere, or to an address that is not public.
func drawRefused(t *rapid.T, v *Verdict) (refused netip.Addr) {
	if v.Action != Allow || v.Name.IsZero() {
		return refused
	}
	switch rapid.IntRange(0, 2).Draw(t, "the dial") {
	case 0:
		addr := netip.MustParseAddr(rapid.SampledFrom([]string{"10.9.9.9", "127.0.0.1", "fd00::1"}).Draw(t, "refused"))
		if !(v.Consent.Judge(addr) == "") && (v.Consent.Ranges() == nil || contains(v.Consent.Ranges(), addr)) {
			v.Action, v.Reason, v.Treatment = Deny, refusal.PrivateAddress, Refuse
			return addr
		}
	case 1:
		if v.Consent.Ranges() != nil {
			v.Action, v.Reason, v.Treatment = Deny, refusal.OutsideCIDR, Refuse
		}
	}
	return refused
}

func TestARemedyAllowsTheChainAndTakesNothingAway(t *testing.T) {
	helped, without := map[refusal.Reason]int{}, map[refusal.Reason]int{}
	rapid.Check(t, func(t *rapid.T) {
		rules, c := drawRules(t), drawChain(t)
		s := newSet2(t, rules)
		v := s.Decide(&c)
		opts := ExplainOptions{Namespace: "default", Labels: map[string]string{"app": "details", "version": "v2"}}
		opts.Refused = drawRefused(t, &v)
		e := s.Explain(&c, v, opts)
		if v.Action == Allow {
			if e.Remedy != nil || e.Rule == "" {
				t.Fatalf("an allowed chain has a remedy: %+v", e)
			}
			return
		}
		if e.Remedy == nil || e.Remedy.Sentence == "" {
			t.Fatalf("%s: nothing to do about it", v)
		}
		if e.Remedy.Rule == nil {
			without[v.Reason]++
			if v.Reason == refusal.NoRule && !v.Name.IsZero() && !(c.Sniffed == HTTP && c.Host.IsZero()) {
				t.Fatalf("%s: no rule to add", v)
			}
			if e.Remedy.YAML != "" || e.Remedy.Allow != "" {
				t.Fatalf("%s: a text without a rule: %+v", v, e.Remedy)
			}
			return
		}
		helped[v.Reason]++
		written := acceptedPolicy(t, e.Remedy.YAML)
		if quote(written) != quote(*e.Remedy.Rule) {
			t.Fatalf("the YAML says\n%s\nand the rule is\n%s", quote(written), quote(*e.Remedy.Rule))
		}
		after := newSet2(t, append(slices.Clone(rules), written))
		mustAllow(t, after, c, v, opts, e.Remedy.YAML)
		if e.Remedy.Allow != "" {
			short, err := ParseAllow(e.Remedy.Allow)
			if err != nil {
				t.Fatal(err)
			}
			mustAllow(t, newSet2(t, append(slices.Clone(rules), short)), c, v, opts, "--allow "+e.Remedy.Allow)
		}
		for i, smaller := range smallerThan(written) {
			if v.Reason == refusal.OutsideCIDR && len(smaller.HTTP) < len(written.HTTP) {
				continue // all are those of rules that it hides
			}
			without := newSet2(t, append(slices.Clone(rules), smaller))
			if is := without.Decide(&c); is.Action == Allow && allowsAfterDial(&is, v, opts) && keeps(s, without, c) == "" {
				t.Fatalf("%s: part %d of the remedy is not needed\n%s", v, i, e.Remedy.YAML)
			}
		}
		// The same destination, asked in every other way.
		if lost := keeps(s, after, c); lost != "" {
			t.Fatalf("%s by the remedy for %s\n%s", lost, v, e.Remedy.YAML)
		}
	})
	t.Logf("helped: %v; without a rule: %v", helped, without)
}

func mustAllow(t *rapid.T, s *Set, c Chain, was Verdict, opts ExplainOptions, by string) {
	is := s.Decide(&c)
	if is.Action != Allow || !allowsAfterDial(&is, was, opts) {
		t.Fatalf("%s became %s by\n%s", was, is, by)
	}
}

// allowsAfterDial reports whether the dial finds what it missed.
func allowsAfterDial(is *Verdict, was Verdict, opts ExplainOptions) bool {
	switch was.Reason {
	case refusal.PrivateAddress:
		return (is.Consent.Judge(opts.Refused) == "") && (is.Consent.Ranges() == nil || contains(is.Consent.Ranges(), opts.Refused))
	case refusal.OutsideCIDR:
		return is.Consent.Ranges() == nil
	}
	return true
}

// keeps says what after takes away of what before allows c's destination. (Rules on
// addresses consent to their own ones: a name's own rule need not.)
func keeps(before, after *Set, c Chain) string {
	for _, other := range variations(c) {
		was, is := before.Decide(&other), after.Decide(&other)
		if was.Action == Allow && (is.Action != Allow || is.Treatment != was.Treatment) {
			return fmt.Sprintf("%s of %s became %s", was, other.Sniffed, is)
		}
		for _, answer := range []string{"10.7.0.1", "10.9.9.9", "10.1.0.1", "10.1.0.2", "127.0.0.1", "fd00::1"} {
			if addr := netip.MustParseAddr(answer); was.Consent.Ranges() == nil && (was.Consent.Judge(addr) == "") && !(is.Consent.Judge(addr) == "") {
				return fmt.Sprintf("%s of %s may no longer lead to %s", was, other.Sniffed, answer)
			}
		}
	}
	return ""
}

// smallerThan is a rule without each of its parts in turn.
func smallerThan(r Rule) []Rule {
	var list []Rule
	for i := range r.Ports {
		smaller := r
		smaller.Ports = slices.Delete(slices.Clone(r.Ports), i, i+1)
		list = append(list, smaller)
	}
	for i := range r.Hosts {
		smaller := r
		smaller.Hosts = slices.Delete(slices.Clone(r.Hosts), i, i+1)
		list = append(list, smaller)
	}
	if len(r.HTTP) > 1 { // the others are those of the rules that it hides, and may overlap
		smaller := r
		smaller.HTTP = r.HTTP[1:]
		list = append(list, smaller)
	}
	if last := len(r.PrivateAnswers) - 1; last >= 0 { // the others are those of the rule that it hides
		smaller := r
		smaller.PrivateAnswers = r.PrivateAnswers[:last]
		list = append(list, smaller)
	}
	return list
}

func variations(c Chain) []Chain {
	base := Chain{Port: c.Port, Dialled: c.Dialled, Addr: c.Addr}
	host := c.Dialled.String()
	if host == "" {
		host = c.Addr.String()
	}
	list := []Chain{base.opaque(), base.tls(c.Dialled.String()), base.tls(""), base.get("", "/")}
	for _, p := range []string{"/", "/a/x", "/b"} {
		for _, m := range []string{"GET", "POST", "PUT"} {
			list = append(list, base.get(host, p).method(m))
		}
	}
	return list
}

// acceptedPolicy is readPolicy of what `sluice create` takes.
func acceptedPolicy(t interface{ Fatalf(string, ...any) }, text string) Rule {
	objects, err := api.Decode("remedy.yaml", strings.NewReader(text))
	if err == nil {
		err = api.ValidateAll(objects)
	}
	if err != nil || len(objects) != 1 {
		t.Fatalf("create refuses it: %v\n%s", err, text)
	}
	return readPolicy(t, text)
}

// readPolicy reads an EgressPolicy as the compiler would.
func readPolicy(t interface{ Fatalf(string, ...any) }, text string) Rule {
	var object struct {
		APIVersion, Kind string
		Metadata         struct{ Name, Namespace string }
		Spec             struct {
			From struct{ Labels map[string]string }
			To   struct {
				Hosts []names.Pattern
				CIDRs []netip.Prefix `json:"cidrs"`
				Ports []Port
			}
			PrivateAnswers []netip.Prefix
			TLS            struct {
				Mode       TLSMode
				ServerName names.Name
				CABundle   string
			}
			HTTP []HTTPMatch
		}
	}
	decodeYAML(t, text, &object)
	if object.APIVersion != "sluice.dev/v1alpha1" || object.Kind != "EgressPolicy" || object.Metadata.Name == "" {
		t.Fatalf("no EgressPolicy:\n%s", text)
	}
	if !regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`).MatchString(object.Metadata.Name) {
		t.Fatalf("%q is no name of an object", object.Metadata.Name)
	}
	spec := object.Spec
	r := Rule{ID: "egress-policy/" + object.Metadata.Namespace + "/" + object.Metadata.Name, Hosts: spec.To.Hosts, CIDRs: spec.To.CIDRs,
		Ports: spec.To.Ports, PrivateAnswers: spec.PrivateAnswers, HTTP: spec.HTTP,
		TLS: TLS{Mode: spec.TLS.Mode, ServerName: spec.TLS.ServerName, CABundle: spec.TLS.CABundle}}
	if r.TLS.Mode == "" {
		r.TLS.Mode = TLSAuto
	}
	return r
}
