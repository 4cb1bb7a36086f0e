package egress

import (
	"net/netip"
	"strings"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/snapshot"
)

// allowed is the grant of what a verdict allowed: a connection that is being dialled,
// or requests, whose pool knows the addresses.
type allowed struct{ chain policy.Chain }

// Recheck implements gate.Grant.
func (g allowed) Recheck(s *snapshot.Snapshot) gate.Objection {
	if v := gate.Decide(s, &g.chain); !v.Passes() {
		return gate.Objection{Reason: v.Reason}
	}
	return gate.Objection{}
}

// dialled is the grant of a connection that leads to an address.
type dialled struct {
	allowed
	address netip.Addr
}

// Recheck implements gate.Grant.
func (g dialled) Recheck(s *snapshot.Snapshot) gate.Objection {
	v := gate.Decide(s, &g.chain)
	if !v.Passes() {
		return gate.Objection{Reason: v.Reason}
	}
	return gate.Objection{Reason: v.Consent.Judge(g.address)}
}

// keep copies a chain that is to outlive its request: what it says of the request are
// views into the connection's buffer. No rule looks at fields of a request yet.
func keep(chain *policy.Chain) policy.Chain {
	kept := *chain
	kept.Method, kept.Path, kept.Upgrade = strings.Clone(kept.Method), strings.Clone(kept.Path), strings.Clone(kept.Upgrade)
	kept.Fields = nil
	return kept
}
