package carry

import (
	"context"

	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
)

// Deny answers a request that a verdict on its chain denies, at the pace of the
// workload's denials.
func (r *Requests) Deny(s *snapshot.Snapshot, chain *policy.Chain, v *policy.Verdict) exchange.Direction {
	return r.kit.Denials.reply(r.denial(s, chain, v))
}

// Asks reports whether somebody is asked about denials.
func (r *Requests) Asks() bool { return r.kit.Ask != nil }

// Ask asks about the request under way, which was denied, and reports whether it is to be
// decided anew.
func (r *Requests) Ask(ctx context.Context) bool { return r.kit.ask(ctx, &r.entry) }

// Under notes the rules by which the request is decided anew.
func (r *Requests) Under(s *snapshot.Snapshot) {
	r.entry.Edit(func(entry *record.Record) { entry.Snapshot, entry.Detail = s.Version, "" })
}

func (k *Kit) ask(ctx context.Context, entry *record.Entry) bool {
	var denied record.Record
	entry.Edit(func(r *record.Record) { denied = *r })
	return k.Ask(ctx, &denied)
}

// DenyNow is Deny for who may wait, until ctx ends.
func (r *Requests) DenyNow(ctx context.Context, s *snapshot.Snapshot, chain *policy.Chain, v *policy.Verdict) exchange.Direction {
	r.kit.Denials.Wait(ctx)
	return r.denial(s, chain, v)
}

func (r *Requests) denial(s *snapshot.Snapshot, chain *policy.Chain, v *policy.Verdict) exchange.Direction {
	direction := r.Reply(v.Reason, "")
	if !r.kit.TellAll {
		return direction
	}
	reply, full := direction.Reply, advice.Explain(s.Policy, chain, *v, r.kit.For)
	reply.Message, reply.Closest = full.Sentence, full.Closest
	if target := r.kit.target(v); target != "" {
		reply.Message += " " + target
	}
	if full.Remedy != nil {
		reply.Remedy, reply.Allow, reply.Rule = full.Remedy.Sentence, full.Remedy.Allow, full.Remedy.YAML
	}
	return direction
}
