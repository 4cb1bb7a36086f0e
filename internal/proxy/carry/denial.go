package carry

import (
	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/snapshot"
)

// Deny answers a request that a verdict on its chain denies, at the pace of the
// workload's denials.
func (r *Requests) Deny(s *snapshot.Snapshot, chain *policy.Chain, v *policy.Verdict) exchange.Direction {
	return r.kit.Denials.reply(r.denial(s, chain, v))
}

func (r *Requests) denial(s *snapshot.Snapshot, chain *policy.Chain, v *policy.Verdict) exchange.Direction {
	direction := r.Reply(v.Reason, "")
	if !r.kit.TellAll {
		return direction
	}
	reply, full := direction.Reply, advice.Explain(s.Policy, chain, *v, r.kit.For)
	reply.Message, reply.Closest = full.Sentence, full.Closest
	if full.Remedy != nil {
		reply.Remedy, reply.Allow, reply.Rule = full.Remedy.Sentence, full.Remedy.Allow, full.Remedy.YAML
	}
	return direction
}
