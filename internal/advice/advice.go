// Package advice puts verdicts into words and says what to change: why a connection
// or request was allowed or denied, which rule comes closest, and the smallest
// change that helps. The proxy's denials, the server's /sluice/why and the command
// line call it. It decides nothing: all that it says was asked of policy, and no
// rule is proposed that api.Validate refuses.
package advice

import (
	"net/netip"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
)

// Options says for whom a verdict is explained.
type Options struct {
	// Namespace and Labels are of the workload, for a remedy that selects it alone.
	Namespace string
	Labels    map[string]string
	// Refused is the address that the dial refused, for refusal.PrivateAddress and
	// refusal.OutsideCIDR.
	Refused netip.Addr
}

// namespace returns the workload's namespace.
func (o *Options) namespace() string {
	if o.Namespace == "" {
		return "default"
	}
	return o.Namespace
}

// VerdictError is the verdict of what is allowed and cannot come about.
const VerdictError = "error"

// Explanation is a verdict in words, for people and for `-o json`.
type Explanation struct {
	Verdict     string         `json:"verdict"` // "allow", "audit", "deny" or VerdictError
	Destination string         `json:"destination"`
	Reason      refusal.Reason `json:"reason,omitempty"`
	Sentence    string         `json:"sentence"`
	Rule        string         `json:"rule,omitempty"` // that allowed
	Protocol    string         `json:"protocol,omitempty"`
	Treatment   string         `json:"treatment,omitempty"`
	Proofs      []Proof        `json:"proofs,omitempty"`  // what was seen, and what proves it
	Unseen      []string       `json:"unseen,omitempty"`  // what cannot be seen
	Answers     []Answered     `json:"answers,omitempty"` // of DNS, that were asked about: what the dialer does with each
	Closest     string         `json:"closest,omitempty"` // the rule that comes closest to allowing it
	Remedy      *Remedy        `json:"remedy,omitempty"`  // of a denial, and of what passes without a rule (audit)
	Route       *Routed        `json:"route,omitempty"`   // of what is allowed to a service of the mesh
}

// Passes reports whether what is explained would get through: it is allowed, or
// passes by audit.
func (e *Explanation) Passes() bool {
	return e.Verdict == policy.Allow.String() || e.Verdict == policy.Audit.String()
}

// asked is a verdict that is explained, and what it is about.
type asked struct {
	Options
	set     *policy.Set
	chain   *policy.Chain
	verdict *policy.Verdict
}

// Explain puts a verdict into words: what Decide said of c, or what the dial
// found afterwards (Verdict.Denied with a reason of the dial). It is for the
// few times that somebody asks: it allocates, and looks at every rule.
func Explain(s *policy.Set, c *policy.Chain, v policy.Verdict, opts Options) Explanation {
	if v.Reason != refusal.PrivateAddress && v.Reason != refusal.OutsideCIDR {
		opts.Refused = netip.Addr{}
	}
	a := &asked{Options: opts, set: s, chain: c, verdict: &v}
	e := Explanation{
		Verdict:     v.Action.String(),
		Destination: v.Destination(),
		Reason:      v.Reason,
		Proofs:      a.proofs(),
	}
	if v.Passes() {
		e.Sentence = a.passing()
		e.Protocol, e.Treatment = v.Protocol.String(), v.Treatment.String()
		if v.Rule != nil {
			e.Rule = v.Rule.ID
		}
		e.Unseen = a.unseen()
		if v.Action == policy.Allow {
			return e
		}
	} else {
		e.Sentence = a.denial()
	}
	if closest := a.closest(); closest != nil {
		e.Closest = closest.ID
	}
	e.Remedy = a.remedy()
	return e
}
