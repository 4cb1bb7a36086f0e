package policy

import (
	"fmt"
	"net/netip"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/refusal"
)

// ExplainOptions says for whom a verdict is explained.
type ExplainOptions struct {
	// Namespace and Labels are of the workload, for a remedy that selects it alone.
	Namespace string
	Labels    map[string]string
	// Refused is the address that the dial refused, for refusal.PrivateAddress.
	Refused netip.Addr
}

// Explanation is a verdict in words, for people and for `-o json`.
type Explanation struct {
	Verdict     string         `json:"verdict"` // "allow" or "deny"
	Destination string         `json:"destination"`
	Reason      refusal.Reason `json:"reason,omitempty"`
	Sentence    string         `json:"sentence"`
	Rule        string         `json:"rule,omitempty"` // that allowed
	Protocol    string         `json:"protocol,omitempty"`
	Treatment   string         `json:"treatment,omitempty"`
	Proofs      []Proof        `json:"proofs,omitempty"`  // what was seen, and what proves it
	Unseen      []string       `json:"unseen,omitempty"`  // what cannot be seen
	Closest     string         `json:"closest,omitempty"` // the rule that comes closest to allowing it
	Remedy      *Remedy        `json:"remedy,omitempty"`  // of a denial
}

// Proof is one link of the name chain.
type Proof struct {
	Link     string `json:"link"` // "dialled", "sni", "host", "request", "address", "certificate"
	Value    string `json:"value"`
	ProvedBy string `json:"provedBy"`
}

// Explain puts a verdict into words: what Decide said of c, or what the dial
// found afterwards (v with Action Deny and a reason of the dial). It is for the
// few times that somebody asks: it allocates, and looks at every rule.
func (s *Set) Explain(c *Chain, v Verdict, opts ExplainOptions) Explanation {
	e := Explanation{
		Verdict:     v.Action.String(),
		Destination: v.Destination(),
		Reason:      v.Reason,
		Proofs:      proofs(c, &v),
	}
	if v.Passes() {
		e.Sentence = fmt.Sprintf("%s is allowed: %s.", e.Destination, v.Treatment.sentence())
		e.Protocol, e.Treatment = v.Protocol.String(), v.Treatment.String()
		if v.Rule != nil {
			e.Rule = v.Rule.ID
		}
		e.Unseen = unseen(c, &v)
		return e
	}
	e.Sentence = s.denial(c, &v, opts)
	if closest := s.closest(c, &v); closest != nil {
		e.Closest = closest.ID
	}
	e.Remedy = s.remedy(c, &v, opts)
	return e
}

// sentence says what becomes of an allowed connection.
func (t Treatment) sentence() string {
	switch t {
	case Forward:
		return "the request is forwarded as plain HTTP"
	case Originate:
		return "the request is sent over TLS that Sluice makes and verifies"
	case Passthrough:
		return "its TLS is passed through undecrypted, after the server proved its name to Sluice"
	default:
		return "its bytes are relayed"
	}
}

// denial is the reason with the names of the case.
func (s *Set) denial(c *Chain, v *Verdict, opts ExplainOptions) string {
	where := v.Destination()
	switch v.Reason {
	case refusal.NoRule:
		return fmt.Sprintf("No rule allows %s.", where)
	case refusal.NameMismatch:
		return fmt.Sprintf("The names of one connection differ: %s.", c.links())
	case refusal.PortMismatch:
		return fmt.Sprintf("The Host names port %d, but port %d was dialled.", c.Host.Port, c.Port)
	case refusal.AddressLiteral:
		return fmt.Sprintf("%s is an address; rules on names, \"*\" among them, never allow one.", where)
	case refusal.MethodOrPath:
		return fmt.Sprintf("Rule %s allows %s, but not %s %s.", v.ruleID(), where, printable(c.Method), printable(c.Path))
	case refusal.ProtocolMismatch:
		return fmt.Sprintf("Rule %s allows %s as %s, and this connection is %s.", v.ruleID(), where, v.Protocol, c.Sniffed.words())
	case refusal.PrivateAddress:
		if opts.Refused.IsValid() {
			return fmt.Sprintf("%s leads to %s, a private, local or reserved address, and rule %s does not list it under privateAnswers.", where, opts.Refused, v.ruleID())
		}
	}
	return v.Reason.Text()
}

func (v *Verdict) ruleID() string {
	if v.Rule == nil {
		return "(none)"
	}
	return v.Rule.ID
}

// words says what the first bytes were, after "is".
func (s Sniffed) words() string {
	switch s {
	case HTTP:
		return "plain HTTP"
	case ClientHello:
		return "TLS"
	case Opaque:
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
func (c *Chain) links() string {
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

// proofs lists the links that were seen and what proves each.
func proofs(c *Chain, v *Verdict) []Proof {
	var list []Proof
	add := func(link, value, by string) { list = append(list, Proof{link, value, by}) }
	switch {
	case !c.Dialled.IsZero():
		add("dialled", c.Dialled.String(), "the synthetic address that Sluice's DNS gave for this name alone")
	case c.Addr.IsValid() && !v.Name.IsZero():
		add("dialled", c.Addr.String(), "nothing: an address dialled beside a name is ignored")
	case c.Addr.IsValid():
		add("dialled", c.Addr.String(), "the connection's original destination")
	}
	agrees := func(n names.Name) string {
		switch {
		case c.Dialled.IsZero():
			return "the workload's word; the server proves it"
		case n == c.Dialled:
			return "it equals the name that was dialled"
		default:
			return "nothing: it differs from the name that was dialled"
		}
	}
	if !c.SNI.IsZero() {
		add("sni", c.SNI.String(), agrees(c.SNI))
	}
	switch {
	case !c.Host.Name.IsZero():
		add("host", c.Host.String(), agrees(c.Host.Name))
	case c.Host.Addr.IsValid():
		add("host", c.Host.String(), "an address names nobody; only rules on addresses look at it")
	}
	if !v.Passes() {
		return list
	}
	if v.Rule != nil && v.Rule.needsRequest() {
		add("request", printable(c.Method)+" "+printable(c.Path), "Sluice read the request")
	}
	switch {
	case v.Consent.Ranges() != nil:
		add("address", fmt.Sprintf("inside %d ranges", len(v.Consent.Ranges())), "Sluice's own resolution of the name, and rules on addresses")
	case !v.Name.IsZero():
		add("address", "what the name resolves to", "Sluice's own resolution")
	default:
		add("address", v.Addr.String(), "a rule on addresses")
	}
	switch v.Treatment {
	case Originate:
		name := v.Name.String()
		if name == "" {
			name = v.Addr.String()
		}
		if v.Rule != nil && !v.Rule.TLS.ServerName.IsZero() {
			name = v.Rule.TLS.ServerName.String()
		}
		add("certificate", name, "verified in the TLS connection that carries the request")
	case Passthrough:
		add("certificate", v.Name.String(), "verified in a handshake of Sluice's own with the same address and SNI, before the first byte is relayed")
	}
	return list
}

// unseen lists what no gate can see of an allowed connection.
func unseen(c *Chain, v *Verdict) []string {
	var list []string
	switch v.Treatment {
	case Forward:
		list = append(list, "who the server is: plain HTTP proves nothing about it")
	case Passthrough:
		list = append(list, "the certificate that the workload is shown", "the inner Host, method and path")
	case Relay:
		list = append(list, "everything inside the TCP connection, and who the server is")
	}
	if v.ECH {
		list = append(list, "whether encrypted_client_hello hides another name: it is let through only if the server does not know it")
	}
	return list
}
