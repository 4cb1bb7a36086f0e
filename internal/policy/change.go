package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"

	"sluice.dev/sluice/internal/addresses"
	"sluice.dev/sluice/internal/names"
)

// What Change fails on besides what NewSet fails on.
var (
	// ErrNotThere says that a rule which is to be taken out is not in the Set.
	ErrNotThere = errors.New("the rule is not among those that are changed")
	// ErrTwice says that a Set has two rules of one ID, or would: which is which cannot be told.
	ErrTwice = errors.New("there are two of it")
)

// Change returns a Set of other rules: without those of the IDs in gone, and with those
// added. It costs what the rules that change cost, but for addresses: the ranges of a port
// on which one changes are compiled anew. s stays as it is. Where it fails, building anew
// may not: an ID that is not there or is there twice says nothing of the rules.
func (s *Set) Change(gone []string, added []*Rule, opts Options) (*Set, error) {
	return s.change(gone, added, opts, true)
}

// change is Change; unless distinct, rules may have one ID.
func (s *Set) change(gone []string, added []*Rule, opts Options, distinct bool) (*Set, error) {
	if opts.Outbound == Allow {
		return nil, errors.New("compile rules: an outbound default of Allow is not supported yet")
	}
	e := &edit{
		set: Set{
			version: opts.Version, deny: opts.Deny, domain: opts.Domain, outbound: opts.Outbound, auditRule: Rule{ID: AuditRule},
			ports: maps.Clone(s.ports), holders: slices.Clone(s.holders), free: slices.Clone(s.free), any: s.any, entries: s.entries,
		},
		names: s.names.Change(), joined: make(map[joining]joined), tables: make(map[portKey]bool), tiers: make(map[*tier]bool),
	}
	if e.set.ports == nil {
		e.set.ports = make(map[portKey]*portTable)
	}
	if err := e.takeOut(s.rules, gone); err != nil {
		return nil, fmt.Errorf("compile rules: %w", err)
	}
	if err := e.putIn(added, distinct); err != nil {
		return nil, err
	}
	return e.done()
}

// edit is a Set under way.
type edit struct {
	set    Set
	names  *names.IndexEdit
	any    []*ruleEntry
	ownAny bool               // any counts, and set.any is to be made of it
	joined map[joining]joined // holders of several rules that were made
	owned  []uint32           // numbers of these
	tables map[portKey]bool   // tables that are ours to change; whether their addresses changed
	tiers  map[*tier]bool     // likewise, of addresses
}

// held is a holder and how many patterns have its number. A rule counts as one for its own.
type held struct {
	*holder
	patterns int
	own      bool // the edit made it, of several rules: it may be changed
}

// joining is a holder and the rule that is put in beside its rules or taken out of them:
// many patterns of two rules get one holder.
type joining struct {
	holder *holder
	rule   *ruleEntry
	out    bool
}

// joined is what came of it, unless the number has another holder by now.
type joined struct {
	holder *holder
	number uint32
}

// takeOut takes rules out by their IDs and leaves the others in e.set.rules.
func (e *edit) takeOut(rules []*ruleEntry, gone []string) error {
	if len(gone) == 0 {
		e.set.rules = rules
		return nil
	}
	gone = slices.Sorted(slices.Values(gone))
	left := make([]*ruleEntry, 0, len(rules)-min(len(gone), len(rules)))
	for _, id := range gone {
		at, ok := slices.BinarySearchFunc(rules, id, func(r *ruleEntry, id string) int { return strings.Compare(r.rule.ID, id) })
		if !ok {
			return fmt.Errorf("rule %s: %w", id, ErrNotThere)
		}
		if at+1 < len(rules) && rules[at+1].rule.ID == id {
			return fmt.Errorf("rule %s: %w", id, ErrTwice)
		}
		left = append(left, rules[:at]...)
		e.remove(rules[at])
		rules = rules[at+1:]
	}
	e.set.rules = append(left, rules...)
	return nil
}

// putIn puts rules in, in the order of their IDs; of equal IDs what was there comes first.
func (e *edit) putIn(added []*Rule, distinct bool) error {
	if len(added) == 0 {
		return nil
	}
	added = slices.Clone(added)
	slices.SortStableFunc(added, func(a, b *Rule) int { return strings.Compare(a.ID, b.ID) })
	before := e.set.rules
	all := make([]*ruleEntry, 0, len(before)+len(added))
	for _, rule := range added {
		at, _ := slices.BinarySearchFunc(before, rule.ID, func(r *ruleEntry, id string) int {
			if r.rule.ID == id {
				return -1 // behind it
			}
			return strings.Compare(r.rule.ID, id)
		})
		all = append(all, before[:at]...)
		before = before[at:]
		if distinct && len(all) > 0 && all[len(all)-1].rule.ID == rule.ID {
			return fmt.Errorf("compile rules: rule %s: %w", rule.ID, ErrTwice)
		}
		if e.set.entries += entriesOf(rule); e.set.entries > MaxEntries {
			return fmt.Errorf("compile rules: more than %d destinations and ports", MaxEntries)
		}
		fresh, err := e.add(*rule)
		if err != nil {
			return fmt.Errorf("compile rule %s: %w", rule.ID, err)
		}
		all = append(all, fresh)
	}
	e.set.rules = append(all, before...)
	return nil
}

