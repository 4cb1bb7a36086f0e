package advice

import (
	"fmt"
	"net/netip"

	"sluice.dev/sluice/internal/addresses"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
)

// passing says what becomes of a connection that passes, and why it may.
func (a *asked) passing() string {
	v := a.verdict
	if v.Action == policy.Audit {
		return fmt.Sprintf("No rule allows %s; it passes because outboundDefault is Audit: %s.", v.Destination(), treatmentWords(v))
	}
	return fmt.Sprintf("%s is allowed: %s.", v.Destination(), treatmentWords(v))
}

// treatmentWords says how a connection that passes is carried.
func treatmentWords(v *policy.Verdict) string {
	to := ""
	if v.Upstream != 0 {
		to = fmt.Sprintf(" to port %d", v.Upstream)
	}
	switch v.Treatment {
	case policy.Forward:
		return "the request is forwarded as plain HTTP" + to
	case policy.Originate:
		return "the request is sent" + to + " over TLS that Sluice makes and verifies"
	case policy.Passthrough:
		if v.Name.IsZero() {
			return "its TLS is passed through undecrypted, after the server proved its address to Sluice"
		}
		return "its TLS is passed through undecrypted, after the server proved its name to Sluice"
	default:
		return "its bytes are relayed"
	}
}

// denial is the reason with the names of the case.
func (a *asked) denial() string {
	c, v := a.chain, a.verdict
	where := v.Destination()
	switch v.Reason {
	case refusal.NoRule:
		return fmt.Sprintf("No rule allows %s.", where)
	case refusal.NameMismatch:
		return fmt.Sprintf("The names of one connection differ: %s.", links(c))
	case refusal.PortMismatch:
		return fmt.Sprintf("The Host names port %d, but port %d was dialled.", c.Host.Port, c.Port)
	case refusal.AddressLiteral:
		return fmt.Sprintf("%s is an address; rules on names, \"*\" among them, never allow one.", where)
	case refusal.MethodOrPath:
		return fmt.Sprintf("Rule %s allows %s, but not %s.", ruleID(v), where, requestText(c))
	case refusal.UpgradeForbidden:
		return fmt.Sprintf("Rule %s allows %s on %s, but not the change of protocol to %s that it asks for.", ruleID(v), requestText(c), where, printable(c.Upgrade))
	case refusal.ProtocolMismatch:
		return fmt.Sprintf("Rule %s allows %s as %s, and this connection is %s.", ruleID(v), where, v.Protocol, sniffedWords(c.Sniffed))
	case refusal.SchemeMismatch:
		if v.Rule == nil {
			return fmt.Sprintf("The request's target is an https URL, and to %s it would be sent as plain HTTP.", where)
		}
		return fmt.Sprintf("The request's target is an https URL, and rule %s forwards plain HTTP to %s.", ruleID(v), where)
	case refusal.MeshName:
		return fmt.Sprintf("%s belongs to the mesh's domain %s, which is never resolved outside the mesh.", v.Name, a.set.Domain())
	case refusal.PrivateAddress:
		return a.private(where)
	case refusal.OutsideCIDR:
		if a.Refused.IsValid() {
			return fmt.Sprintf("%s leads to %s, which is outside the addresses that the rules on port %d allow.", where, a.Refused, v.Port)
		}
	}
	return v.Reason.Text()
}

// private says which address is not public, and why nothing consents to it.
func (a *asked) private(where string) string {
	v := a.verdict
	switch {
	case v.Name.IsZero() && v.Addr.IsValid():
		why := "holds it by a range that reaches beyond that block, which is not consent to it"
		if v.Rule != nil && v.Rule.ID == policy.AuditRule {
			why = "lets pass only what is public"
		}
		return fmt.Sprintf("%s is %s, and rule %s %s.", where, special(v.Addr), ruleID(v), why)
	case a.Refused.IsValid():
		return fmt.Sprintf("%s leads to %s, %s, and rule %s does not consent to that (privateAnswers).", where, a.Refused, special(a.Refused), ruleID(v))
	}
	return v.Reason.Text()
}

// special says what an address that is not public is, after "is".
func special(addr netip.Addr) string {
	if block, ok := addresses.Special(addr); ok {
		return "an address of " + block.String()
	}
	return "a private, local or reserved address"
}

func ruleID(v *policy.Verdict) string {
	if v.Rule == nil {
		return "(none)"
	}
	return v.Rule.ID
}

// requestText is a request's method and path.
func requestText(c *policy.Chain) string { return printable(c.Method) + " " + printable(c.Path) }

// sniffedWords says what the first bytes were, after "is".
func sniffedWords(s policy.Sniffed) string {
	switch s {
	case policy.HTTP:
		return "plain HTTP"
	case policy.ClientHello:
		return "TLS"
	case policy.Opaque:
		return "neither TLS nor HTTP"
	default:
		return "not seen yet"
	}
}

// printable cuts and quotes what a stranger sent.
func printable(s string) string {
	const bound = 200
	if len(s) > bound {
		s = s[:bound] + "..."
	}
	quoted := fmt.Sprintf("%+q", s)
	if quoted == `"`+s+`"` && s != "" {
		return s
	}
	return quoted
}

// links lists the names of the chain that were seen.
func links(c *policy.Chain) string {
	text := ""
	add := func(link, value string) {
		if value == "" {
			return
		}
		if text != "" {
			text += ", "
		}
		text += link + " " + value
	}
	add("dialled", c.Dialled.String())
	if c.Dialled.IsZero() && c.Addr.IsValid() {
		add("dialled", c.Addr.String())
	}
	add("SNI", c.SNI.String())
	add("Host", c.Host.String())
	return text
}
