package advice

import (
	"fmt"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
)

// Proof is one link of the name chain.
type Proof struct {
	Link     string `json:"link"` // "dialled", "sni", "host", "request", "address", "certificate"
	Value    string `json:"value"`
	ProvedBy string `json:"provedBy"`
}

// proofs lists the links that were seen and what proves each.
func (a *asked) proofs() []Proof {
	c, v := a.chain, a.verdict
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
		add("host", c.Host.String(), "it is an address, which only rules on addresses look at")
	}
	if !v.Passes() {
		return list
	}
	if v.Rule != nil && v.Rule.NeedsRequest() {
		add("request", requestText(c), "Sluice read the request")
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
	case policy.Originate:
		name := v.Name.String()
		if name == "" {
			name = v.Addr.String()
		}
		if v.Rule != nil && !v.Rule.TLS.ServerName.IsZero() {
			name = v.Rule.TLS.ServerName.String()
		}
		add("certificate", name, "verified in the TLS connection that carries the request")
	case policy.Passthrough:
		if v.Name.IsZero() {
			add("certificate", v.Addr.String(), "verified in a handshake of Sluice's own with the same address, which the certificate must name")
		} else {
			add("certificate", v.Name.String(), "verified in a handshake of Sluice's own with the same address and SNI, before the first byte is relayed")
		}
	}
	return list
}

// unseen lists what no gate can see of an allowed connection.
func (a *asked) unseen() []string {
	v := a.verdict
	var list []string
	switch v.Treatment {
	case policy.Forward:
		list = append(list, "who the server is: plain HTTP proves nothing about it")
	case policy.Passthrough:
		list = append(list, "the certificate that the workload is shown", "the inner Host, method and path")
	case policy.Relay:
		list = append(list, "everything inside the TCP connection, and who the server is")
	}
	if v.ECH {
		list = append(list, "whether encrypted_client_hello hides another name: it is let through only if the server does not know it")
	}
	return list
}
