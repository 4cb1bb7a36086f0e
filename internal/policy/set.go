package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"

	"sluice.dev/sluice/internal/names"
)

// MaxEntries is the bound on the destinations times ports of all rules of a Set.
const MaxEntries = 1 << 20

// Options says what a Set is, besides its rules.
type Options struct {
	// Version is of the snapshot that the rules came with.
	Version string
	// Deny, when set, is the reason with which everything is denied, whatever the
	// rules say: NoSnapshot, StaleSnapshot.
	Deny Reason
}

// Set is the rules of one class of workloads, compiled. It is immutable and safe
// for concurrent use.
type Set struct {
	version string
	deny    Reason
	rules   []Rule // in the order of their IDs
	ports   map[uint16]*portTable
	named   names.Trie[bool] // every pattern but "*"; true: without a wildcard
}

// portTable is the tiers of one port.
type portTable struct {
	names         names.Trie[*tier]
	addrs         bart.Table[*tier]
	nameProtocols protocols
	addrProtocols protocols
	within        within
}

// own is the address ranges that belong to Sluice itself: the gate, the addresses
// of workloads, and the synthetic ones behind which names stand (RFC 2544 and RFC
// 5180 set them aside for benchmarks). No rule on addresses ever matches one.
var own = [...]netip.Prefix{
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("2001:2::/48"),
	netip.MustParsePrefix("fd00:5c::/64"),
}

// NewSet compiles rules; the order of their IDs decides which of several that
// allow is named. It keeps what they point to: they must not change afterwards. It
// fails on a rule that the gate cannot carry, so that a snapshot is taken whole or
// not at all.
func NewSet(rules []Rule, opts Options) (*Set, error) {
	s := &Set{version: opts.Version, deny: opts.Deny, rules: slices.Clone(rules), ports: map[uint16]*portTable{}}
	slices.SortStableFunc(s.rules, func(a, b Rule) int { return strings.Compare(a.ID, b.ID) })
	entries := 0
	for i := range s.rules {
		rule := &s.rules[i]
		if entries += (len(rule.Hosts) + len(rule.CIDRs)) * len(rule.Ports); entries > MaxEntries {
			return nil, fmt.Errorf("compile rules: more than %d destinations and ports", MaxEntries)
		}
		if err := s.add(rule); err != nil {
			return nil, fmt.Errorf("compile rule %s: %w", rule.ID, err)
		}
	}
	for port, table := range s.ports {
		if !table.hasAddrs() {
			continue
		}
		for _, ours := range own {
			table.addrs.Insert(ours, &tier{})
		}
		if err := table.within.compile(table); err != nil {
			return nil, fmt.Errorf("compile rules on port %d: %w", port, err)
		}
	}
	return s, nil
}

// Version returns the version of the snapshot that the Set came with.
func (s *Set) Version() string { return s.version }

// Len returns the number of rules.
func (s *Set) Len() int { return len(s.rules) }

// Names reports whether a rule more specific than "*" names n, on any port.
func (s *Set) Names(n names.Name) bool {
	_, ok := s.named.Lookup(n)
	return ok
}

// NamesExactly reports whether a rule spells n out, on any port: DNS limits the
// rate of the other new names, for under a wildcard the workload chooses them.
func (s *Set) NamesExactly(n names.Name) bool {
	exactly, _ := s.named.Lookup(n)
	return exactly
}

// add puts a rule into the tables of its ports.
func (s *Set) add(rule *Rule) error {
	switch rule.TLS.Mode {
	case "":
		rule.TLS.Mode = TLSAuto
	case TLSAuto, TLSOriginate, TLSPassthrough:
	default:
		return fmt.Errorf("TLS mode %q: not built yet", rule.TLS.Mode)
	}
	for _, cidr := range rule.CIDRs {
		if !cidr.IsValid() {
			return fmt.Errorf("an address range is not valid")
		}
	}
	for _, pattern := range rule.Hosts {
		if !pattern.IsAny() {
			_, exactly := pattern.Exact()
			s.named.Insert(pattern, exactly)
		}
	}
	for _, port := range rule.Ports {
		if port.Port == 0 {
			return fmt.Errorf("port 0")
		}
		if !port.Protocol.isBuilt() {
			return fmt.Errorf("protocol %s on port %d: not built yet", port.Protocol, port.Port)
		}
		table := s.ports[port.Port]
		if table == nil {
			table = &portTable{}
			s.ports[port.Port] = table
		}
		table.add(rule, port.Protocol)
	}
	return nil
}

// add puts a rule's destinations into the table, for one protocol.
func (t *portTable) add(rule *Rule, protocol Protocol) {
	for _, pattern := range rule.Hosts {
		if addr, ok := pattern.Addr(); ok {
			t.addAddr(netip.PrefixFrom(addr, addr.BitLen()), rule, protocol)
			continue
		}
		slot, found := t.names.Slot(pattern)
		if slot == nil {
			continue // no name can match it
		}
		if !found {
			*slot = &tier{}
		}
		(*slot).add(rule, protocol)
		t.nameProtocols = t.nameProtocols.with(protocol)
	}
	for _, cidr := range rule.CIDRs {
		t.addAddr(cidr, rule, protocol)
	}
}

func (t *portTable) addAddr(cidr netip.Prefix, rule *Rule, protocol Protocol) {
	cidr = unmapPrefix(cidr)
	if slices.ContainsFunc(own[:], func(ours netip.Prefix) bool { return ours.Bits() <= cidr.Bits() && ours.Contains(cidr.Addr()) }) {
		return // Sluice's own: no rule holds it
	}
	at, found := t.addrs.Get(cidr)
	if !found {
		at = &tier{}
		t.addrs.Insert(cidr, at)
	}
	at.add(rule, protocol)
	t.addrProtocols = t.addrProtocols.with(protocol)
}

func (t *tier) add(rule *Rule, protocol Protocol) {
	// A rule that lists the same twice: its candidates stand at the end.
	for i := len(t.candidates) - 1; i >= 0 && t.candidates[i].rule == rule; i-- {
		if t.candidates[i].protocol == protocol {
			return
		}
	}
	if t.candidates == nil {
		t.candidates = t.first[:0]
	}
	t.candidates = append(t.candidates, candidate{rule, protocol})
	t.protocols = t.protocols.with(protocol)
}

func (t *portTable) hasAddrs() bool { return t.addrProtocols != 0 }

// lookupAddr returns the tier of the longest prefix that holds addr.
func (t *portTable) lookupAddr(addr netip.Addr) (*tier, bool) {
	if !addr.IsValid() {
		return nil, false
	}
	at, ok := t.addrs.Lookup(addr)
	return at, ok && len(at.candidates) > 0
}

// unmapPrefix returns the range in its canonical form: masked, v4-mapped as v4.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}
