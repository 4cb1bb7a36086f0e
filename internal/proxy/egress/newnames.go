package egress

import (
	"sync"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/resolve"
)

// manyLimits is from how many limits of rules on those that say no more than new ones are
// forgotten.
const manyLimits = 256

// newNames is how fast one workload may have names resolved that a wildcard alone allows:
// all together, and under the wildcards of each rule that sets a bound of its own.
type newNames struct {
	now func() time.Time
	all *resolve.Limit

	mu     sync.Mutex
	byRule map[string]*ruleLimit // by the rule's ID
}

type ruleLimit struct {
	limit     *resolve.Limit
	perMinute int
}

// of returns the limit for the name of a verdict; nil where a rule spells it out, or none
// decided.
func (n *newNames) of(v *policy.Verdict) *resolve.Limit {
	return n.under(v.Rule, v.Rule != nil && v.Rule.SpellsOut(v.Name))
}

// under returns the limit for names that a rule allows.
func (n *newNames) under(rule *policy.Rule, spelledOut bool) *resolve.Limit {
	switch {
	case spelledOut:
		return nil
	case rule == nil, rule.MaxNewNames == 0:
		return n.all
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	known := n.byRule[rule.ID]
	if known == nil {
		known = &ruleLimit{limit: n.all.Of(rule.MaxNewNames), perMinute: rule.MaxNewNames}
		n.forget()
		n.byRule[rule.ID] = known
	}
	if known.perMinute != rule.MaxNewNames {
		known.perMinute = rule.MaxNewNames
		known.limit.Set(known.perMinute)
	}
	return known.limit
}

// forget makes room where there are many: what remains is of rules that were used within
// the last minute.
func (n *newNames) forget() {
	if n.byRule == nil {
		n.byRule = make(map[string]*ruleLimit)
	}
	if len(n.byRule) < manyLimits {
		return
	}
	now := n.now()
	for id, known := range n.byRule {
		if known.limit.Unused(now) {
			delete(n.byRule, id)
		}
	}
}
