// Package follow does with a request what its route plan says beside choosing where it goes:
// answers in place of the destination, faults, CORS, time bounds, retries, what is changed in
// its head. mesh and egress call it with the plan of each request that the verdict lets pass.
// It never decides, picks a destination or dials.
package follow

import (
	"net"
	"strconv"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/route"
)

// Plans follows the plans of the requests of one connection, one after the other, so that a
// steady one allocates nothing. It must not be copied once it is used.
type Plans struct {
	Look route.Look // for whoever plans

	records  *carry.Requests
	ways     *Ways
	out      bool   // of a connection that is not to a service
	services Leader // to services; nil before the first
	hosts    Leader // likewise, outside the mesh
	cors     cors
	over     overrides
	retries  retries
	appended []exchange.Field      // what the request of the moment gets
	removed  []string              // and does not keep
	answer   *exchange.AnswerEdits // of its answer; nil: none
	mirror   mirror
}

// Init says whose requests they are. out says that they leave the mesh: their records name
// the rule that lets them beside the route rule.
func (p *Plans) Init(records *carry.Requests, ways *Ways, out bool) {
	p.records, p.ways, p.out = records, ways, out
}

// Answer is what is changed in the answer of the request that Instead was last asked about;
// nil: nothing.
func (p *Plans) Answer() *exchange.AnswerEdits { return p.answer }

// Asked is what a request is for, as it was before any plan.
type Asked struct {
	Name names.Name
	Port uint16
}

// Authority is the Host of a request that had none (HTTP/1.0).
func (a Asked) Authority() string {
	return net.JoinHostPort(a.Name.String(), strconv.Itoa(int(a.Port)))
}

// Edit changes a request as its plan says. given are the fields that it gets whatever the
// plan says.
func (p *Plans) Edit(direction *exchange.Direction, x *exchange.Request, plan *route.Plan, given []exchange.Field) {
	actions := plan.Does()
	if actions == nil {
		return
	}
	if actions.Rewrite != nil {
		direction.SetTarget, direction.CutTarget = plan.Rewritten(x.Target)
		if actions.Rewrite.Authority != "" {
			direction.SetHost = actions.Rewrite.Authority
		}
	}
	if len(actions.Append) > 0 {
		p.appended = append(p.appended[:0], given...)
		for i := range actions.Append {
			p.appended = append(p.appended, exchange.Field(actions.Append[i]))
		}
		direction.Append = p.appended
	}
}
