package advice

import (
	"net/netip"
	"slices"
	"strings"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
)

// closest returns the rule that comes closest to allowing the chain, nil when
// none is near: the one that Decide named, else one that holds the destination on
// another port, else a wildcard whose apex it is, else one on the same
// registrable domain. Of several as close the first by ID.
func (a *asked) closest() *policy.Rule {
	v := a.verdict
	if v.Rule != nil && v.Rule.ID != policy.AuditRule {
		return v.Rule
	}
	if v.Name.IsZero() && !v.Addr.IsValid() {
		return nil
	}
	var (
		best  *policy.Rule
		near  = 0
		sites = sitesOf(v.Name)
	)
	for rule := range a.set.Rules() {
		score := nearness(rule, v.Name, v.Addr, sites)
		if score > 0 && rule.HoldsPort(v.Transport, v.Port) {
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
func nearness(r *policy.Rule, name names.Name, addr netip.Addr, sites []string) int {
	if name.IsZero() {
		if r.Holds(name, addr) {
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
