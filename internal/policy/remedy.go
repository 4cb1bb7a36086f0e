package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sluice.dev/sluice/internal/names"
)

// Remedy is the smallest change after which the same chain would be allowed.
// Where a rule does it, YAML is a whole EgressPolicy and Allow the short form (""
// where that cannot say it); where no rule can, only Sentence says what to change.
type Remedy struct {
	Sentence string `json:"sentence"`
	Allow    string `json:"allow,omitempty"` // for `sluice run --allow`
	YAML     string `json:"yaml,omitempty"`

	// Rule is what YAML compiles to; nil without it.
	Rule *Rule `json:"-"`
}

// remedy finds the smallest rule that would allow c, tries it, and writes it
// down. A proposal that does not help, or that is none, leaves the sentence.
func (s *Set) remedy(c *Chain, v *Verdict, opts ExplainOptions) *Remedy {
	for _, rule := range s.proposals(c, v, opts) {
		if rule.TLS.Mode == "" {
			rule.TLS.Mode = TLSAuto
		}
		rule.ID = "egress-policy/" + opts.namespace() + "/" + objectName(&rule, opts)
		if !s.allowedWith(rule, c, v, opts) {
			continue
		}
		r := &Remedy{Sentence: ruleSentence(c, v, &rule), Rule: &rule, YAML: policyYAML(&rule, opts)}
		// The short form says one protocol, and so could hide what a tier allows.
		short, err := ParseAllow(allowForm(&rule))
		if err == nil && !v.inTier() && s.allowedWith(short, c, v, opts) {
			r.Allow = allowForm(&rule)
		}
		return r
	}
	return &Remedy{Sentence: s.advice(c, v)}
}

// allowedWith reports whether c is allowed once rule stands beside the others
// that hold its port.
func (s *Set) allowedWith(rule Rule, c *Chain, v *Verdict, opts ExplainOptions) bool {
	beside := []Rule{rule}
	for i := range s.rules {
		other := &s.rules[i]
		if slices.ContainsFunc(other.Ports, func(p Port) bool { return p.Port == c.Port }) &&
			(len(other.CIDRs) > 0 || slices.ContainsFunc(other.Hosts, func(p names.Pattern) bool { _, addr := p.Addr(); return addr || p.Match(v.Name) })) {
			beside = append(beside, *other)
		}
	}
	set, err := NewSet(beside, Options{})
	if err != nil {
		return false
	}
	again := set.Decide(c)
	switch {
	case again.Action != Allow:
		return false
	case v.Reason == PrivateAddress:
		return again.ConsentsTo(opts.Refused)
	case v.Reason == OutsideCIDR:
		return again.Within == nil
	}
	return true
}

