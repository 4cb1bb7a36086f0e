package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"

	"sluice.dev/sluice/internal/addresses"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/refusal"
)

// MaxEntries is the bound on the destinations times ports of all rules of a Set.
const MaxEntries = 1 << 20

// Options says what a Set is, besides its rules.
type Options struct {
	// Version is of the snapshot that the rules came with.
	Version string
	// Deny, when set, is the reason with which everything is denied, whatever the
	// rules say: refusal.NoSnapshot, refusal.StaleSnapshot.
	Deny refusal.Reason
	// Outbound is what becomes of what no rule allows: Deny or Audit.
	Outbound Action
	// Domain is the mesh's: a name in it is never resolved outside. The zero Name
	// where there is none.
	Domain names.Name
}

// Set is the rules of one class of workloads, compiled. It is immutable and safe
// for concurrent use.
type Set struct {
	version string
	deny    refusal.Reason
	domain  names.Name
	rules   []Rule // in the order of their IDs
	ports   map[portKey]*portTable
	named   names.Trie[naming] // every pattern but "*"
	any     *Rule              // that names "*", with the lowest bound on new names of those

	outbound     Action
	auditRule    Rule
	auditConsent consentLists // of public addresses alone
}

// portKey is a transport and a port.
type portKey uint32

func portOf(transport Transport, port uint16) portKey {
	return portKey(transport)<<16 | portKey(port)
}

// portTable is the tiers of one port.
type portTable struct {
	names         names.Trie[*tier]
	addrs         bart.Table[*tier]
	nameProtocols protocols
	addrProtocols protocols
	within        within
}

// NewSet compiles rules; the order of their IDs decides which of several that
// allow is named. It keeps what they point to: they must not change afterwards. It
// fails on a rule that the gate cannot carry, so that a snapshot is taken whole or
// not at all.
func NewSet(rules []Rule, opts Options) (*Set, error) {
	if opts.Outbound == Allow {
		return nil, errors.New("compile rules: an outbound default of Allow is not supported yet")
	}
	s := &Set{
		version: opts.Version, deny: opts.Deny, domain: opts.Domain, outbound: opts.Outbound, auditRule: Rule{ID: AuditRule},
		rules: slices.Clone(rules), ports: map[portKey]*portTable{},
	}
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
		for _, ours := range addresses.OwnPrefixes() {
			table.addrs.Insert(ours, &tier{})
		}
		if err := table.within.compile(table); err != nil {
			return nil, fmt.Errorf("compile rules on port %d: %w", uint16(port), err)
		}
	}
	return s, nil
}

// Version returns the version of the snapshot that the Set came with.
func (s *Set) Version() string { return s.version }

// Len returns the number of rules.
func (s *Set) Len() int { return len(s.rules) }

// naming is what rules say of the names of one pattern, on whatever ports.
type naming struct {
	exactly bool  // the pattern has no wildcard
	rule    *Rule // of those with the pattern the one with the lowest bound on new names
}

// tighter is that one of two rules that bounds new names more; before may be nil.
func tighter(before, rule *Rule) *Rule {
	if before == nil || rule.MaxNewNames != 0 && (before.MaxNewNames == 0 || rule.MaxNewNames < before.MaxNewNames) {
		return rule
	}
	return before
}

// Names reports whether a rule more specific than "*" names n, on any port.
func (s *Set) Names(n names.Name) bool {
	_, ok := s.named.Lookup(n)
	return ok
}

// NamesExactly reports whether a rule spells n out, on any port: DNS limits the
// rate of the other new names, for under a wildcard the workload chooses them.
func (s *Set) NamesExactly(n names.Name) bool {
	found, _ := s.named.Lookup(n)
	return found.exactly
}

// Resolves returns the rule by which DNS outside may be asked for n, before anybody
// dials it: one that names it, "*" among them, on any port, or the rule of an audit; nil
// where there is none. exactly says that it spells n out.
func (s *Set) Resolves(n names.Name) (rule *Rule, exactly bool) {
	if s.deny != "" || !s.domain.IsZero() && n.Within(s.domain) {
		return nil, false
	}
	if found, ok := s.named.Lookup(n); ok {
		return found.rule, found.exactly
	}
	if s.any == nil && s.audits() {
		return &s.auditRule, false
	}
	return s.any, false
}

// add puts a rule into the tables of its ports.
func (s *Set) add(rule *Rule) error {
	switch rule.TLS.Mode {
	case "":
		rule.TLS.Mode = TLSAuto
	case TLSAuto, TLSOriginate, TLSPassthrough:
	default:
		return fmt.Errorf("TLS mode %q: not supported yet", rule.TLS.Mode)
	}
	for _, cidr := range rule.CIDRs {
		if !cidr.IsValid() {
			return fmt.Errorf("an address range is not valid")
		}
	}
	consent := consentOf(rule)
	for _, pattern := range rule.Hosts {
		if pattern.IsAny() {
			s.any = tighter(s.any, rule)
		} else if slot, _ := s.named.Slot(pattern); slot != nil {
			_, slot.exactly = pattern.Exact()
			slot.rule = tighter(slot.rule, rule)
		}
	}
	for _, port := range rule.Ports {
		if port.Port == 0 {
			return fmt.Errorf("port 0")
		}
		if !port.Protocol.isBuilt() {
			return fmt.Errorf("protocol %s on port %d: not supported yet", port.Protocol, port.Port)
		}
		if port.IdleTimeout < 0 {
			return fmt.Errorf("idle timeout %s on port %d", port.IdleTimeout, port.Port)
		}
		key := portOf(port.Protocol.Transport(), port.Port)
		table := s.ports[key]
		if table == nil {
			table = &portTable{}
			s.ports[key] = table
		}
		table.add(candidate{rule, port.Protocol, consent, port.IdleTimeout})
	}
	return nil
}

// add puts a rule's destinations into the table, for one protocol.
func (t *portTable) add(c candidate) {
	for _, pattern := range c.rule.Hosts {
		if addr, ok := pattern.Addr(); ok {
			t.addAddr(netip.PrefixFrom(addr, addr.BitLen()), c)
			continue
		}
		slot, found := t.names.Slot(pattern)
		if slot == nil {
			continue // no name can match it
		}
		if !found {
			*slot = &tier{}
		}
		(*slot).add(c)
		t.nameProtocols = t.nameProtocols.with(c.protocol)
	}
	for _, cidr := range c.rule.CIDRs {
		t.addAddr(cidr, c)
	}
}

func (t *portTable) addAddr(cidr netip.Prefix, c candidate) {
	cidr = unmapPrefix(cidr)
	if addresses.InOwn(cidr) {
		return // Sluice's own: no rule holds it
	}
	at, found := t.addrs.Get(cidr)
	if !found {
		at = &tier{}
		t.addrs.Insert(cidr, at)
	}
	at.add(c)
	t.addrProtocols = t.addrProtocols.with(c.protocol)
}

func (t *tier) add(c candidate) {
	// A rule that lists the same twice: its candidates stand at the end.
	for i := len(t.candidates) - 1; i >= 0 && t.candidates[i].rule == c.rule; i-- {
		if t.candidates[i].protocol == c.protocol {
			return
		}
	}
	if t.candidates == nil {
		t.candidates = t.first[:0]
	}
	t.candidates = append(t.candidates, c)
	t.protocols = t.protocols.with(c.protocol)
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

// unmapPrefix returns the range in its canonical form: masked, IPv4-mapped as IPv4.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}
