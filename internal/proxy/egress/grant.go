package egress

import (
	"strings"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
)

// allowed is the grant of what a verdict allowed: a connection that is being dialled.
type allowed struct{ chain policy.Chain }

// Recheck implements gate.Grant.
func (g allowed) Recheck(s *snapshot.Snapshot) gate.Objection {
	if v := gate.Decide(s, &g.chain); !v.Passes() {
		return gate.Objection{Reason: v.Reason}
	}
	return gate.Objection{}
}

// dialled is the grant of a connection that leads to a place.
type dialled struct {
	allowed
	to place
}

// Recheck implements gate.Grant.
func (g dialled) Recheck(s *snapshot.Snapshot) gate.Objection {
	v := gate.Decide(s, &g.chain)
	if !v.Passes() {
		return gate.Objection{Reason: v.Reason}
	}
	return gate.Objection{Reason: g.to.judge(&v)}
}

// requested is the grant of requests on a pool. The pool is asked about each new
// snapshot for as long as it takes requests; what runs on after that, such as an
// upgraded connection, must still lead where may be dialled.
type requested struct {
	allowed
	on   *upstream.Pool
	made *pool
}

// Recheck implements gate.Grant.
func (g requested) Recheck(s *snapshot.Snapshot) gate.Objection {
	v := gate.Decide(s, &g.chain)
	switch {
	case !v.Passes():
		return gate.Objection{Reason: v.Reason}
	case g.on.Closed() && g.made.leads(v.Consent):
		return gate.Objection{Reason: refusal.PrivateAddress}
	}
	return gate.Objection{}
}

// keep copies a chain that is to outlive its request: what it says of the request are
// views into the connection's buffer. No rule looks at fields of a request yet.
func keep(chain *policy.Chain) policy.Chain {
	kept := *chain
	kept.Method, kept.Path, kept.Upgrade = strings.Clone(kept.Method), strings.Clone(kept.Path), strings.Clone(kept.Upgrade)
	kept.Fields = nil
	return kept
}
