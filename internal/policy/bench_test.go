package policy

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"sluice.dev/sluice/internal/names"
)

// manyRules is count rules: names, wildcards, ranges and paths.
func manyRules(count int) []Rule {
	rules := make([]Rule, 0, count)
	for i := range count {
		r := Rule{ID: fmt.Sprintf("egress-policy/default/%06d", i), Ports: []Port{{Port: 443, Protocol: ProtocolHTTPS}, {Port: 8443, Protocol: ProtocolTCP}}}
		switch i % 4 {
		case 0:
			r.Hosts = []names.Pattern{names.MustParsePattern(fmt.Sprintf("host%d.example.com", i))}
		case 1:
			r.Hosts = []names.Pattern{names.MustParsePattern(fmt.Sprintf("*.host%d.example.com", i))}
		case 2:
			r.CIDRs = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 32)}
			r.Ports = r.Ports[1:]
		default:
			r.Hosts = []names.Pattern{names.MustParsePattern(fmt.Sprintf("api%d.example.com", i))}
			r.HTTP = []HTTPMatch{{Methods: []string{"GET"}, Paths: []string{"/books/v1/*"}}}
		}
		rules = append(rules, r)
	}
	return rules
}

// steadyChains are what a proxy decides all day.
func steadyChains() map[string]Chain {
	within := dialled("names.only.by.address.example", 8443).opaque()
	return map[string]Chain{
		"exact":        dialled("host0.example.com", 443).tls("host0.example.com"),
		"wildcard":     dialled("www.host1.example.com", 443).get("www.host1.example.com:443", "/books/v1/volumes"),
		"address":      dialledAddr("11.0.0.2", 8443).opaque(),
		"path":         dialled("api3.example.com", 443).get("api3.example.com", "/books/v1/volumes"),
		"path denied":  dialled("api3.example.com", 443).get("api3.example.com", "/books/v1/../x"),
		"no rule":      dialled("www.google.com", 443).tls("www.google.com"),
		"mismatch":     dialled("www.google.com", 443).tls("host0.example.com"),
		"within":       within,
		"not read yet": {Dialled: within.Dialled, Port: 8443},
	}
}

func TestDecideDoesNotAllocate(t *testing.T) {
	s := newSet(t, manyRules(1000)...)
	for say, c := range steadyChains() {
		if n := testing.AllocsPerRun(100, func() { s.Decide(&c) }); n != 0 {
			t.Errorf("%s: %v allocations", say, n)
		}
		if n := testing.AllocsPerRun(100, func() { s.AtConnect(TCP, c.Port, c.Dialled, c.Addr); s.Names(c.Dialled) }); n != 0 {
			t.Errorf("%s: %v allocations before the verdict", say, n)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, count := range []int{1000, 100_000} {
		rules := manyRules(count)
		s := newSet(b, rules...)
		for say, c := range steadyChains() {
			b.Run(fmt.Sprintf("%s/%d", say, count), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					s.Decide(&c)
				}
			})
		}
	}
}

// oneDestination is count rules on one and the same, each for other requests.
func oneDestination(count int) []Rule {
	rules := make([]Rule, 0, count)
	for i := range count {
		r := rule(fmt.Sprintf("egress-policy/default/%06d", i), "www.example.com", "80/http")
		rules = append(rules, r.requests("GET", fmt.Sprintf("/%d/*", i)))
	}
	return rules
}

// pathsOnRanges is count ranges of addresses, every hundredth with a path.
func pathsOnRanges(count int) []Rule {
	rules := make([]Rule, 0, count)
	for i := range count {
		r := rule(fmt.Sprintf("egress-rule/default/%06d", i), fmt.Sprintf("11.%d.%d.%d/32", i>>16&255, i>>8&255, i&255), "80/http")
		if i%100 == 0 {
			r = r.requests("GET", fmt.Sprintf("/%d/*", i))
		} else {
			r.Ports[0].Protocol = ProtocolHTTPS
			r.TLS.Mode = TLSPassthrough
		}
		rules = append(rules, r)
	}
	return rules
}

func BenchmarkNewSet(b *testing.B) {
	for shape, rules := range map[string][]Rule{
		"mixed/1000": manyRules(1000), "mixed/10000": manyRules(10_000), "mixed/100000": manyRules(100_000),
		"one destination/20000": oneDestination(20_000), "paths on ranges/20000": pathsOnRanges(20_000),
	} {
		b.Run(shape, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := NewSet(rules, Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkMemory reports what a Set holds for each rule, besides the rule.
func BenchmarkMemory(b *testing.B) {
	for _, count := range []int{10_000, 100_000} {
		rules := manyRules(count)
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			var before, after runtime.MemStats
			for b.Loop() {
				runtime.GC()
				runtime.ReadMemStats(&before)
				s := newSet(b, rules...)
				runtime.GC()
				runtime.ReadMemStats(&after)
				runtime.KeepAlive(s)
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(count), "B/rule")
		})
	}
}
