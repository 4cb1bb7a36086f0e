package follow

import (
	"math/rand/v2"

	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
)

// Ways is the ways of one workload, by which a route rule of one leads to the other, and
// what they share. Services and Hosts are set before the first connection.
type Ways struct {
	Services, Hosts Way // nil: nothing is led there

	budgets budgets
	copies  copies
}

// NewWays returns Ways without copies under way.
func NewWays() *Ways {
	w := new(Ways)
	w.copies.init()
	return w
}

// Close ends the copies that are under way.
func (w *Ways) Close() { w.copies.close() }

// Way leads requests to what it reaches.
type Way interface {
	// Leader returns what leads the requests of one connection.
	Leader(records *carry.Requests) Leader
}

// Leader leads the requests of one connection to destinations that route rules name. It
// decides about each as if it had been dialled.
type Leader interface {
	// Lead says how a request that its plan sends to a destination gets there, on the port
	// that was dialled. Where ok is false, refused answers it.
	Lead(s *snapshot.Snapshot, x *exchange.Request, plan route.Plan, to route.Destination, port uint16) (led Led, refused exchange.Direction, ok bool)
	// Done says that the request of the moment is over.
	Done()
	// Holds reports whether one of these connections, which are held for the client alone,
	// leads to a destination.
	Holds(s *snapshot.Snapshot, x *exchange.Request, plan route.Plan, to route.Destination, port uint16) bool
	// Copy sends a copy of a request, or records why it does not. It keeps nothing of out,
	// and never waits.
	Copy(out exchange.Message, c Copy)
}

// Led is where a request is led.
type Led struct {
	Upstream exchange.Upstream
	SetHost  string     // its Host there; "": as it is
	Attempts Attempts   // where it is sent again
	Grant    gate.Grant // what lets it be there; equal for as long as it is the same
	Traced   bool       // it goes on with its trace there
}

// leader is who leads to a destination.
func (p *Plans) leader(to *route.Destination) Leader {
	of, way := &p.services, p.ways.Services
	if to.Service.IsZero() {
		of, way = &p.hosts, p.ways.Hosts
	}
	if *of == nil {
		if way == nil {
			*of = nowhere{p.records}
		} else {
			*of = way.Leader(p.records)
		}
	}
	return *of
}

// Lead leads the request of the moment to a destination of its plan.
func (p *Plans) Lead(s *snapshot.Snapshot, x *exchange.Request, plan route.Plan, to route.Destination, port uint16) (led Led, refused exchange.Direction, ok bool) {
	return p.leader(&to).Lead(s, x, plan, to, port)
}

// Done says that the request of the moment is over, wherever it was led.
func (p *Plans) Done() {
	if p.services != nil {
		p.services.Done()
	}
	if p.hosts != nil {
		p.hosts.Done()
	}
}

// Draw picks a destination of a plan: by weight or, where connections are held for the client,
// one that they lead to.
func (p *Plans) Draw(s *snapshot.Snapshot, x *exchange.Request, plan *route.Plan, port uint16) route.Destination {
	if len(x.Bound) > 0 {
		for to := range plan.Destinations {
			if p.leader(&to).Holds(s, x, *plan, to, port) {
				return to
			}
		}
	}
	return plan.Draw(rand.Uint64())
}

// nowhere leads nowhere.
type nowhere struct{ records *carry.Requests }

var errNowhere = refusal.New(refusal.NoHealthyUpstream, "a route rule leads where this workload has no way")

// Lead implements Leader.
func (n nowhere) Lead(*snapshot.Snapshot, *exchange.Request, route.Plan, route.Destination, uint16) (Led, exchange.Direction, bool) {
	return Led{}, n.records.Fail(errNowhere), false
}

// Done implements Leader.
func (n nowhere) Done() {}

// Holds implements Leader.
func (n nowhere) Holds(*snapshot.Snapshot, *exchange.Request, route.Plan, route.Destination, uint16) bool {
	return false
}

// Copy implements Leader.
func (n nowhere) Copy(_ exchange.Message, c Copy) {
	n.records.Copy(n.records.Conn().Snapshot(), c.Rule, "").Close(0, errNowhere)
}
