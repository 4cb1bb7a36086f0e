package resolve

import (
	"time"

	"golang.org/x/time/rate"
)

// Limit is how fast names may be asked for that a wildcard alone allows: what a workload
// writes into a name reaches whoever answers for the wildcard's domain. It is safe for
// concurrent use.
type Limit struct {
	all  *rate.Limiter // of the workload
	rule *rate.Limiter // of one rule; nil: it sets none of its own
}

// NewLimit returns a limit of a workload.
func NewLimit(perSecond float64, burst int) *Limit {
	return &Limit{all: rate.NewLimiter(rate.Limit(perSecond), burst)}
}

// Of returns the limit of one rule, which is lower: both count.
func (l *Limit) Of(perMinute int) *Limit {
	return &Limit{all: l.all, rule: rate.NewLimiter(perMinuteRate(perMinute), perMinute)}
}

// Set changes what Of was given.
func (l *Limit) Set(perMinute int) {
	l.rule.SetLimit(perMinuteRate(perMinute))
	l.rule.SetBurst(perMinute)
}

// Unused reports whether a rule's limit says no more than a new one would.
func (l *Limit) Unused(now time.Time) bool { return l.rule.TokensAt(now) >= float64(l.rule.Burst()) }

func perMinuteRate(n int) rate.Limit { return rate.Limit(float64(n) / 60) }

// Take takes one name, of both or of none.
func (l *Limit) Take(now time.Time) bool {
	if l.rule == nil {
		return l.all.AllowN(now, 1)
	}
	rule := l.rule.ReserveN(now, 1)
	if rule.OK() && rule.DelayFrom(now) == 0 && l.all.AllowN(now, 1) {
		return true
	}
	rule.CancelAt(now)
	return false
}
