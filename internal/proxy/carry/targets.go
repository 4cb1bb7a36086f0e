package carry

import (
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// explain notes where a workload has a name from that no rule allows, if SRV records
// brought it.
func (k *Kit) explain(r *record.Record, v *policy.Verdict) {
	if target := k.target(v); target != "" {
		r.Detail = record.Text(v.Reason.Text() + " " + target)
	}
}

// target says of which SRV records a denied name is a target; "" where it is of none.
func (k *Kit) target(v *policy.Verdict) string {
	if v.Reason != refusal.NoRule || v.Name.IsZero() || k.TargetOf == nil {
		return ""
	}
	asked := k.TargetOf(v.Name)
	if asked == "" {
		return ""
	}
	return "It is a target of the SRV records of " + asked + ": a target needs a rule of its own."
}
