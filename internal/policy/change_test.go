package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sluice.dev/sluice/internal/names"
)

// dump writes down everything that a Set decides by.
func dump(s *Set) string {
	var b strings.Builder
	write := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	tierText := func(t *tier) string {
		var parts []string
		for _, c := range t.candidates {
			parts = append(parts, fmt.Sprint(c.rule.ID, " ", c.protocol, " ", c.idle, " ", *c.consent))
		}
		return fmt.Sprint(t.protocols, parts)
	}
	holderText := func(h *holder) string {
		var parts []string
		for i := range h.ports {
			parts = append(parts, fmt.Sprint(h.ports[i].port, ": ", tierText(&h.ports[i].tier)))
		}
		return fmt.Sprint(h.rule.ID, parts)
	}
	patterns := map[names.Pattern]bool{}
	for rule := range s.Rules() {
		write("rule %+v", *rule)
		for _, p := range rule.Hosts {
			patterns[p] = true
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(patterns), func(a, b names.Pattern) int { return strings.Compare(a.String(), b.String()) }) {
		if number, ok := s.names.Get(p); ok {
			write("%s: %s", p, holderText(s.holders[number].holder))
		}
	}
	if s.any != nil {
		write("any: %s", holderText(s.any))
	}
	for _, key := range slices.Sorted(maps.Keys(s.ports)) {
		t := s.ports[key]
		write("port %s: %v %v %v %v", key, t.named, t.ranged, t.nameProtocols, t.addrProtocols)
		if t.addrs != nil {
			for prefix, at := range t.addrs.AllSorted() {
				write("  %s: %s", prefix, tierText(at))
			}
			for _, j := range append([]judgement{t.within.http, t.within.hello, t.within.nameless, t.within.opaque}, t.within.requests...) {
				id := ""
				if j.rule != nil {
					id = j.rule.ID
				}
				write("  within: %s %s %s %q %v %s", id, j.protocol, j.treatment, j.reason, Consent{j.consent}.Ranges(), j.idle)
			}
		}
	}
	write("%d patterns, %d entries", s.names.Len(), s.entries)
	return b.String()
}

// checkNumbers looks at what no decision shows: holders that nobody has, and counts.
func checkNumbers(t *rapid.T, s *Set) {
	has := map[uint32]int{}
	for _, r := range s.rules {
		has[r.number]++
		for p := range r.patterns() {
			if number, ok := s.names.Get(p); ok && s.holders[number].members[0] == r {
				has[number]++
			}
		}
	}
	for number, h := range s.holders {
		free := slices.Contains(s.free, uint32(number))
		if h.patterns != has[uint32(number)] || free != (h.holder == nil) || h.own {
			t.Fatalf("holder %d has %d patterns, counts %d; free %t, %+v", number, has[uint32(number)], h.patterns, free, h)
		}
	}
}

func TestASetThatIsChangedIsTheSetThatIsBuiltAnew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		held := map[string]Rule{}
		opts := Options{Version: "v", Domain: name("cluster.local")}
		s, err := NewSet(nil, opts)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 10).Draw(t, "rounds") {
			before, text := s, dump(s)
			var gone []string
			var added []*Rule
			for i := range rapid.IntRange(0, 8).Draw(t, "changes") {
				id := fmt.Sprintf("egress-policy/default/%02d", rapid.IntRange(0, 11).Draw(t, "which"))
				if slices.Contains(gone, id) || slices.ContainsFunc(added, func(r *Rule) bool { return r.ID == id }) {
					continue
				}
				if _, there := held[id]; there {
					gone = append(gone, id)
					delete(held, id)
					if i%3 == 0 {
						continue
					}
				}
				rule := drawRule(t, id)
				if rapid.IntRange(0, 4).Draw(t, "bound") == 0 {
					rule.MaxNewNames = rapid.IntRange(1, 3).Draw(t, "names")
				}
				if rapid.IntRange(0, 4).Draw(t, "twice") == 0 {
					rule.Hosts, rule.CIDRs = append(rule.Hosts, rule.Hosts...), append(rule.CIDRs, rule.CIDRs...)
				}
				held[id] = rule
				added = append(added, &rule)
			}
			if s, err = s.Change(gone, added, opts); err != nil {
				t.Fatal(err)
			}
			whole, err := NewSet(slices.Collect(maps.Values(held)), opts)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := dump(s), dump(whole); got != want {
				t.Fatalf("changed:\n%s\nbuilt anew:\n%s", got, want)
			}
			checkNumbers(t, s)
			checkNumbers(t, whole)
			if dump(before) != text {
				t.Fatal("the set that was changed is another one now")
			}
			c := drawChain(t)
			if got, want := s.Decide(&c), whole.Decide(&c); got.String() != want.String() || !got.Consent.Equal(want.Consent) {
				t.Fatalf("changed: %s; built anew: %s", got, want)
			}
		}
	})
}

