package advice

import (
	"net/netip"
	"slices"
	"strings"

	"sluice.dev/sluice/internal/addresses"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
)

// proposals are rules that may help, the smallest first.
func (a *asked) proposals() []policy.Rule {
	c, v := a.chain, a.verdict
	var list []policy.Rule
	switch v.Reason {
	case refusal.NoRule, refusal.AddressLiteral, refusal.NoServerName, refusal.NoHost:
		if _, there := a.tier(); there || !v.Name.IsZero() && a.set.NamesByAddress(v.Transport, v.Port) {
			return nil // a narrower rule would hide what those allow
		}
		for _, protocol := range protocolsFor(c) {
			list = append(list, a.narrowest(a.on(protocol))...)
		}
	case refusal.OutsideCIDR:
		if like, ok := a.likeAddresses(); ok {
			if _, special := addresses.Special(a.Refused); a.Refused.IsValid() && special {
				like.PrivateAnswers = consentBesides(&like, a.Refused)
			}
			list = a.narrowest(like)
		}
	case refusal.PrivateAddress:
		list = a.consenting()
	case refusal.ProtocolMismatch:
		list = a.beside(otherwise(c))
	case refusal.MethodOrPath, refusal.UpgradeForbidden:
		if v.Rule == nil {
			return nil
		}
		rule := a.on(v.Protocol)
		rule.TLS, rule.HTTP = v.Rule.TLS, []policy.HTTPMatch{requestMatch(v.Rule, c)}
		list = a.beside(rule)
	}
	return list
}

// on begins a rule on the port that was dialled.
func (a *asked) on(protocol policy.Protocol) policy.Rule {
	return on(a.verdict.Port, protocol)
}

// tier is the one that decides about the destination.
func (a *asked) tier() (policy.Tier, bool) {
	v := a.verdict
	return a.set.Tier(v.Transport, v.Port, v.Name, v.Addr)
}

// consenting are rules under which an address that is not public may be dialled:
// for an address that was dialled as such a rule on just that address; for a name
// the rule that allows it now, with the answer that was refused.
func (a *asked) consenting() []policy.Rule {
	v := a.verdict
	if addresses.Undialable(a.target()) {
		return nil
	}
	if v.Name.IsZero() {
		if a.reachesAddress() {
			return nil // a narrower rule would hide what those allow
		}
		var list []policy.Rule
		for _, protocol := range protocolsFor(a.chain) {
			list = append(list, a.narrowest(a.on(protocol))...)
		}
		return list
	}
	if v.Rule == nil || !a.Refused.IsValid() {
		return nil
	}
	t, there := a.tier()
	if !there { // rules on addresses allow the name
		like, ok := a.likeAddresses()
		if !ok {
			return nil
		}
		like.PrivateAnswers = consentBesides(v.Rule, a.Refused)
		return a.narrowest(like)
	}
	if exact, ok := t.Pattern.Exact(); !ok || exact != v.Name {
		if slices.ContainsFunc(t.Members, func(m policy.Member) bool { return m.Protocol != v.Protocol || m.Rule != v.Rule }) {
			return nil // an exact rule would hide the others of the tier
		}
	}
	rule := a.on(v.Protocol)
	rule.TLS, rule.HTTP, rule.PrivateAnswers = v.Rule.TLS, v.Rule.HTTP, consentBesides(v.Rule, a.Refused)
	return a.narrowest(rule)
}

// reachesAddress reports whether the rules allow something else to the address that
// was dialled.
func (a *asked) reachesAddress() bool {
	to := policy.Chain{Transport: a.verdict.Transport, Port: a.verdict.Port, Addr: a.verdict.Addr}
	request := to
	request.Host, request.Method, request.Path = names.Host{Addr: a.verdict.Addr}, "GET", "/"
	for sniffed, c := range map[policy.Sniffed]policy.Chain{policy.HTTP: request, policy.ClientHello: to, policy.Opaque: to} {
		c.Sniffed = sniffed
		if v := a.set.Decide(&c); v.Action == policy.Allow {
			return true
		}
	}
	return false
}

// consentBesides lists what a rule consents to, and one answer more.
func consentBesides(rule *policy.Rule, answer netip.Addr) []netip.Prefix {
	list := slices.Clone(rule.PrivateAnswers)
	for _, cidr := range rule.CIDRs {
		if addresses.InOneBlock(cidr) && !slices.Contains(list, cidr) {
			list = append(list, cidr)
		}
	}
	answer = answer.Unmap().WithZone("")
	return append(list, netip.PrefixFrom(answer, answer.BitLen()))
}

// protocolsFor are the protocols that carry what was sniffed, the most natural
// one first.
func protocolsFor(c *policy.Chain) []policy.Protocol {
	switch {
	case c.Sniffed == policy.HTTP && policy.SpeaksTLS(c.Port):
		return []policy.Protocol{policy.ProtocolHTTPS, policy.ProtocolTCP}
	case c.Sniffed == policy.HTTP:
		return []policy.Protocol{policy.ProtocolHTTP, policy.ProtocolTCP}
	case c.Sniffed == policy.ClientHello:
		return []policy.Protocol{policy.ProtocolHTTPS, policy.ProtocolTCP}
	default:
		return []policy.Protocol{policy.ProtocolTCP}
	}
}

