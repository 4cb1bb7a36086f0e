package advice

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
)

// merged puts rules together that say the same of several ports, and then of several
// destinations, so that each combination in a merged rule is one that stood alone.
// Names and addresses stay apart: a range beside names is consent for their answers.
func merged(rules []policy.Rule) []policy.Rule {
	rules = join(rules, func(r *policy.Rule) any {
		return []any{r.Hosts, r.CIDRs, r.TLS, r.HTTP, r.PrivateAnswers}
	}, func(into, r *policy.Rule) bool {
		if len(into.Ports)+len(r.Ports) > somePorts {
			return false
		}
		into.Ports = append(slices.Clone(into.Ports), r.Ports...)
		return true
	})
	for i := range rules {
		slices.SortFunc(rules[i].Ports, func(a, b policy.Port) int {
			return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
		})
	}
	rules = join(rules, func(r *policy.Rule) any {
		return []any{len(r.Hosts) > 0, r.Ports, r.TLS, r.HTTP, r.PrivateAnswers}
	}, func(into, r *policy.Rule) bool {
		if len(into.Hosts)+len(into.CIDRs) >= someHosts {
			return false
		}
		into.Hosts = append(slices.Clone(into.Hosts), r.Hosts...)
		into.CIDRs = append(slices.Clone(into.CIDRs), r.CIDRs...)
		return true
	})
	for i := range rules {
		slices.SortFunc(rules[i].Hosts, func(a, b names.Pattern) int { return cmp.Compare(a.String(), b.String()) })
		slices.SortFunc(rules[i].CIDRs, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	}
	return rules
}

// join puts each rule into the last one of the same key that takes it.
func join(rules []policy.Rule, key func(*policy.Rule) any, into func(last, r *policy.Rule) bool) []policy.Rule {
	var out []policy.Rule
	last := make(map[string]int)
	for i := range rules {
		text, err := json.Marshal(key(&rules[i]))
		if err != nil {
			text = nil // strings and numbers alone: it cannot be
		}
		if at, known := last[string(text)]; known && err == nil && into(&out[at], &rules[i]) {
			continue
		}
		last[string(text)] = len(out)
		out = append(out, rules[i])
	}
	return out
}
