package policy

import (
	"fmt"

	"sluice.dev/sluice/internal/addresses"
	"sluice.dev/sluice/internal/refusal"
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
	case v.Reason == refusal.PrivateAddress:
		return again.Consent.Judge(opts.Refused) == ""
	case v.Reason == refusal.OutsideCIDR:
		return again.Consent.Ranges() == nil
	}
	return true
}

// ruleSentence says what the remedy's rule does.
func ruleSentence(c *Chain, v *Verdict, rule *Rule) string {
	destination := allowForm(rule)
	protocol := rule.Ports[0].Protocol.String()
	for _, p := range rule.Ports[1:] {
		protocol += " and " + p.Protocol.String()
	}
	switch {
	case v.Reason == refusal.MethodOrPath:
		return fmt.Sprintf("Allow %s %s on %s (%s).", printable(c.Method), printable(c.Path), destination, protocol)
	case v.Reason == refusal.PrivateAddress:
		return fmt.Sprintf("Allow %s (%s) to lead to %s.", destination, protocol, rule.PrivateAnswers[len(rule.PrivateAnswers)-1])
	case v.Reason == refusal.ProtocolMismatch && c.Sniffed == ClientHello && v.Rule != nil && v.Rule.needsRequest():
		return fmt.Sprintf("Speak plain HTTP to port %d, so that method and path can be seen (Sluice makes the TLS), or allow %s as %s, whatever is requested.", c.Port, destination, protocol)
	}
	return fmt.Sprintf("Allow %s (%s).", destination, protocol)
}

// advice says what to change where no rule helps.
func (s *Set) advice(c *Chain, v *Verdict) string {
	switch v.Reason {
	case refusal.NameMismatch:
		return "No rule allows this: have the client use one name for the address that it dials, the SNI and the Host."
	case refusal.PortMismatch:
		return fmt.Sprintf("No rule allows this: have the client dial the port that its Host names, or send Host with port %d or none.", c.Port)
	case refusal.NoServerName:
		return "Have the client send the server's name in its TLS handshake (SNI)."
	case refusal.NoHost:
		return "Have the client send a Host header, or dial the server by its name."
	case refusal.BadHost:
		return "No rule allows this: have the client send a valid host name as SNI and Host."
	case refusal.MethodOrPath:
		if !IsNormalPath(c.Path) {
			return "Have the client send the path in its plain form: without \"//\", \".\" and \"..\" segments, \";\", backslashes, and without percent-encoding what need not be encoded."
		}
	case refusal.EncryptedHello:
		return "Turn off Encrypted Client Hello in the client, so that the server name can be seen."
	case refusal.NoSnapshot:
		return "Wait until the proxy has its rules; `sluice status` shows whether it reaches its server."
	case refusal.StaleSnapshot:
		return "Bring the server back, or let the proxy reach it; `sluice status` shows the age of its rules."
	case refusal.PrivateAddress:
		if v.Rule != nil {
			return fmt.Sprintf("If the address is meant, list it under privateAnswers of rule %s.", v.Rule.ID)
		}
		return "If the address is meant, list it under privateAnswers of the rule."
	case refusal.CertificateFail:
		if v.Rule != nil {
			return fmt.Sprintf("No rule lets a server pass that cannot prove its name; if it has a private CA, set tls.caBundle in rule %s.", v.Rule.ID)
		}
	case refusal.NoRule, refusal.AddressLiteral:
		if addresses.Own(v.Addr) {
			return fmt.Sprintf("%s belongs to Sluice itself: have the client look the server's name up, and dial what it gets.", v.Addr)
		}
	}
	return "No single rule allows this without taking something else away; change rule " + v.ruleID() + "."
}