// otherwise is the rule that adds what a tier lacks and takes nothing else: tls
// for TLS (https would take plain HTTP as well), https that originates for plain
// HTTP where TLS is passed, tcp for the rest.
func otherwise(c *policy.Chain) policy.Rule {
	switch c.Sniffed {
	case policy.ClientHello:
		return policy.Rule{Ports: []policy.Port{{Port: c.Port, Protocol: policy.ProtocolTLS}}}
	case policy.HTTP:
		return policy.Rule{Ports: []policy.Port{{Port: c.Port, Protocol: policy.ProtocolHTTPS}}, TLS: policy.TLS{Mode: policy.TLSOriginate}}
	default:
		return policy.Rule{Ports: []policy.Port{{Port: c.Port, Protocol: policy.ProtocolTCP}}}
	}
}

// requestMatch is the alternative that allows c's request: the method alone where
// the rule lists no path, and no path that is not normal (it would not help).
func requestMatch(rule *policy.Rule, c *policy.Chain) policy.HTTPMatch {
	m := policy.HTTPMatch{}
	path := c.Path
	if strings.Contains(path, "*") {
		path = "" // in a rule it would stand for other characters
	}
	if slices.ContainsFunc(rule.HTTP, func(m policy.HTTPMatch) bool { return len(m.Methods) > 0 }) {
		m.Methods = []string{c.Method}
	}
	if slices.ContainsFunc(rule.HTTP, func(m policy.HTTPMatch) bool { return len(m.Paths) > 0 }) {
		m.Paths = []string{path}
	}
	if c.Upgrade != "" {
		m.Upgrades = []string{strings.ToLower(c.Upgrade)}
	}
	return m
}

// narrowest puts the chain's destination into base: the exact name, or the one
// address.
func (a *asked) narrowest(base policy.Rule) []policy.Rule {
	v := a.verdict
	if v.Name.IsZero() {
		if !v.Addr.IsValid() {
			return nil
		}
		base.CIDRs = []netip.Prefix{netip.PrefixFrom(v.Addr, v.Addr.BitLen())}
		return []policy.Rule{base}
	}
	pattern, err := names.ExactPattern(v.Name)
	if err != nil {
		return nil // a name that no rule can spell
	}
	base.Hosts = []names.Pattern{pattern}
	return []policy.Rule{base}
}

// beside returns rules that add to the tier that denied and take nothing from
// it: in a tier on the exact name (or address) one beside the others; else, as an
// exact rule would hide the wider ones, one that repeats what they allow where one
// policy can say that, else one on their pattern.
func (a *asked) beside(add policy.Rule) []policy.Rule {
	t, there := a.tier()
	if !there {
		return nil
	}
	if t.Pattern.IsZero() { // a tier of addresses
		add.CIDRs = []netip.Prefix{t.Range}
		return []policy.Rule{add}
	}
	if exact, ok := t.Pattern.Exact(); ok && exact == a.verdict.Name {
		return a.narrowest(add)
	}
	var list []policy.Rule
	if together, ok := together(&t, add); ok {
		list = a.narrowest(together)
	}
	add.Hosts = []names.Pattern{t.Pattern}
	return append(list, add)
}

// together returns one rule that allows what every rule of the tier allows, and
// what add does; false where one rule cannot say that.
func together(t *policy.Tier, add policy.Rule) (policy.Rule, bool) {
	for _, m := range t.Members {
		if m.Rule.TLS != add.TLS || len(m.Rule.PrivateAnswers)+len(m.Rule.CIDRs) > 0 || (len(m.Rule.HTTP) > 0) != (len(add.HTTP) > 0) {
			return policy.Rule{}, false
		}
		port := policy.Port{Port: add.Ports[0].Port, Protocol: m.Protocol}
		if !slices.Contains(add.Ports, port) {
			if len(add.HTTP) > 0 {
				return policy.Rule{}, false // its requests would hold for both protocols
			}
			add.Ports = append(slices.Clone(add.Ports), port)
		}
		add.HTTP = withMatches(add.HTTP, m.Rule.HTTP)
	}
	slices.SortFunc(add.Ports, func(a, b policy.Port) int { return int(a.Protocol) - int(b.Protocol) })
	return add, true
}

// withMatches returns a new list of both, without duplicates.
func withMatches(list, more []policy.HTTPMatch) []policy.HTTPMatch {
	list = slices.Clone(list)
	for _, m := range more {
		same := func(other policy.HTTPMatch) bool {
			return slices.Equal(m.Methods, other.Methods) && slices.Equal(m.Paths, other.Paths) && slices.Equal(m.Upgrades, other.Upgrades)
		}
		if !slices.ContainsFunc(list, same) {
			list = append(list, m)
		}
	}
	return list
}
