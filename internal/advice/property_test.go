package advice

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/wire"
)

// drawRule draws rules over few hosts, ranges and ports, so that they meet.
func drawRule(t *rapid.T, id string) policy.Rule {
	hosts := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"*", "*.b", "*b", "*.a.b", "*-a.b", "a.b", "b", "a.a.b", "b-a.b"}), 0, 3, rapid.ID).Draw(t, "hosts")
	cidrs := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"10.0.0.0/8", "10.1.0.0/16", "10.1.0.1/32", "0.0.0.0/0"}), 0, 2, rapid.ID).Draw(t, "cidrs")
	ports := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"443/https", "443/tcp", "443/tls", "443/http", "80/http", "80/tcp"}), 1, 3, rapid.ID).Draw(t, "ports")
	r := rule(id, strings.Join(append(hosts, cidrs...), " "), ports...)
	if rapid.IntRange(0, 3).Draw(t, "private answers") == 0 {
		r.PrivateAnswers = []netip.Prefix{netip.MustParsePrefix("10.7.0.0/16")}
	}
	r.TLS.Mode = rapid.SampledFrom([]policy.TLSMode{"", policy.TLSAuto, policy.TLSOriginate, policy.TLSPassthrough}).Draw(t, "mode")
	switch rapid.IntRange(0, 5).Draw(t, "http") {
	case 0:
		r = requests(r, "GET", "/a/*")
	case 1:
		r = requests(r, "GET POST", "")
	case 2:
		r = requests(r, "GET", "")
		r.HTTP[0].Upgrades = []string{"websocket"}
	}
	return r
}

func drawRules(t *rapid.T) []policy.Rule {
	var rules []policy.Rule
	for i := range rapid.IntRange(0, 6).Draw(t, "rules") {
		rules = append(rules, drawRule(t, fmt.Sprintf("egress-policy/default/%02d", i)))
	}
	return rules
}

