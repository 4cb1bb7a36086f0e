package policy

import (
	"net/netip"
	"slices"
	"strings"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/refusal"
)

// proposals are rules that may help, the smallest first.
func (s *Set) proposals(c *Chain, v *Verdict, opts ExplainOptions) []Rule {
	var list []Rule
	switch v.Reason {
	case refusal.NoRule, refusal.AddressLiteral, refusal.NoServerName, refusal.NoHost:
		if t, _ := s.tierOf(c, v); t != nil || !v.Name.IsZero() && s.addressesDecide(c) {
			return nil // a narrower rule would hide what those allow
		}
		for _, protocol := range protocolsFor(c) {
			list = append(list, s.narrowest(c, v, Rule{Ports: []Port{{c.Port, protocol}}})...)
		}
	case refusal.OutsideCIDR:
		if like, ok := s.likeAddresses(c); ok {
			list = s.narrowest(c, v, like)
		}
	case refusal.PrivateAddress:
		if v.Rule == nil || !opts.Refused.IsValid() {
			return nil
		}
		t, pattern := s.tierOf(c, v)
		if exact, ok := pattern.Exact(); t == nil || !ok || exact != v.Name {
			if t == nil || slices.ContainsFunc(t.candidates, func(d candidate) bool { return d.protocol != v.Protocol || d.rule != v.Rule }) {
				return nil // an exact rule would hide the others of the tier
			}
		}
		list = s.narrowest(c, v, Rule{Ports: []Port{{c.Port, v.Protocol}}, TLS: v.Rule.TLS, HTTP: v.Rule.HTTP, PrivateAnswers: consentBesides(v.Rule, opts.Refused)})
	case refusal.ProtocolMismatch:
		list = s.beside(c, v, otherwise(c))
	case refusal.MethodOrPath:
		if v.Rule == nil {
			return nil
		}
		list = s.beside(c, v, Rule{Ports: []Port{{c.Port, v.Protocol}}, TLS: v.Rule.TLS, HTTP: []HTTPMatch{requestMatch(v.Rule, c)}})
	}
	return list
}

// addressesDecide reports whether rules on addresses say where names on the port
// may lead.
func (s *Set) addressesDecide(c *Chain) bool {
	table := s.ports[portOf(c.Transport, c.Port)]
	return table != nil && table.hasAddrs()
}

// consentBesides lists what a rule consents to, and one answer more.
func consentBesides(rule *Rule, answer netip.Addr) []netip.Prefix {
	list := slices.Clone(rule.PrivateAnswers)
	for _, cidr := range rule.CIDRs {
		if cidr = unmapPrefix(cidr); cidr.Bits() > 0 && !slices.Contains(list, cidr) {
			list = append(list, cidr)
		}
	}
	answer = answer.Unmap().WithZone("")
	return append(list, netip.PrefixFrom(answer, answer.BitLen()))
}

// likeAddresses returns a rule, without a destination, that allows what the port's
// rules on addresses allow names; false where one rule cannot say that.
func (s *Set) likeAddresses(c *Chain) (like Rule, ok bool) {
	w := &s.ports[portOf(c.Transport, c.Port)].within
	first := true
	add := func(j *judgement) bool {
		if first {
			like.TLS, first = j.rule.TLS, false
		}
		port := Port{c.Port, j.protocol}
		asHTTPS := j.protocol == ProtocolTLS && like.TLS.Mode != TLSOriginate && slices.Contains(like.Ports, Port{c.Port, ProtocolHTTPS})
		if !asHTTPS && !slices.Contains(like.Ports, port) {
			like.Ports = append(like.Ports, port)
		}
		return j.rule.TLS == like.TLS
	}
	kinds := w.kinds()
	for _, k := range kinds {
		if k.of.reason == "" && !add(k.of) {
			return like, false
		}
	}
	if w.http.reason == "" || len(w.requests) == 0 {
		return like, like.carries(kinds[:])
	}
	for i := range w.requests {
		if i > 0 && w.requests[i].rule == w.requests[i-1].rule {
			continue // by the first of its protocols
		}
		if !add(&w.requests[i]) || len(like.Ports) > 1 {
			return like, false // its requests would hold for the others too
		}
		like.HTTP = withMatches(like.HTTP, w.requests[i].rule.HTTP)
	}
	return like, like.carries(kinds[1:])
}

// carries reports whether the rule, alone in a tier, carries each kind as it was
// carried.
func (r *Rule) carries(kinds []kind) bool {
	var t tier
	for _, p := range r.Ports {
		t.add(candidate{r, p.Protocol, nil})
	}
	return all(kinds, func(k kind) bool {
		j := t.judge(&k.chain)
		return k.of.reason != "" || j.reason == "" && j.treatment == k.of.treatment
	})
}

// inTier reports whether rules on the very destination and port denied, so that
// a rule must stand beside them and not hide them.
func (v *Verdict) inTier() bool {
	return v.Reason == refusal.ProtocolMismatch || v.Reason == refusal.MethodOrPath || v.Reason == refusal.PrivateAddress
}

// protocolsFor are the protocols that carry what was sniffed, the most natural
// one first.
func protocolsFor(c *Chain) []Protocol {
	switch {
	case c.Sniffed == HTTP && (c.Port == 443 || c.Port == 8443 || c.Host.Port == 443):
		return []Protocol{ProtocolHTTPS, ProtocolTCP}
	case c.Sniffed == HTTP:
		return []Protocol{ProtocolHTTP, ProtocolTCP}
	case c.Sniffed == ClientHello:
		return []Protocol{ProtocolHTTPS, ProtocolTCP}
	default:
		return []Protocol{ProtocolTCP}
	}
}

