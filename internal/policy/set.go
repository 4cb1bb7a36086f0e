package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

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
// for concurrent use. Change makes another one of it, which shares what stays the same.
type Set struct {
	version string
	deny    refusal.Reason
	domain  names.Name
	rules   []*ruleEntry // in the order of their IDs
	ports   map[portKey]*portTable
	names   *names.Index // of the numbers in holders, under every pattern but "*"
	holders []held
	free    []uint32 // numbers that nobody has
	any     *holder  // of "*"; nil where no rule names it
	entries int      // destinations times ports

	outbound     Action
	auditRule    Rule
	auditConsent consentLists // of public addresses alone
}

// ruleEntry is one rule of a Set.
type ruleEntry struct {
	rule    Rule
	consent *consentLists
	number  uint32 // of the holder of the patterns that it alone names
}

// portKey is a transport and a port.
type portKey uint32

func portOf(transport Transport, port uint16) portKey {
	return portKey(transport)<<16 | portKey(port)
}

// String names the port: "443" or "443/udp".
func (k portKey) String() string {
	if Transport(k>>16) == UDP {
		return fmt.Sprintf("%d/udp", uint16(k))
	}
	return fmt.Sprint(uint16(k))
}

// portTable is what the rules say of one port, but for the tiers on names: those are with
// the names.
type portTable struct {
	named, ranged counts // how many destinations rules open by which protocol
	nameProtocols protocols
	addrProtocols protocols
	addrs         *bart.Table[*tier] // nil where no rule holds an address
	within        within
}

// counts is a number for each protocol.
type counts [len(protocolWords)]int32

// add counts, and returns the protocols of which there are some.
func (c *counts) add(p Protocol, by int) (some protocols) {
	c[p] += int32(by)
	for p, n := range c {
		if n > 0 {
			some = some.with(Protocol(p))
		}
	}
	return some
}

// NewSet compiles rules; the order of their IDs decides which of several that
// allow is named. It keeps what they point to: they must not change afterwards. It
// fails on a rule that the gate cannot carry, so that a snapshot is taken whole or
// not at all.
func NewSet(rules []Rule, opts Options) (*Set, error) {
	all := make([]*Rule, len(rules))
	for i := range rules {
		all[i] = &rules[i]
	}
	return new(Set).change(nil, all, opts, false)
}

// Denying returns a Set of the same rules that denies everything for one reason.
func (s *Set) Denying(reason refusal.Reason) *Set {
	denying := *s
	denying.deny = reason
	return &denying
}

// Version returns the version of the snapshot that the Set came with.
func (s *Set) Version() string { return s.version }

// Len returns the number of rules.
func (s *Set) Len() int { return len(s.rules) }

// holder is what the rules that name one pattern say of it, on whatever ports.
type holder struct {
	members []*ruleEntry // in the order of rule IDs
	ports   []portTier   // sorted by port
	rule    *Rule        // of the members the one with the lowest bound on new names
}

// portTier is a tier on names on one port.
type portTier struct {
	port portKey
	tier tier
}

// at returns the tier of a port.
func (h *holder) at(port portKey) *tier {
	if len(h.ports) > 8 {
		i, ok := slices.BinarySearchFunc(h.ports, port, func(t portTier, port portKey) int { return cmp.Compare(t.port, port) })
		if !ok {
			return nil
		}
		return &h.ports[i].tier
	}
	for i := range h.ports {
		if h.ports[i].port == port {
			return &h.ports[i].tier
		}
	}
	return nil
}

// tighter is that one of two rules that bounds new names more; before may be nil.
func tighter(before, rule *Rule) *Rule {
	if before == nil || rule.MaxNewNames != 0 && (before.MaxNewNames == 0 || rule.MaxNewNames < before.MaxNewNames) {
		return rule
	}
	return before
}

// nameTier returns the tier of the most specific pattern on the port that matches a name.
func (s *Set) nameTier(port portKey, n names.Name) (found *tier, ok bool) {
	s.names.Walk(n, func(m names.Match) bool {
		found = s.holders[m.Value].at(port)
		return found == nil
	})
	if found == nil && s.any != nil && !n.IsZero() {
		found = s.any.at(port)
	}
	return found, found != nil
}

// naming returns the holder of the most specific pattern but "*" that matches a name, on
// any port; nil where there is none.
func (s *Set) naming(n names.Name) (found *holder, exactly bool) {
	s.names.Walk(n, func(m names.Match) bool {
		found, exactly = s.holders[m.Value].holder, m.Exact
		return false
	})
	return found, exactly
}

// Names reports whether a rule more specific than "*" names n, on any port.
func (s *Set) Names(n names.Name) bool {
	found, _ := s.naming(n)
	return found != nil
}

// NamesExactly reports whether a rule spells n out, on any port: DNS limits the
// rate of the other new names, for under a wildcard the workload chooses them.
func (s *Set) NamesExactly(n names.Name) bool {
	_, exactly := s.naming(n)
	return exactly
}

// Resolves returns the rule by which DNS outside may be asked for n, before anybody
// dials it: one that names it, "*" among them, on any port, or the rule of an audit; nil
// where there is none. exactly says that it spells n out.
func (s *Set) Resolves(n names.Name) (rule *Rule, exactly bool) {
	if s.deny != "" || !s.domain.IsZero() && n.Within(s.domain) {
		return nil, false
	}
	switch found, exactly := s.naming(n); {
	case found != nil:
		return found.rule, exactly
	case s.any != nil:
		return s.any.rule, false
	case s.audits():
		return &s.auditRule, false
	}
	return nil, false
}

func (t *portTable) hasAddrs() bool { return t.addrProtocols != 0 }

// lookupAddr returns the tier of the longest prefix that holds addr.
func (t *portTable) lookupAddr(addr netip.Addr) (*tier, bool) {
	if !addr.IsValid() || t.addrs == nil {
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
