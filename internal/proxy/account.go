package proxy

import (
	"sluice.dev/sluice/internal/flow"
	"sluice.dev/sluice/internal/policy"
)

// account opens the account of what a verdict decided.
func (c *connection) account(v policy.Verdict) *flow.Flow {
	f := &flow.Flow{
		ID: flow.NewID(), Start: c.start, Workload: c.workload.Instance(), Port: c.chain.Port,
		Snapshot: c.snapshot.Version, Sniffed: sniffedText(c.chain.Sniffed), Verdict: "allow",
	}
	f.Dialled = c.dialledText()
	if v.Rule != nil {
		f.Rule = v.Rule.ID
	}
	if v.Action == policy.Allow {
		f.Treatment = v.Treatment.String()
	} else {
		f.Verdict, f.Reason = "deny", string(v.Reason)
	}
	return f
}

// dialledText is the name behind the address that was dialled, or that address.
func (c *connection) dialledText() string {
	switch {
	case !c.chain.Dialled.IsZero():
		return c.chain.Dialled.String()
	case c.chain.Addr.IsValid():
		return c.chain.Addr.String()
	}
	return "ingress"
}

func sniffedText(s policy.Sniffed) string {
	switch s {
	case policy.HTTP:
		return "http"
	case policy.ClientHello:
		return "tls"
	case policy.Opaque:
		return "opaque"
	}
	return ""
}

// noteWithdrawal says in the account that a new snapshot ended the connection.
func (c *connection) noteWithdrawal(account *flow.Flow) {
	if reason := c.withdrawn.Load(); reason != nil {
		account.Verdict, account.Reason = "deny", string(*reason)
		account.Detail = "what allowed this connection was withdrawn"
	}
}
