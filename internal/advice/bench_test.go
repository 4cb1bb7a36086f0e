package advice

import (
	"fmt"
	"testing"

	"sluice.dev/sluice/internal/policy"
)

func BenchmarkExplainADenial(b *testing.B) {
	for _, count := range []int{1000, 100_000} {
		rules := make([]policy.Rule, 0, count)
		for i := range count {
			switch i % 10 {
			case 0:
				rules = append(rules, rule(fmt.Sprint(i), fmt.Sprintf("11.%d.%d.0/24", i>>8&255, i&255), "8443/tcp"))
			case 1:
				rules = append(rules, requests(rule(fmt.Sprint(i), fmt.Sprintf("api%d.example.com", i), "80/http"), "GET", "/books/*"))
			default:
				rules = append(rules, rule(fmt.Sprint(i), fmt.Sprintf("host%d.example.com", i), "443/https"))
			}
		}
		s := newSet(b, rules...)
		for say, c := range map[string]chain{
			"name":      dialled("www.google.com", 443).tls("www.google.com"),
			"neighbour": dialled("other.example.com", 443).tls("other.example.com"),
			"address":   dialledAddr("192.0.2.1", 8443).opaque(),
			"path":      dialled("api1.example.com", 80).get("api1.example.com", "/x"),
		} {
			b.Run(fmt.Sprintf("%s/%d", say, count), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					explain(s, c, detailsV2)
				}
			})
		}
	}
}
