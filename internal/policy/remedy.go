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
		if !rule.asPolicy() {
			continue
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
// that hold its destination and port. (A rule on the name leaves nothing to those
// on addresses.)
func (s *Set) allowedWith(rule Rule, c *Chain, v *Verdict, opts ExplainOptions) bool {
	beside := []Rule{rule}
	for i := range s.rules {
		if other := &s.rules[i]; other.holdsPort(c.Port) && other.holdsDestination(v.Name, v.Addr) {
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

// asPolicy brings a rule into the form in which an EgressPolicy says the same, and
// reports whether one can: what `sluice create` would refuse is no remedy.
func (r *Rule) asPolicy() bool {
	carried := protocols(0)
	for _, p := range r.Ports {
		carried = carried.with(p.Protocol)
	}
	switch {
	case len(r.CIDRs) > 0 && !carried.only(tcpFamily): // a request or certificate is held against a name
		return false
	case len(r.HTTP) > 0 && !carried.only(takesHTTP):
		return false
	case len(r.HTTP) > maxPolicyMatches, len(r.PrivateAnswers) > maxPolicyRanges:
		return false
	case r.TLS.Mode == TLSOriginate && carried.holdsAny(protocols(0).with(ProtocolTLS)):
		return false
	}
	for _, m := range r.HTTP {
		if !all(m.Methods, isPolicyMethod) || !all(m.Paths, isPolicyPath) {
			return false
		}
	}
	// What says nothing on these ports is left out.
	https := carried.holdsAny(protocols(0).with(ProtocolHTTPS))
	switch {
	case !carried.holdsAny(takesHello):
		r.TLS = TLS{}
	case !https:
		r.TLS.ServerName = names.Name{}
		if r.TLS.Mode == TLSOriginate {
			r.TLS.Mode = TLSAuto
		}
	case r.TLS.Mode == TLSPassthrough:
		r.TLS.ServerName = names.Name{}
	case len(r.HTTP) > 0:
		r.TLS.Mode = TLSOriginate // Auto cannot pass what it must look into
	}
	if r.TLS.Mode == "" {
		r.TLS.Mode = TLSAuto
	}
	return true
}

func all[T any](values []T, holds func(T) bool) bool {
	return !slices.ContainsFunc(values, func(v T) bool { return !holds(v) })
}

// Bounds of an EgressPolicy (api).
const (
	maxPolicyMatches = 64
	maxPolicyRanges  = 1000
	maxPolicyPath    = 4096
)

// isPolicyMethod reports whether a policy may list the method: one with lower-case
// letters is a mistake mostly, and CONNECT asks for another thing.
func isPolicyMethod(method string) bool {
	return method != "" && method != "CONNECT" && !strings.ContainsFunc(method, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || r >= 'a' && r <= 'z' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// isPolicyPath reports whether a policy may list the path, or the prefix that ends
// in "*".
func isPolicyPath(path string) bool {
	if !strings.HasPrefix(path, "/") || len(path) > maxPolicyPath || strings.ContainsAny(strings.TrimSuffix(path, "*"), "?#*") {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return !strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f })
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
		if like, ok := s.likeAddresses(c); ok {
			list = s.narrowest(c, v, like)
		}
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
		list = s.narrowest(c, v, Rule{Ports: []Port{{c.Port, v.Protocol}}, TLS: v.Rule.TLS, HTTP: v.Rule.HTTP, PrivateAnswers: consentBesides(v.Rule, opts.Refused)})
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
	w := &s.ports[c.Port].within
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
		t.add(r, p.Protocol)
	}
	return all(kinds, func(k kind) bool {
		j := t.judge(&k.chain)
		return k.of.reason != "" || j.reason == "" && j.treatment == k.of.treatment
	})
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
		for _, ours := range own {
			if v.Addr.IsValid() && ours.Contains(v.Addr) {
				return fmt.Sprintf("%s belongs to Sluice itself: have the client look the server's name up, and dial what it gets.", v.Addr)
			}
		}
	}
	return "No single rule allows this without taking something else away; change " + "rule " + v.ruleID() + "."
}