func entriesOf(rule *Rule) int { return (len(rule.Hosts) + len(rule.CIDRs)) * len(rule.Ports) }

// check refuses what the gate cannot carry.
func (r *Rule) check() error {
	switch r.TLS.Mode {
	case "", TLSAuto, TLSOriginate, TLSPassthrough:
	default:
		return fmt.Errorf("TLS mode %q: not supported yet", r.TLS.Mode)
	}
	for _, cidr := range r.CIDRs {
		if !cidr.IsValid() {
			return fmt.Errorf("an address range is not valid")
		}
	}
	for _, port := range r.Ports {
		switch {
		case port.Port == 0:
			return fmt.Errorf("port 0")
		case !port.Protocol.isBuilt():
			return fmt.Errorf("protocol %s on port %d: not supported yet", port.Protocol, port.Port)
		case port.IdleTimeout < 0:
			return fmt.Errorf("idle timeout %s on port %d", port.IdleTimeout, port.Port)
		}
	}
	return nil
}

// add puts one rule under its patterns and ranges.
func (e *edit) add(rule Rule) (*ruleEntry, error) {
	if err := rule.check(); err != nil {
		return nil, err
	}
	if rule.TLS.Mode == "" {
		rule.TLS.Mode = TLSAuto
	}
	fresh := &ruleEntry{rule: rule}
	fresh.consent = consentOf(&fresh.rule)
	fresh.number = e.number(held{holder: newHolder([]*ruleEntry{fresh}), patterns: 1})
	for pattern := range fresh.patterns() {
		switch number, found := e.names.Get(pattern); {
		case pattern.IsAny():
			e.changeAny(func(all []*ruleEntry) []*ruleEntry { return insertRule(all, fresh) })
		case found:
			e.names.Put(pattern, e.join(number, fresh, false))
		case !e.names.Put(pattern, fresh.number):
			continue // no name can match it
		default:
			e.set.holders[fresh.number].patterns++
		}
		e.count(fresh, 1)
	}
	for cidr := range fresh.ranges() {
		e.addRange(cidr, fresh)
	}
	return fresh, nil
}

// remove takes a rule out from under its patterns and ranges.
func (e *edit) remove(old *ruleEntry) {
	e.set.entries -= entriesOf(&old.rule)
	for pattern := range old.patterns() {
		switch number, found := e.names.Get(pattern); {
		case pattern.IsAny():
			e.changeAny(func(all []*ruleEntry) []*ruleEntry { return withoutRule(all, old) })
		case !found:
			continue
		case number == old.number:
			e.names.Delete(pattern)
			e.leave(number)
		default:
			e.names.Put(pattern, e.join(number, old, true))
		}
		e.count(old, -1)
	}
	for cidr := range old.ranges() {
		e.removeRange(cidr, old)
	}
	e.leave(old.number)
}

// patterns yields each pattern of names once.
func (r *ruleEntry) patterns() func(yield func(names.Pattern) bool) {
	return func(yield func(names.Pattern) bool) {
		hosts := r.rule.Hosts
		var seen map[names.Pattern]bool
		if len(hosts) > 8 {
			seen = make(map[names.Pattern]bool, len(hosts))
		}
		for i, pattern := range hosts {
			if _, isAddr := pattern.Addr(); isAddr || seen[pattern] || seen == nil && slices.Contains(hosts[:i], pattern) {
				continue
			}
			if seen != nil {
				seen[pattern] = true
			}
			if !yield(pattern) {
				return
			}
		}
	}
}

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

// changeAny changes the rules that name "*".
func (e *edit) changeAny(change func([]*ruleEntry) []*ruleEntry) {
	if !e.ownAny {
		e.ownAny = true
		if e.set.any != nil {
			e.any = slices.Clone(e.set.any.members)
		}
	}
	e.any = change(e.any)
}

// number gives a holder a number.
func (e *edit) number(h held) uint32 {
	if n := len(e.set.free); n > 0 {
		number := e.set.free[n-1]
		e.set.free = e.set.free[:n-1]
		e.set.holders[number] = h
		return number
	}
	e.set.holders = append(e.set.holders, h)
	return uint32(len(e.set.holders) - 1)
}

// leave says that one pattern less has the number.
func (e *edit) leave(number uint32) {
	of := &e.set.holders[number]
	if of.patterns--; of.patterns == 0 {
		*of = held{}
		e.set.free = append(e.set.free, number)
	}
}

