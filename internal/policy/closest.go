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
	var (
		best  *Rule
		near  = 0
		sites = sitesOf(v.Name)
	)
	for i := range s.rules {
		rule := &s.rules[i]
		score := rule.nearness(v.Name, v.Addr, sites)
		if score > 0 && rule.holdsPort(c.Port) {
			score++
		}
		if score > near {
			best, near = rule, score
		}
	}
	return best
}

func (r *Rule) holdsPort(port uint16) bool {
	return slices.ContainsFunc(r.Ports, func(p Port) bool { return p.Port == port })
}

// holdsDestination reports whether the rule is about the name or, where there is
// none, the address.
func (r *Rule) holdsDestination(name names.Name, addr netip.Addr) bool {
	if !name.IsZero() {
		return slices.ContainsFunc(r.Hosts, func(p names.Pattern) bool { return p.Match(name) })
	}
	return slices.ContainsFunc(r.CIDRs, func(p netip.Prefix) bool { return unmapPrefix(p).Contains(addr) }) ||
		slices.ContainsFunc(r.Hosts, func(p names.Pattern) bool { at, ok := p.Addr(); return ok && at == addr })
}

// nearness scores how near a rule's destinations are, 0 for not at all. Odd steps
// are left for the port.
func (r *Rule) nearness(name names.Name, addr netip.Addr, sites []string) int {
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
		case wild && len(suffix) == len(name.String())+1 && suffix[0] == '.' && suffix[1:] == name.String():
			near = max(near, 4)
		case isOnSite(pattern, sites):
			near = max(near, 2)
		}
	}
	return near
}

// sitesOf returns the domains at or above name that belong to one owner, as far as
// that can be told without the list of public suffixes, which would bring net/http
// along: those of at least two labels whose first has more than three bytes (not
// co.uk). It decides about a hint only.
func sitesOf(name names.Name) []string {
	var sites []string
	for site := name.String(); ; {
		label, rest, more := strings.Cut(site, ".")
		if !more {
			return sites
		}
		if len(label) > 3 {
			sites = append(sites, site)
		}
		site = rest
	}
}

// isOnSite reports whether a pattern stays within one of the sites.
func isOnSite(pattern names.Pattern, sites []string) bool {
	text, wild := pattern.Suffix()
	if !wild {
		text = pattern.String()
	}
	return slices.ContainsFunc(sites, func(site string) bool {
		above, ok := strings.CutSuffix(text, site)
		return ok && (above == "" || above[len(above)-1] == '.')
	})
}
