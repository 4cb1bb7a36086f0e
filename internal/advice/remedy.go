package advice

import (
	"fmt"
	"net/netip"
	"strings"

	"sluice.dev/sluice/internal/addresses"
	"sluice.dev/sluice/internal/httppath"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
)

// Remedy is the smallest change after which the same chain would be allowed.
// Where a rule does it, YAML is a whole EgressPolicy and Allow the short form, each
// "" where it cannot say it; where no rule can, only Sentence says what to change.
type Remedy struct {
	Sentence string `json:"sentence"`
	Allow    string `json:"allow,omitempty"` // for `sluice run --allow`
	YAML     string `json:"yaml,omitempty"`

	// Instead is the flag whose rule YAML takes the place of, given with --rules: beside
	// it the flag's would count first. "" where it stands beside all others.
	Instead string `json:"instead,omitempty"`

	// Rule is what YAML compiles to; nil without it.
	Rule *policy.Rule `json:"-"`
}

// remedy finds the smallest rule that would allow the chain, tries it, and writes
// it down. A proposal that does not help leaves the next one, and in the end the
// sentence.
func (a *asked) remedy() *Remedy {
	var r Remedy
	var first policy.Rule // that r speaks of
	for _, rule := range a.proposals() {
		plainTLS(&rule)
		object, written := asPolicy(&rule, &a.Options) // which names the rule: of several the first by name counts
		if !a.allowedWith(rule, "") {
			if flag := a.flag(); written && flag != "" && r.YAML == "" && a.allowedWith(rule, flag) {
				r.YAML, r.Rule, r.Instead = policyYAML(&object), &rule, flag
			}
			continue
		}
		if form := allowForm(&rule); form != "" && r.Allow == "" {
			if parsed, err := ParseAllow(form); err == nil && a.allowedWith(parsed, "") {
				r.Allow = form
			}
		}
		if written && (r.YAML == "" || r.Instead != "") {
			r.YAML, r.Rule, r.Instead = policyYAML(&object), &rule, ""
		}
		if first.Ports == nil && (r.Allow != "" || r.YAML != "") {
			first = rule
		}
		if r.Allow != "" && r.YAML != "" {
			break
		}
	}
	switch {
	case r.Rule != nil:
		r.Sentence = a.ruleSentence(r.Rule, r.Instead)
	case r.Allow != "":
		r.Sentence = a.ruleSentence(&first, "")
	default:
		r.Sentence = a.advice()
	}
	return &r
}

// flag is the ID of the rule that allows a name and not its answer, where it is one of
// --allow: a policy can say all that it says, and the answer too.
func (a *asked) flag() string {
	if a.verdict.Reason != refusal.PrivateAddress || a.verdict.Rule == nil || !strings.HasPrefix(a.verdict.Rule.ID, allowID) {
		return ""
	}
	return a.verdict.Rule.ID
}

