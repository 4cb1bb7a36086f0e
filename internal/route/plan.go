package route

import "sluice.dev/sluice/internal/names"

// Plan is how one request is carried after it was allowed: where it goes, by
// weights. It never widens a verdict: whoever follows it asks whether the
// destination that was drawn may be reached. Plans are small values; what they
// point to is shared.
type Plan struct {
	Rule string // ID of the rule that made it; "" where none matched

	service names.Name
	targets []Weighted // empty: the service itself
	total   uint64     // of their weights
}

// Draw picks a destination by weight with the random number r. The target's
// Service is never zero. r is taken modulo the total: over 64 random bits the bias
// is below 2^-57.
func (p *Plan) Draw(r uint64) Weighted {
	drawn := Weighted{Weight: 100}
	if p.total > 0 {
		r %= p.total
		for _, drawn = range p.targets {
			if r < uint64(drawn.Weight) {
				break
			}
			r -= uint64(drawn.Weight)
		}
	}
	if drawn.Service.IsZero() {
		drawn.Service = p.service
	}
	return drawn
}