// drawChain draws a chain whose links agree.
func drawChain(t *rapid.T) chain {
	c := chain{policy.Chain{Port: rapid.SampledFrom([]uint16{443, 80}).Draw(t, "port")}}
	n := rapid.SampledFrom([]string{"a.b", "b", "a.a.b", "c.b", "b-a.b", "x.a.b", "zb", "other", "x_y.a.b", ""}).Draw(t, "name")
	if n != "" {
		c.Dialled = name(n)
	} else {
		c.Addr = netip.MustParseAddr(rapid.SampledFrom([]string{"10.0.0.1", "10.1.0.1", "10.1.0.2", "192.0.2.1", "198.19.0.1", "93.184.217.1", "224.0.0.1"}).Draw(t, "addr"))
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
	c = c.get(rapid.SampledFrom([]string{host, ""}).Draw(t, "host"), rapid.SampledFrom([]string{"/", "/a/x", "/a/../b", "/a/*"}).Draw(t, "path")).
		method(rapid.SampledFrom([]string{"GET", "POST", "PUT"}).Draw(t, "method")).
		upgrade(rapid.SampledFrom([]string{"", "", "", "websocket", "TCP", "h2c"}).Draw(t, "upgrade"))
	c.HTTPS = rapid.IntRange(0, 5).Draw(t, "an https URL") == 0
	return c
}

// drawRefused draws what the dial may find out after the verdict: a name that
// leads nowhere, or to an address that is not public.
func drawRefused(t *rapid.T, v *policy.Verdict) (refused netip.Addr) {
	if v.Action != policy.Allow || v.Name.IsZero() {
		return refused
	}
	switch rapid.IntRange(0, 2).Draw(t, "the dial") {
	case 0:
		addr := netip.MustParseAddr(rapid.SampledFrom([]string{"10.9.9.9", "127.0.0.1", "fd00::1"}).Draw(t, "refused"))
		if !(v.Consent.Judge(addr) == "") && (v.Consent.Ranges() == nil || holdsAddr(v.Consent.Ranges(), addr)) {
			v.Action, v.Reason, v.Treatment = policy.Deny, refusal.PrivateAddress, policy.Refuse
			return addr
		}
	case 1:
		if v.Consent.Ranges() != nil {
			v.Action, v.Reason, v.Treatment = policy.Deny, refusal.OutsideCIDR, policy.Refuse
		}
	}
	return refused
}

func TestARemedyAllowsTheChainAndTakesNothingAway(t *testing.T) {
	helped, without := map[refusal.Reason]int{}, map[refusal.Reason]int{}
	rapid.Check(t, func(t *rapid.T) {
		rules, c := drawRules(t), drawChain(t)
		s := newSet(t, rules...)
		v := s.Decide(&c.Chain)
		opts := Options{Namespace: "default", Labels: map[string]string{"app": "details", "version": "v2"}}
		opts.Refused = drawRefused(t, &v)
		e := Explain(s, &c.Chain, v, opts)
		if v.Action == policy.Allow {
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
			if v.Reason == refusal.NoRule && !v.Name.IsZero() && !(c.Sniffed == policy.HTTP && c.Host.IsZero()) {
				t.Fatalf("%s: no rule to add", v)
			}
			if e.Remedy.YAML != "" || e.Remedy.Allow != "" {
				t.Fatalf("%s: a text without a rule: %+v", v, e.Remedy)
			}
			return
		}
		helped[v.Reason]++
		written := accepted(t, e.Remedy.YAML, opts.Labels)
		if said(written) != said(*e.Remedy.Rule) {
			t.Fatalf("the YAML says\n%s\nand the rule is\n%s", said(written), said(*e.Remedy.Rule))
		}
		after := newSet(t, append(slices.Clone(rules), written)...)
		mustAllow(t, after, c, v, opts, e.Remedy.YAML)
		if e.Remedy.Allow != "" {
			short, err := ParseAllow(e.Remedy.Allow)
			if err != nil {
				t.Fatal(err)
			}
			mustAllow(t, newSet(t, append(slices.Clone(rules), short)...), c, v, opts, "--allow "+e.Remedy.Allow)
		}
		for i, smaller := range smallerThan(written) {
			if v.Reason == refusal.OutsideCIDR && len(smaller.HTTP) < len(written.HTTP) {
				continue // all are those of rules that it hides
			}
			without := newSet(t, append(slices.Clone(rules), smaller)...)
			if is := without.Decide(&c.Chain); is.Action == policy.Allow && allowsAfterDial(&is, v, opts) && keeps(s, without, c) == "" {
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

func mustAllow(t *rapid.T, s *policy.Set, c chain, was policy.Verdict, opts Options, by string) {
	is := s.Decide(&c.Chain)
	if is.Action != policy.Allow || !allowsAfterDial(&is, was, opts) {
		t.Fatalf("%s became %s by\n%s", was, is, by)
	}
}

// allowsAfterDial reports whether the dial finds what it missed.
func allowsAfterDial(is *policy.Verdict, was policy.Verdict, opts Options) bool {
	switch was.Reason {
	case refusal.PrivateAddress:
		return !opts.Refused.IsValid() || is.Consent.Judge(opts.Refused) == ""
	case refusal.OutsideCIDR:
		return is.Consent.Ranges() == nil
	}
	return true
}

// keeps says what after takes away of what before allows c's destination. (Rules on
// addresses consent to their own ones: a name's own rule need not.)
func keeps(before, after *policy.Set, c chain) string {
	for _, other := range variations(c) {
		was, is := before.Decide(&other.Chain), after.Decide(&other.Chain)
		if was.Action == policy.Allow && (is.Action != policy.Allow || is.Treatment != was.Treatment) {
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
func smallerThan(r policy.Rule) []policy.Rule {
	var list []policy.Rule
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

func variations(c chain) []chain {
	base := chain{policy.Chain{Port: c.Port, Dialled: c.Dialled, Addr: c.Addr}}
	host := c.Dialled.String()
	if host == "" {
		host = c.Addr.String()
	}
	list := []chain{base.opaque(), base.tls(c.Dialled.String()), base.tls(""), base.get("", "/"), base.get(host, "/a/x").upgrade("websocket"), base.get(host, "/").https()}
	for _, p := range []string{"/", "/a/x", "/b"} {
		for _, m := range []string{"GET", "POST", "PUT"} {
			list = append(list, base.get(host, p).method(m))
		}
	}
	return list
}

func holdsAddr(ranges []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// accepted is the rule that `sluice create` and the compiler make of a policy.
func accepted(t interface{ Fatalf(string, ...any) }, text string, labels map[string]string) policy.Rule {
	objects, err := api.Decode("remedy.yaml", strings.NewReader(text))
	if err == nil {
		err = api.ValidateAll(objects)
	}
	if err != nil || len(objects) != 1 {
		t.Fatalf("create refuses it: %v\n%s", err, text)
	}
	workload, err := wire.Workload{Namespace: objects[0].Metadata.Namespace, Labels: labels}.Normalize()
	if err != nil {
		t.Fatalf("%v", err)
	}
	out := compile.Compile(compile.Input{Objects: objects, Workloads: []wire.Workload{workload}, Created: time.Unix(1, 0)})
	snapshot, err := out.ForWorkload(workload)
	if err != nil || len(out.Problems) > 0 || len(snapshot.Rules()) != 1 {
		t.Fatalf("compiled with %v, %v: %d rules\n%s", err, out.Problems, len(snapshot.Rules()), text)
	}
	return snapshot.Rules()[0]
}

// said is a rule in its one form, to be compared.
func said(r policy.Rule) string {
	if r.TLS.Mode == "" {
		r.TLS.Mode = policy.TLSAuto
	}
	text, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// drawQuestion draws a connection whose links may differ, and what DNS answers.
func drawQuestion(t *rapid.T) Question {
	c := drawChain(t)
	switch rapid.IntRange(0, 4).Draw(t, "links") {
	case 0: // a name on an address of another
		c.Addr = netip.MustParseAddr(rapid.SampledFrom([]string{"93.184.217.1", "10.1.0.1", "169.254.169.254", "198.19.0.1"}).Draw(t, "foreign address"))
		c.Dialled = name("")
	case 1: // two names
		if c.Sniffed == policy.ClientHello {
			c.SNI = name("other.b")
		}
	}
	q := Question{Chain: c.Chain}
	pool := []string{"93.184.217.1", "142.250.74.74", "10.1.0.1", "10.7.0.1", "10.9.9.9", "127.0.0.1", "169.254.169.254", "198.19.0.1", "224.0.0.1", "192.0.2.1", "0.0.0.0"}
	if rapid.IntRange(0, 3).Draw(t, "family") == 0 {
		pool = []string{"2a00:1450::1", "fd00::1", "::1", "fe80::1", "fd00:5c::1", "::ffff:10.1.0.1", "64:ff9b::a01:1", "ff02::1"}
	}
	for _, text := range rapid.SliceOfNDistinct(rapid.SampledFrom(pool), 1, 3, rapid.ID).Draw(t, "answers") {
		q.Answers = append(q.Answers, netip.MustParseAddr(text))
	}
	return q
}