// join returns the number of the holder that one pattern has after a rule was put in beside
// those of its holder, or taken out of them.
func (e *edit) join(number uint32, rule *ruleEntry, out bool) uint32 {
	of := &e.set.holders[number]
	key := joining{of.holder, rule, out}
	made, ok := e.joined[key]
	if !ok || e.set.holders[made.number].holder != made.holder {
		if of.own && of.patterns == 1 && !(out && len(of.members) == 2) {
			of.holder = of.with(of.members, rule, out)
			return number
		}
		made.holder = of.with(slices.Clone(of.members), rule, out)
		if len(made.holder.members) == 1 {
			made.number = made.holder.members[0].number
			made.holder = e.set.holders[made.number].holder
		} else {
			made.number = e.number(held{holder: made.holder, own: true})
			e.owned = append(e.owned, made.number)
		}
		e.joined[key] = made
	}
	e.set.holders[made.number].patterns++
	e.leave(number)
	return made.number
}

// with returns a holder of one rule more or less, whose tiers are made in the end.
func (*holder) with(members []*ruleEntry, rule *ruleEntry, out bool) *holder {
	if out {
		return &holder{members: withoutRule(members, rule)}
	}
	return &holder{members: insertRule(members, rule)}
}

// insertRule puts a rule into a list in the order of IDs, behind those of the same ID.
func insertRule(all []*ruleEntry, fresh *ruleEntry) []*ruleEntry {
	at := len(all)
	for at > 0 && all[at-1].rule.ID > fresh.rule.ID {
		at--
	}
	return slices.Insert(all, at, fresh)
}

func withoutRule(all []*ruleEntry, gone *ruleEntry) []*ruleEntry {
	at := slices.Index(all, gone)
	if at < 0 {
		return all
	}
	return slices.Delete(all, at, at+1)
}

// newHolder makes the tiers of rules, which come in the order of IDs.
func newHolder(members []*ruleEntry) *holder {
	h := &holder{members: members}
	for _, member := range members {
		h.rule = tighter(h.rule, &member.rule)
		for _, port := range member.rule.Ports {
			key := portOf(port.Protocol.Transport(), port.Port)
			at, found := slices.BinarySearchFunc(h.ports, key, func(t portTier, key portKey) int { return cmp.Compare(t.port, key) })
			if !found {
				h.ports = slices.Insert(h.ports, at, portTier{port: key})
			}
			h.ports[at].tier.add(member.candidate(port))
		}
	}
	h.ports = slices.Clip(h.ports)
	return h
}

func (r *ruleEntry) candidate(port Port) candidate {
	return candidate{&r.rule, port.Protocol, r.consent, port.IdleTimeout}
}

// table returns the table of a port, to be changed.
func (e *edit) table(port Port) (key portKey, table *portTable) {
	key = portOf(port.Protocol.Transport(), port.Port)
	if _, ours := e.tables[key]; ours {
		return key, e.set.ports[key]
	}
	table = new(portTable)
	if before := e.set.ports[key]; before != nil {
		*table = *before
	}
	e.tables[key] = false
	e.set.ports[key] = table
	return key, table
}

// count counts one pattern of a rule on its ports.
func (e *edit) count(of *ruleEntry, by int) {
	for _, port := range of.rule.Ports {
		_, table := e.table(port)
		table.nameProtocols = table.named.add(port.Protocol, by)
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
		switch {
		case !found:
			at = &tier{}
		case !e.tiers[at]:
			at = &tier{candidates: slices.Clone(at.candidates)}
		}
		if !found || !e.tiers[at] {
			e.tiers[at] = true
			table.addrs.Insert(cidr, at)
		}
		at.add(of.candidate(port))
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
		if !e.tiers[at] {
			at = &tier{candidates: slices.Clone(at.candidates)}
			e.tiers[at] = true
			table.addrs.Insert(cidr, at)
		}
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

// done makes what follows from the rules.
func (e *edit) done() (*Set, error) {
	for _, number := range e.owned {
		if of := &e.set.holders[number]; of.own { // and nobody gave the number back
			of.holder, of.own = newHolder(of.members), false
		}
	}
	if e.ownAny {
		e.set.any = nil
		if len(e.any) > 0 {
			e.set.any = newHolder(e.any)
		}
	}
	for at := range e.tiers {
		at.order()
	}
	for key, ranged := range e.tables {
		table := e.set.ports[key]
		switch {
		case table.nameProtocols|table.addrProtocols == 0:
			delete(e.set.ports, key)
		case ranged && !table.hasAddrs():
			table.addrs, table.within = nil, within{}
		case ranged:
			table.within = within{}
			if err := table.within.compile(table); err != nil {
				return nil, fmt.Errorf("compile rules on port %s: %w", key, err)
			}
		}
	}
	e.set.names = e.names.Done()
	set := e.set
	return &set, nil
}