// otherwise is the rule that adds what a tier lacks and takes nothing else: tls
// for TLS (https would take plain HTTP as well), https that originates for plain
// HTTP where TLS is passed, tcp for the rest.
func otherwise(c *Chain) Rule {
	switch c.Sniffed {
	case ClientHello:
		return Rule{Ports: []Port{{c.Port, ProtocolTLS}}}
	case HTTP:
		return Rule{Ports: []Port{{c.Port, ProtocolHTTPS}}, TLS: TLS{Mode: TLSOriginate}}
	default:
		return Rule{Ports: []Port{{c.Port, ProtocolTCP}}}
	}
}

// requestMatch is the alternative that allows c's request: the method alone where
// the rule asks for no path, and no path that is not normal (it would not help).
func requestMatch(rule *Rule, c *Chain) HTTPMatch {
	m := HTTPMatch{}
	if strings.Contains(c.Path, "*") {
		c = &Chain{Method: c.Method} // in a rule it would stand for other characters
	}
	if slices.ContainsFunc(rule.HTTP, func(m HTTPMatch) bool { return len(m.Methods) > 0 }) {
		m.Methods = []string{c.Method}
	}
	if slices.ContainsFunc(rule.HTTP, func(m HTTPMatch) bool { return len(m.Paths) > 0 }) {
		m.Paths = []string{c.Path}
	}
	return m
}

// narrowest puts the chain's destination into base: the exact name, or the
// longest wildcard that the grammar can say for it; or the one address.
func (s *Set) narrowest(c *Chain, v *Verdict, base Rule) []Rule {
	if v.Name.IsZero() {
		if !v.Addr.IsValid() {
			return nil
		}
		base.CIDRs = []netip.Prefix{netip.PrefixFrom(v.Addr, v.Addr.BitLen())}
		return []Rule{base}
	}
	if pattern, err := names.ExactPattern(v.Name); err == nil {
		base.Hosts = []names.Pattern{pattern}
		return []Rule{base}
	}
	// Names with underscores: the wildcard over the rest.
	for rest := v.Name.String(); ; {
		_, after, more := strings.Cut(rest, ".")
		if !more {
			return nil
		}
		if pattern, err := names.ParsePattern("*." + after); err == nil {
			base.Hosts = []names.Pattern{pattern}
			return []Rule{base}
		}
		rest = after
	}
}

// beside returns rules that add to the tier that denied c and take nothing from
// it: in a tier on the exact name (or address) one beside the others; else, as an
// exact rule would hide the wider ones, one that repeats what they allow where one
// policy can say that, else one on their pattern.
func (s *Set) beside(c *Chain, v *Verdict, add Rule) []Rule {
	t, pattern := s.tierOf(c, v)
	if t == nil {
		return nil
	}
	if one := s.narrowest(c, v, add); len(one) == 1 && slices.Equal(one[0].Hosts, []names.Pattern{pattern}) {
		return one
	}
	if pattern.IsZero() { // a tier of addresses
		for _, d := range t.candidates {
			for _, cidr := range d.rule.CIDRs {
				if cidr = unmapPrefix(cidr); cidr.Contains(v.Addr) {
					if at, ok := s.ports[portOf(c.Transport, c.Port)].addrs.Get(cidr); ok && at == t {
						add.CIDRs = []netip.Prefix{cidr}
						return []Rule{add}
					}
				}
			}
		}
		return s.narrowest(c, v, add)
	}
	var list []Rule
	if together, ok := t.together(add); ok {
		list = s.narrowest(c, v, together)
	}
	add.Hosts = []names.Pattern{pattern}
	return append(list, add)
}

// together returns one rule that allows what every rule of the tier allows, and
// what add does; false where one rule cannot say that.
func (t *tier) together(add Rule) (Rule, bool) {
	for _, d := range t.candidates {
		if d.rule.TLS != add.TLS || len(d.rule.PrivateAnswers)+len(d.rule.CIDRs) > 0 || (len(d.rule.HTTP) > 0) != (len(add.HTTP) > 0) {
			return Rule{}, false
		}
		port := Port{add.Ports[0].Port, d.protocol}
		if !slices.Contains(add.Ports, port) {
			if len(add.HTTP) > 0 {
				return Rule{}, false // its requests would hold for both protocols
			}
			add.Ports = append(slices.Clone(add.Ports), port)
		}
		add.HTTP = withMatches(add.HTTP, d.rule.HTTP)
	}
	slices.SortFunc(add.Ports, func(a, b Port) int { return int(a.Protocol) - int(b.Protocol) })
	return add, true
}

// withMatches returns a new list of both, without what stands in it already.
func withMatches(list, more []HTTPMatch) []HTTPMatch {
	list = slices.Clone(list)
	for _, m := range more {
		same := func(other HTTPMatch) bool {
			return slices.Equal(m.Methods, other.Methods) && slices.Equal(m.Paths, other.Paths)
		}
		if !slices.ContainsFunc(list, same) {
			list = append(list, m)
		}
	}
	return list
}

// tierOf returns the tier that denied, and its pattern (zero for addresses).
func (s *Set) tierOf(c *Chain, v *Verdict) (*tier, names.Pattern) {
	table := s.ports[portOf(c.Transport, c.Port)]
	if table == nil {
		return nil, names.Pattern{}
	}
	if v.Name.IsZero() {
		t, _ := table.lookupAddr(v.Addr)
		return t, names.Pattern{}
	}
	t, ok := table.names.Lookup(v.Name)
	if !ok {
		return nil, names.Pattern{}
	}
	var best names.Pattern
	for _, d := range t.candidates {
		for _, pattern := range d.rule.Hosts {
			if pattern.Match(v.Name) && (best.IsZero() || pattern.Specificity() > best.Specificity()) {
				best = pattern
			}
		}
	}
	return t, best
}
