package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sluice.dev/sluice/internal/names"
)

// What Change fails on besides what NewSet fails on.
var (
	// ErrNotThere says that a rule which is to be taken out is not in the Set.
	ErrNotThere = errors.New("there is no such rule")
	// ErrTwice says that a Set has two rules of one ID, or would: which is which cannot be told.
	ErrTwice = errors.New("there are two of that ID")
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
		case port.Upstream != (Upstream{}) && (port.Upstream.Port == 0 || !port.Protocol.leadsTo(port.Upstream.Protocol)):
			return fmt.Errorf("%s port %d leads to %s port %d: an http port leads to one that is http or https, an http2 or grpc port to one that is http2, grpc or https, and no other leads elsewhere", port.Protocol, port.Port, port.Upstream.Protocol, port.Upstream.Port)
		case port.Upstream.Protocol == ProtocolHTTPS && r.TLS.Mode == TLSPassthrough:
			return fmt.Errorf("TLS is originated to port %d, and the TLS mode is Passthrough", port.Upstream.Port)
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
