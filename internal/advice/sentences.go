package advice

import (
	"fmt"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
)

// treatmentWords says what becomes of an allowed connection.
func treatmentWords(t policy.Treatment) string {
	switch t {
	case policy.Forward:
		return "the request is forwarded as plain HTTP"
	case policy.Originate:
		return "the request is sent over TLS that Sluice makes and verifies"
	case policy.Passthrough:
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
		return fmt.Sprintf("Rule %s allows %s, but not %s %s.", ruleID(v), where, printable(c.Method), printable(c.Path))
	case refusal.ProtocolMismatch:
		return fmt.Sprintf("Rule %s allows %s as %s, and this connection is %s.", ruleID(v), where, v.Protocol, sniffedWords(c.Sniffed))
	case refusal.PrivateAddress:
		if a.Refused.IsValid() {
			return fmt.Sprintf("%s leads to %s, a private, local or reserved address, and rule %s does not list it under privateAnswers.", where, a.Refused, ruleID(v))
		}
	}
	return v.Reason.Text()
}

func ruleID(v *policy.Verdict) string {
	if v.Rule == nil {
		return "(none)"
	}
	return v.Rule.ID
}

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