func TestAChangeThatCannotBeMadeLeavesTheSetAsItIs(t *testing.T) {
	s := newSet(t, rule("a", "a.example *.b.example 192.0.2.0/24", "443/https"), rule("b", "a.example", "443/https"))
	before := dump(s)
	if _, err := s.Change([]string{"c"}, nil, Options{}); !errors.Is(err, ErrNotThere) {
		t.Errorf("a rule was taken out that is not there: %v", err)
	}
	again := rule("a", "a.example", "443/https")
	if _, err := s.Change(nil, []*Rule{&again}, Options{}); !errors.Is(err, ErrTwice) {
		t.Errorf("a rule was put in beside another of its ID: %v", err)
	}
	if _, err := newSet(t, again, again).Change([]string{"a"}, nil, Options{}); !errors.Is(err, ErrTwice) {
		t.Errorf("one of two rules of an ID was taken out: %v", err)
	}
	bad := rule("c", "a.example 192.0.2.0/24", "443/https", "53/udp")
	if _, err := s.Change([]string{"a"}, []*Rule{&bad}, Options{}); err == nil || !strings.Contains(err.Error(), "compile rule c: protocol udp on port 53") {
		t.Errorf("a rule was put in that the gate cannot carry: %v", err)
	}
	if dump(s) != before {
		t.Error("the set is another one now")
	}
}

func TestManyPatternsOfTheSameRulesHaveOneHolder(t *testing.T) {
	var hosts []string
	for i := range 1000 {
		hosts = append(hosts, fmt.Sprintf("host%d.example.com", i))
	}
	to := strings.Join(hosts, " ")
	s := newSet(t, rule("a", to, "443/https"), rule("b", to, "80/http"), rule("c", to, "443/tls"))
	if got := len(s.holders) - len(s.free); got != 4 {
		t.Errorf("three rules and what they name together are %d holders", got)
	}
}

// policies is count rules of hosts names each, as `sluice create -f` of block lists has.
func policies(count, hosts int) []Rule {
	rules := make([]Rule, count)
	for i := range rules {
		rules[i] = Rule{ID: fmt.Sprintf("egress-policy/default/%06d", i), Ports: []Port{{Port: 443, Protocol: ProtocolHTTPS}}}
		for k := range hosts {
			rules[i].Hosts = append(rules[i].Hosts, names.MustParsePattern(fmt.Sprintf("host-%d-%d.example.com", i, k)))
		}
	}
	return rules
}

// BenchmarkChange changes one rule among many.
func BenchmarkChange(b *testing.B) {
	for _, c := range []struct{ rules, hosts int }{{10, 1}, {10_000, 1}, {1000, 100}} {
		b.Run(fmt.Sprintf("%d rules of %d hosts", c.rules, c.hosts), func(b *testing.B) {
			s := newSet(b, policies(c.rules, c.hosts)...)
			fresh := policies(c.rules, c.hosts)[c.rules/2]
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if s, err = s.Change([]string{fresh.ID}, []*Rule{&fresh}, Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
