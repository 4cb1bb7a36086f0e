package route

import (
	"strings"
	"time"

	"sluice.dev/sluice/internal/names"
)

// Plan is how one request is carried after it was allowed: where it goes, by
// weights. It never widens a verdict: whoever follows it asks whether the
// destination that was drawn may be reached. Plans are small values; what they
// point to is shared.
type Plan struct {
	Rule string // ID of the rule that made it; "" where none matched

	asked   names.Name // a service or, with outside, a host
	outside bool
	targets []target // empty: what was asked for
	total   uint64   // of their weights
	actions *actions // nil: none

	policy *DestinationPolicy // of the service itself, where no rule matched
}

// Does returns what the rule does beside choosing where the request goes; nil: nothing.
// Nobody may change it.
func (p *Plan) Does() *Actions {
	if p.actions == nil {
		return nil
	}
	return &p.actions.Actions
}

// Delayed reports for how long the request is held up, by the random number r.
func (p *Plan) Delayed(r uint64) time.Duration {
	if p.actions == nil || p.actions.Delay == nil || !p.actions.Delay.Share.takes(r) {
		return 0
	}
	return p.actions.Delay.For
}

// Aborted returns the status that the request is answered with in the service's place, by
// the random number r; 0: it is not.
func (p *Plan) Aborted(r uint64) int {
	if p.actions == nil || p.actions.Abort == nil || !p.actions.Abort.Share.takes(r) {
		return 0
	}
	return p.actions.Abort.Status
}

// Rewritten returns what takes the place of how many bytes of a request's target, path and
// query. cut is 0 where the target stays.
func (p *Plan) Rewritten(target string) (uri string, cut int) {
	if p.actions == nil || p.actions.Rewrite == nil || p.actions.Rewrite.URI == "" || target == "" || target[0] != '/' {
		return "", 0
	}
	if p.actions.prefix > 0 {
		return p.actions.Rewrite.URI, min(p.actions.prefix, len(target))
	}
	path, _, _ := strings.Cut(target, "?")
	return p.actions.Rewrite.URI, len(path)
}

// Upgradable reports whether a request may change to a protocol: to WebSocket where the rule
// says so, to nothing else; to anything where there is no rule.
func (p *Plan) Upgradable(protocol string) bool {
	return p.Rule == "" || p.actions != nil && p.actions.WebSocket && strings.EqualFold(protocol, WebSocket)
}

// WebSocket is the protocol that a rule may let a request change to.
const WebSocket = "websocket"

// Mirrored returns who gets a copy of the request; false where nobody does.
func (p *Plan) Mirrored() (Destination, bool) {
	if p.actions == nil || p.actions.Mirror == nil {
		return Destination{}, false
	}
	return p.actions.mirror, true
}

// Destination is where one request goes: to an endpoint of Service that carries all
// Labels, or to Host, outside the mesh. Exactly one of the two is set.
type Destination struct {
	Service names.Name
	Host    names.Name
	Labels  map[string]string // nobody may change it
	Set     string            // the labels as one text: equal for equal labels, "" for none

	Policy *DestinationPolicy // of calls that are led here; nil: none
}

// Draw picks a destination by weight with the random number r. It is taken modulo
// the total: over 64 random bits the bias is below 2^-57.
func (p *Plan) Draw(r uint64) (to Destination) {
	if p.total > 0 {
		at := 0
		for r %= p.total; r >= p.targets[at].weight; at++ {
			r -= p.targets[at].weight
		}
		to = p.targets[at].to
	} else {
		to.Policy = p.policy
	}
	p.resolve(&to)
	return to
}

// Destinations calls yield with each destination that may be drawn, until it returns
// false.
func (p *Plan) Destinations(yield func(Destination) bool) {
	if p.total == 0 {
		yield(p.Draw(0))
		return
	}
	for i := range p.targets {
		to := p.targets[i].to
		if p.resolve(&to); p.targets[i].weight > 0 && !yield(to) {
			return
		}
	}
}

// Shares are the percents of Destinations, one for each.
func (p *Plan) Shares() (percents []int) {
	if p.total == 0 {
		return []int{100}
	}
	for i := range p.targets {
		if p.targets[i].weight > 0 {
			percents = append(percents, int(p.targets[i].weight*100/p.total))
		}
	}
	return percents
}

// Elsewhere reports whether a destination is another one than was asked for.
func (p *Plan) Elsewhere(to *Destination) bool {
	if p.outside {
		return to.Host != p.asked
	}
	return to.Service != p.asked
}

// resolve fills in what was asked for.
func (p *Plan) resolve(to *Destination) {
	switch {
	case !to.Service.IsZero() || !to.Host.IsZero():
	case p.outside:
		to.Host = p.asked
	default:
		to.Service = p.asked
	}
}