// proposals are rules that may help, the smallest first.
func (s *Set) proposals(c *Chain, v *Verdict, opts ExplainOptions) []Rule {
	var list []Rule
	switch v.Reason {
	case NoRule, AddressLiteral, NoServerName, NoHost:
		if t, _ := s.tierOf(c, v); t != nil || !v.Name.IsZero() && s.addressesDecide(c) {
			return nil // a narrower rule would hide what those allow
		}
		for _, protocol := range protocolsFor(c) {
			list = append(list, s.narrowest(c, v, Rule{Ports: []Port{{c.Port, protocol}}})...)
		}
	case OutsideCIDR:
		list = s.narrowest(c, v, Rule{Ports: []Port{{c.Port, v.Protocol}}})
	case PrivateAddress:
		if v.Rule == nil || !opts.Refused.IsValid() {
			return nil
		}
		t, pattern := s.tierOf(c, v)
		if exact, ok := pattern.Exact(); t == nil || !ok || exact != v.Name {
			if t == nil || slices.ContainsFunc(t.candidates, func(d candidate) bool { return d.protocol != v.Protocol || d.rule != v.Rule }) {
				return nil // an exact rule would hide the others of the tier
			}
		}
		answer := opts.Refused.Unmap().WithZone("")
		base := Rule{Ports: []Port{{c.Port, v.Protocol}}, TLS: v.Rule.TLS, HTTP: v.Rule.HTTP,
			PrivateAnswers: append(slices.Clone(v.Rule.PrivateAnswers), netip.PrefixFrom(answer, answer.BitLen()))}
		list = s.narrowest(c, v, base)
	case ProtocolMismatch:
		list = s.beside(c, v, otherwise(c))
	case MethodOrPath:
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
	table := s.ports[c.Port]
	return table != nil && table.hasAddrs()
}

// inTier reports whether rules on the very destination and port denied, so that
// a rule must stand beside them and not hide them.
func (v *Verdict) inTier() bool {
	return v.Reason == ProtocolMismatch || v.Reason == MethodOrPath || v.Reason == PrivateAddress
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
	if strings.HasSuffix(c.Path, "*") {
		c = &Chain{Method: c.Method} // as a rule it would be a prefix
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
	if exact, ok := pattern.Exact(); ok && exact == v.Name {
		return s.narrowest(c, v, add)
	}
	if pattern.IsZero() { // a tier of addresses
		for _, d := range t.candidates {
			for _, cidr := range d.rule.CIDRs {
				if cidr = unmapPrefix(cidr); cidr.Contains(v.Addr) {
					if at, ok := s.ports[c.Port].addrs.Get(cidr); ok && at == t {
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
		if d.rule.TLS != add.TLS || len(d.rule.PrivateAnswers) > 0 || (len(d.rule.HTTP) > 0) != (len(add.HTTP) > 0) {
			return Rule{}, false
		}
		port := Port{add.Ports[0].Port, d.protocol}
		if !slices.Contains(add.Ports, port) {
			if len(add.HTTP) > 0 {
				return Rule{}, false // its requests would hold for both protocols
			}
			add.Ports = append(slices.Clone(add.Ports), port)
		}
		for _, m := range d.rule.HTTP {
			add.HTTP = append(slices.Clone(add.HTTP), m)
		}
	}
	slices.SortFunc(add.Ports, func(a, b Port) int { return int(a.Protocol) - int(b.Protocol) })
	return add, true
}

// tierOf returns the tier that denied, and its pattern (zero for addresses).
func (s *Set) tierOf(c *Chain, v *Verdict) (*tier, names.Pattern) {
	table := s.ports[c.Port]
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

// ruleSentence says what the remedy's rule does.
func ruleSentence(c *Chain, v *Verdict, rule *Rule) string {
	destination := allowForm(rule)
	protocol := rule.Ports[0].Protocol.String()
	for _, p := range rule.Ports[1:] {
		protocol += " and " + p.Protocol.String()
	}
	switch {
	case v.Reason == MethodOrPath:
		return fmt.Sprintf("Allow %s %s on %s (%s).", printable(c.Method), printable(c.Path), destination, protocol)
	case v.Reason == PrivateAddress:
		return fmt.Sprintf("Allow %s (%s) to lead to %s.", destination, protocol, rule.PrivateAnswers[len(rule.PrivateAnswers)-1])
	case v.Reason == ProtocolMismatch && c.Sniffed == ClientHello && v.Rule != nil && v.Rule.needsRequest():
		return fmt.Sprintf("Speak plain HTTP to port %d, so that method and path can be seen (Sluice makes the TLS), or allow %s as %s, whatever is requested.", c.Port, destination, protocol)
	}
	return fmt.Sprintf("Allow %s (%s).", destination, protocol)
}

// advice says what to change where no rule helps.
func (s *Set) advice(c *Chain, v *Verdict) string {
	switch v.Reason {
	case NameMismatch:
		return "No rule allows this: have the client use one name for the address that it dials, the SNI and the Host."
	case PortMismatch:
		return fmt.Sprintf("No rule allows this: have the client dial the port that its Host names, or send Host with port %d or none.", c.Port)
	case NoServerName:
		return "Have the client send the server's name in its TLS handshake (SNI)."
	case NoHost:
		return "Have the client send a Host header, or dial the server by its name."
	case BadHost:
		return "No rule allows this: have the client send a valid host name as SNI and Host."
	case MethodOrPath:
		if !IsNormalPath(c.Path) {
			return "Have the client send the path in its plain form: without \"//\", \".\" and \"..\" segments, \";\", backslashes, and without percent-encoding what need not be encoded."
		}
	case EncryptedHello:
		return "Turn off Encrypted Client Hello in the client, so that the server name can be seen."
	case NoSnapshot:
		return "Wait until the proxy has its rules; `sluice status` shows whether it reaches its server."
	case StaleSnapshot:
		return "Bring the server back, or let the proxy reach it; `sluice status` shows the age of its rules."
	case PrivateAddress:
		if v.Rule != nil {
			return fmt.Sprintf("If the address is meant, list it under privateAnswers of rule %s.", v.Rule.ID)
		}
		return "If the address is meant, list it under privateAnswers of the rule."
	case CertificateFail:
		if v.Rule != nil {
			return fmt.Sprintf("No rule lets a server pass that cannot prove its name; if it has a private CA, set tls.caBundle in rule %s.", v.Rule.ID)
		}
	case NoRule, AddressLiteral:
		for _, own := range Own() {
			if v.Addr.IsValid() && own.Contains(v.Addr) {
				return fmt.Sprintf("%s belongs to Sluice itself: have the client look the server's name up, and dial what it gets.", v.Addr)
			}
		}
	}
	return "No single rule allows this without taking something else away; change " + "rule " + v.ruleID() + "."
}