// allowedWith reports whether the chain is allowed once rule stands beside the
// others that hold its destination and port, but the one that it takes the place of.
// (A rule on the name leaves nothing to those on addresses.)
func (a *asked) allowedWith(rule policy.Rule, instead string) bool {
	v := a.verdict
	beside := []policy.Rule{rule}
	for other := range a.set.Rules() {
		if other.ID != instead && other.HoldsPort(v.Transport, v.Port) && other.Holds(v.Name, v.Addr) {
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
	case a.Refused.IsValid():
		return again.Consent.Judge(a.Refused) == ""
	case v.Reason == refusal.OutsideCIDR:
		return again.Consent.Ranges() == nil
	}
	return true
}

// ruleSentence says what the remedy's rule does.
func (a *asked) ruleSentence(rule *policy.Rule, instead string) string {
	c, v := a.chain, a.verdict
	destination := destinationText(rule)
	protocol := rule.Ports[0].Protocol.String()
	for _, p := range rule.Ports[1:] {
		protocol += " and " + p.Protocol.String()
	}
	switch {
	case v.Reason == refusal.MethodOrPath:
		return fmt.Sprintf("Allow %s on %s (%s).", requestText(c), destination, protocol)
	case v.Reason == refusal.UpgradeForbidden:
		return fmt.Sprintf("Allow %s on %s (%s) to change to %s.", requestText(c), destination, protocol, printable(c.Upgrade))
	case a.Refused.IsValid() && len(rule.PrivateAnswers) > 0:
		to := rule.PrivateAnswers[len(rule.PrivateAnswers)-1]
		if instead != "" {
			return fmt.Sprintf("Allow %s (%s) to lead to %s: in place of %s give this policy with --rules.", destination, protocol, to, instead)
		}
		return fmt.Sprintf("Allow %s (%s) to lead to %s.", destination, protocol, to)
	case v.Reason == refusal.ProtocolMismatch && c.Sniffed == policy.ClientHello && v.Rule != nil && v.Rule.NeedsRequest():
		return fmt.Sprintf("Speak plain HTTP to port %d, so that method and path can be seen (Sluice makes the TLS), or allow %s as %s, whatever is requested.", c.Port, destination, protocol)
	}
	return fmt.Sprintf("Allow %s (%s).", destination, protocol)
}

// advice says what to change where no rule helps.
func (a *asked) advice() string {
	c, v := a.chain, a.verdict
	if target := a.target(); target.IsValid() && addresses.Undialable(target) {
		if addresses.Own(target) {
			return fmt.Sprintf("%s belongs to Sluice itself: have the client look the server's name up, and dial what it gets.", target)
		}
		return fmt.Sprintf("No rule allows this: %s is never dialled.", target)
	}
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
	case refusal.MethodOrPath, refusal.UpgradeForbidden:
		return a.requestAdvice()
	case refusal.SchemeMismatch:
		if policy.SpeaksTLS(v.Port) && v.Rule != nil {
			return fmt.Sprintf("Change the protocol of port %d in rule %s to https: Sluice then makes the TLS.", v.Port, ruleID(v))
		}
		return "Have the client ask for an http URL, or dial port 443, on which a rule with protocol https sends the request over TLS."
	case refusal.MeshName:
		return fmt.Sprintf("No rule allows this: have the client dial %s by its name while the service runs in the mesh, or use the name that the server has outside.", v.Name)
	case refusal.EncryptedHello:
		return "Turn off Encrypted Client Hello in the client, so that the server name can be seen."
	case refusal.ObligationUnknown:
		return fmt.Sprintf("Bring the proxy to the version of its server, or take out of %s what it does not support.", a.ruleToChange())
	case refusal.NoSnapshot:
		return "Wait until the proxy has its rules; `sluice status` shows whether it reaches its server."
	case refusal.StaleSnapshot:
		return "Bring the server back, or let the proxy reach it; `sluice status` shows the age of its rules."
	case refusal.PrivateAddress:
		if v.Name.IsZero() && v.Addr.IsValid() {
			return fmt.Sprintf("If the address is meant, list it, or a range inside its block, under to.cidrs of a rule on port %d.", v.Port)
		}
		return fmt.Sprintf("If the address is meant, list it under privateAnswers of %s.", a.ruleToChange())
	case refusal.OutsideCIDR:
		return fmt.Sprintf("Allow the name in a rule of its own, or add the addresses that it leads to to %s.", a.ruleToChange())
	case refusal.CertificateFail:
		if v.Name.IsZero() {
			return fmt.Sprintf("No rule lets a server pass that cannot prove its address; if it has a private CA, set tls.caBundle in %s. A rule with protocol tcp asks for no proof.", a.ruleToChange())
		}
		return fmt.Sprintf("No rule lets a server pass that cannot prove its name; if it has a private CA, set tls.caBundle in %s.", a.ruleToChange())
	}
	return fmt.Sprintf("No single rule allows this without taking something else away; change %s.", a.ruleToChange())
}

// requestAdvice says what to change of a request that no rule could list.
func (a *asked) requestAdvice() string {
	c := a.chain
	switch {
	case strings.ContainsFunc(c.Method, func(r rune) bool { return r >= 'a' && r <= 'z' }):
		return fmt.Sprintf("Have the client send the method in upper case: methods are case-sensitive, and no rule lists %s.", printable(c.Method))
	case !httppath.IsNormal(c.Path):
		return "Have the client send the path in its plain form: without \"//\", \".\" and \"..\" segments, \";\", backslashes, and without percent-encoding what need not be encoded."
	case strings.Contains(c.Path, "*"):
		return fmt.Sprintf("A rule cannot list a path that holds \"*\"; list the part before it as a prefix, with methods and paths of their own, in %s.", a.ruleToChange())
	case c.Upgrade != "":
		return fmt.Sprintf("No rule that lists requests can allow a change of protocol to %s, after which no request is seen: have the client not ask for it.", printable(c.Upgrade))
	}
	return fmt.Sprintf("No single rule allows this without taking something else away; change %s.", a.ruleToChange())
}

// target is the address that was not to be dialled: the one that was refused, or the
// one that was dialled as such.
func (a *asked) target() netip.Addr {
	if a.Refused.IsValid() || !a.verdict.Name.IsZero() {
		return a.Refused
	}
	return a.verdict.Addr
}

// ruleToChange is the rule that came closest, for a sentence.
func (a *asked) ruleToChange() string {
	if closest := a.closest(); closest != nil {
		return "rule " + closest.ID
	}
	return "the rule that allows the destination"
}
