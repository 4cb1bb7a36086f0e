package proxy

import (
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
)

// account opens the account of what a verdict decided.
func (c *connection) account(v policy.Verdict) *record.Record {
	f := &record.Record{
		ID: record.NewID(), Start: c.start, Workload: c.workload.Instance(), Port: c.chain.Port,
		Snapshot: c.snapshot.Version, Sniffed: c.chain.Sniffed, Verdict: record.Allowed,
	}
	f.Dialled = c.dialledText()
	if v.Rule != nil {
		f.Rule = v.Rule.ID
	}
	if v.Action == policy.Allow {
		f.Treatment = v.Treatment
	} else {
		f.Verdict, f.Reason = record.Denied, v.Reason
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

// noteWithdrawal says in the account that a new snapshot ended the connection.
func (c *connection) noteWithdrawal(account *record.Record) {
	if reason := c.withdrawn.Load(); reason != nil {
		account.Verdict, account.Reason = record.Denied, *reason
		account.Detail = "what allowed this connection was withdrawn"
	}
}
