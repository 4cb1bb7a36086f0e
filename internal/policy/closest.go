package policy

import (
	"net/netip"
	"slices"
	"strings"

	"sluice.dev/sluice/internal/names"
)

// closest returns the rule that comes closest to allowing the chain, nil when
// none is near: the one that Decide named, else one that holds the destination on
// another port, else a wildcard whose apex it is, else one on the same
// registrable domain. Of several as close the first by ID.
func (s *Set) closest(c *Chain, v *Verdict) *Rule {
	if v.Rule != nil {
		return v.Rule
	}
	if v.Name.IsZero() && !v.Addr.IsValid() {
		return nil
	}
	var best *Rule
	near := 0
	for i := range s.rules {
		rule := &s.rules[i]
		score := rule.nearness(v.Name, v.Addr)
		if score > 0 && slices.ContainsFunc(rule.Ports, func(p Port) bool { return p.Port == c.Port }) {
			score++
		}
		if score > near {
			best, near = rule, score
		}
	}
	return best
}

// nearness scores how near a rule's destinations are, 0 for not at all. Odd steps
// are left for the port.
func (r *Rule) nearness(name names.Name, addr netip.Addr) int {
	if name.IsZero() {
		if holds(r.CIDRs, addr) {
			return 6
		}
		return 0
	}
	near := 0
	for _, pattern := range r.Hosts {
		switch suffix, wild := pattern.Suffix(); {
		case pattern.IsAny():
			near = max(near, 1)
		case pattern.Match(name):
			return 6
		case wild && suffix == "."+name.String():
			near = max(near, 4)
		case sameSite(pattern, name):
			near = max(near, 2)
		}
	}
	return near
}

// sameSite reports whether a pattern stays within a domain above name that
// belongs to one owner, as far as that can be told without the list of public
// suffixes, which would bring net/http along: a domain of at least two labels
// whose first has more than three bytes (not co.uk). It decides about a hint only.
func sameSite(pattern names.Pattern, name names.Name) bool {
	text, wild := pattern.Suffix()
	if !wild {
		text = pattern.String()
	}
	of, err := names.Parse(strings.TrimPrefix(text, "."))
	if err != nil {
		return false
	}
	for site := name.String(); ; {
		label, rest, ok := strings.Cut(site, ".")
		if !ok {
			return false
		}
		if domain, err := names.Parse(site); err == nil && len(label) > 3 && of.Within(domain) {
			return true
		}
		site = rest
	}
}
