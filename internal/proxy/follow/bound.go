package follow

import (
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/route"
)

// Bounds is what bounds a request where its plan does not say otherwise.
type Bounds struct {
	Timeout   time.Duration // until the answer's head; 0: the engine's
	Overrides bool          // the request may override it, and its retries, by its fields
	Name      names.Name    // whose budget its retries are taken from
	Attempts  Attempts
}

// Bound says for how long a request waits for its answer, and whether it is sent again.
func (p *Plans) Bound(direction *exchange.Direction, x *exchange.Request, plan *route.Plan, b *Bounds) {
	direction.HeadTimeout = b.Timeout
	var again *route.Retries
	if actions := plan.Does(); actions != nil {
		again = actions.Retries
		if actions.Timeout > 0 {
			direction.HeadTimeout = actions.Timeout
		}
	}
	most := -1
	if b.Overrides {
		p.over.read(x, again != nil)
		if p.over.timeout > 0 {
			direction.HeadTimeout = p.over.timeout
		}
		if p.over.found {
			p.removed = append(append(p.removed[:0], direction.Remove...), OverrideFields...)
			direction.Remove = p.removed
		}
		most = p.over.retries
	}
	if again != nil {
		p.retries.begin(again, most, p.ways.budgets.get(b.Name), p.records.Kit().Now, b.Attempts)
		direction.Retry = &p.retries
	}
}
