package policy

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
	"sluice.dev/sluice/internal/addresses"
)

// ranges yields the ranges of addresses, some perhaps more than once.
func (r *ruleEntry) ranges() func(yield func(netip.Prefix) bool) {
	return func(yield func(netip.Prefix) bool) {
		for _, pattern := range r.rule.Hosts {
			if addr, ok := pattern.Addr(); ok && !yield(netip.PrefixFrom(addr, addr.BitLen())) {
				return
			}
		}
		for _, cidr := range r.rule.CIDRs {
			if !yield(cidr) {
				return
			}
		}
	}
}

// addRange puts a rule into the tiers of a range.
func (e *edit) addRange(cidr netip.Prefix, of *ruleEntry) {
	if cidr = unmapPrefix(cidr); addresses.InOwn(cidr) {
		return // Sluice's own: no rule holds it
	}
	for _, port := range of.rule.Ports {
		key, table := e.table(port)
		e.ownRanges(key, table)
		at, found := table.addrs.Get(cidr)
		if !found {
			at = &tier{}
		}
		e.ownTier(table, cidr, at).add(of.candidate(port))
		table.addrProtocols = table.ranged.add(port.Protocol, 1)
	}
}

// removeRange takes a rule out of the tiers of a range. A range that the rule lists more
// than once was counted as often.
func (e *edit) removeRange(cidr netip.Prefix, of *ruleEntry) {
	if cidr = unmapPrefix(cidr); addresses.InOwn(cidr) {
		return
	}
	for _, port := range of.rule.Ports {
		key, table := e.table(port)
		e.ownRanges(key, table)
		table.addrProtocols = table.ranged.add(port.Protocol, -1)
		at, found := table.addrs.Get(cidr)
		if !found {
			continue
		}
		at = e.ownTier(table, cidr, at)
		at.candidates = slices.DeleteFunc(at.candidates, func(c candidate) bool { return c.rule == &of.rule })
		if len(at.candidates) == 0 {
			table.addrs.Delete(cidr)
		}
	}
}

// ownRanges makes the ranges of a table ours to change. All of them are compiled anew in
// the end, so they may as well be copied.
func (e *edit) ownRanges(key portKey, table *portTable) {
	if e.tables[key] {
		return
	}
	e.tables[key] = true
	if table.addrs != nil {
		table.addrs = table.addrs.Clone()
		return
	}
	table.addrs = new(bart.Table[*tier])
	for _, ours := range addresses.OwnPrefixes() {
		table.addrs.Insert(ours, &tier{})
	}
}

// ownTier returns the tier of a range, or a copy that takes its place, as ours to change.
func (e *edit) ownTier(table *portTable, cidr netip.Prefix, at *tier) *tier {
	if !e.tiers[at] {
		at = &tier{candidates: slices.Clone(at.candidates)}
		e.tiers[at] = true
		table.addrs.Insert(cidr, at)
	}
	return at
}
