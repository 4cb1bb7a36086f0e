package policy

import (
	"iter"
	"net/netip"
	"slices"

	"sluice.dev/sluice/internal/names"
)

// What follows is for whoever explains a verdict: it looks up what Decide looked
// at, and decides nothing.

// Tier is the rules that hold one destination on one port, as specific as each
// other: those among which Decide chose.
type Tier struct {
	Pattern names.Pattern // on which they hold it; zero in a tier on addresses
	Range   netip.Prefix  // on which they hold it; zero in a tier on names
	Members []Member      // in the order of rule IDs
}

// Member is one rule's port in a tier.
type Member struct {
	Rule     *Rule
	Protocol Protocol
}

// Tier returns the tier that decides about a name on a port or, where the name is
// zero, about an address. Without one, rules on addresses may still decide about a
// name (NamesByAddress).
func (s *Set) Tier(transport Transport, port uint16, name names.Name, addr netip.Addr) (Tier, bool) {
	key := portOf(transport, port)
	table := s.ports[key]
	if table == nil {
		return Tier{}, false
	}
	if name.IsZero() {
		if !addr.IsValid() || table.addrs == nil {
			return Tier{}, false
		}
		addr = addr.Unmap()
		at, found, ok := table.addrs.LookupPrefixLPM(netip.PrefixFrom(addr, addr.BitLen()))
		if !ok || len(found.candidates) == 0 {
			return Tier{}, false
		}
		return found.members(Tier{Range: at}), true
	}
	found, ok := s.nameTier(key, name)
	if !ok {
		return Tier{}, false
	}
	var best names.Pattern
	for _, c := range found.candidates {
		for _, pattern := range c.rule.Hosts {
			if pattern.Match(name) && (best.IsZero() || pattern.Specificity() > best.Specificity()) {
				best = pattern
			}
		}
	}
	return found.members(Tier{Pattern: best}), true
}

func (t *tier) members(of Tier) Tier {
	for _, c := range t.candidates {
		of.Members = append(of.Members, Member{c.rule, c.protocol})
	}
	return of
}

// NamesByAddress reports whether rules on addresses of the port allow names that no
// rule on names holds, to lead into them.
func (s *Set) NamesByAddress(transport Transport, port uint16) bool {
	table := s.ports[portOf(transport, port)]
	return table != nil && table.hasAddrs()
}

// Rules yields every rule in the order of IDs. Nobody may change them.
func (s *Set) Rules() iter.Seq[*Rule] {
	return func(yield func(*Rule) bool) {
		for _, entry := range s.rules {
			if !yield(&entry.rule) {
				return
			}
		}
	}
}

// Domain returns the mesh's domain, zero where there is none.
func (s *Set) Domain() names.Name { return s.domain }

// HoldsPort reports whether the rule opens the port.
func (r *Rule) HoldsPort(transport Transport, port uint16) bool {
	return slices.ContainsFunc(r.Ports, func(p Port) bool { return p.Port == port && p.Protocol.Transport() == transport })
}

// Holds reports whether the rule is about the name or, where that is zero, about
// the address.
func (r *Rule) Holds(name names.Name, addr netip.Addr) bool {
	if !name.IsZero() {
		return slices.ContainsFunc(r.Hosts, func(p names.Pattern) bool { return p.Match(name) })
	}
	return slices.ContainsFunc(r.CIDRs, func(p netip.Prefix) bool { return unmapPrefix(p).Contains(addr) }) ||
		slices.ContainsFunc(r.Hosts, func(p names.Pattern) bool { at, ok := p.Addr(); return ok && at == addr })
}
