package advice

import (
	"fmt"

	"sluice.dev/sluice/internal/addresses"
	"sluice.dev/sluice/internal/httppath"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
)

// Remedy is the smallest change after which the same chain would be allowed.
// Where a rule does it, YAML is a whole EgressPolicy and Allow the short form ("" for
// what cannot say it); where no rule can, only Sentence says what to change.
type Remedy struct {
	Sentence string `json:"sentence"`
	Allow    string `json:"allow,omitempty"` // for `sluice run --allow`
	YAML     string `json:"yaml,omitempty"`

	// Rule is what YAML compiles to; nil without it.
	Rule *policy.Rule `json:"-"`
}

// remedy finds the smallest rule that would allow the chain, tries it, and writes
// it down. A proposal that does not help, or that is none, leaves the sentence.
func (a *asked) remedy() *Remedy {
	for _, rule := range a.proposals() {
		object, ok := asPolicy(&rule, &a.Options)
		if !ok || !a.allowedWith(rule) {
			continue
		}
		text, err := policyYAML(&object)
		if err != nil {
			continue // an object that was just validated: it cannot be
		}
		r := &Remedy{Sentence: a.ruleSentence(&rule), Rule: &rule, YAML: text}
		// The short form says one protocol, and so could hide what a tier allows.
		short, err := ParseAllow(allowForm(&rule))
		if err == nil && !inTier(a.verdict) && a.allowedWith(short) {
			r.Allow = allowForm(&rule)
		}
		return r
	}
	return &Remedy{Sentence: a.advice()}
}

// allowedWith reports whether the chain is allowed once rule stands beside the
// others that hold its destination and port. (A rule on the name leaves nothing to
// those on addresses.)
func (a *asked) allowedWith(rule policy.Rule) bool {
	v := a.verdict
	beside := []policy.Rule{rule}
	rules := a.set.Rules()
	for i := range rules {
		if other := &rules[i]; other.HoldsPort(v.Transport, v.Port) && other.Holds(v.Name, v.Addr) {
			beside = append(beside, *other)
		}
	}
	set, err := policy.NewSet(beside, policy.Options{Domain: a.set.Domain()})
	if err != nil {
		return false
	}
	again := set.Decide(a.chain)
	switch {
	case again.Action != policy.Allow:
		return false
	case v.Reason == refusal.PrivateAddress:
		return again.Consent.Judge(a.Refused) == ""
	case v.Reason == refusal.OutsideCIDR:
		return again.Consent.Ranges() == nil
	}
	return true
}

// ruleSentence says what the remedy's rule does.
func (a *asked) ruleSentence(rule *policy.Rule) string {
	c, v := a.chain, a.verdict
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
	case v.Reason == refusal.ProtocolMismatch && c.Sniffed == policy.ClientHello && v.Rule != nil && v.Rule.NeedsRequest():
		return fmt.Sprintf("Speak plain HTTP to port %d, so that method and path can be seen (Sluice makes the TLS), or allow %s as %s, whatever is requested.", c.Port, destination, protocol)
	}
	return fmt.Sprintf("Allow %s (%s).", destination, protocol)
}

// advice says what to change where no rule helps.
func (a *asked) advice() string {
	c, v := a.chain, a.verdict
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
		if !httppath.IsNormal(c.Path) {
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
	return "No single rule allows this without taking something else away; change rule " + ruleID(v) + "."
}
