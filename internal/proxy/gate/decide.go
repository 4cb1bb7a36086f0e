package gate

import (
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/refusal"
)

// Decide is what the rules of a snapshot say of a connection or request that leaves
// the mesh, as far as this proxy can keep to it. It does not allocate and keeps
// nothing of c.
func Decide(s *snapshot.Snapshot, c *policy.Chain) policy.Verdict {
	v := s.Policy.Decide(c)
	oblige(&v)
	return v
}

// DecideService is what the rules say of a connection or request to a service of the
// mesh: it is allowed for as long as there are rules at all.
func DecideService(s *snapshot.Snapshot, service names.Name, port uint16) policy.Verdict {
	v := policy.Verdict{Action: policy.Allow, Treatment: policy.Mesh, Name: service, Port: port}
	if reason := s.Policy.DeniesAll(); reason != "" {
		v = policy.Verdict{Reason: reason, Name: service, Port: port}
	}
	oblige(&v)
	return v
}

// oblige denies what passes only under an obligation that nobody here fulfils. This
// proxy knows of none yet.
func oblige(v *policy.Verdict) {
	if !v.Passes() || len(v.Obligations) == 0 {
		return
	}
	*v = policy.Verdict{
		Reason: refusal.ObligationUnknown, Rule: v.Rule, Name: v.Name, Addr: v.Addr, Port: v.Port,
		Transport: v.Transport, Protocol: v.Protocol, Obligations: v.Obligations,
	}
}
