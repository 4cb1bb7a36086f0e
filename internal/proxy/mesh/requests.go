package mesh

import (
	"net/netip"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/follow"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
)

// Requests routes the HTTP requests of one connection to services, and keeps their
// records. It must not be copied once it is used.
type Requests struct {
	carry.Requests
	// Edge says that the client is none of the mesh's: each request gets a new x-request-id,
	// and overrides nothing. Its Remove must have follow.OverrideFields.
	Edge   bool
	Remove []string         // fields that no request keeps
	Append []exchange.Field // fields that each request gets
	// Beside is what lets the connection live besides the service, for requests that stay in the
	// mesh; nil: nothing. It is set before Route.
	Beside gate.Grant
	// Respelled takes the place of a Host that says the same in another spelling; "": it stays.
	Respelled string
	// Denied answers a request that is denied. It must be set before the first.
	Denied func(s *snapshot.Snapshot, to Target, v policy.Verdict) exchange.Direction
	// Dialled is the address that the connection is to; zero where a client from outside
	// knows none of the mesh.
	Dialled netip.Addr

	way     *Way
	held    names.Name // the service that the connection's grant is for
	beside  gate.Grant // for which it is besides; nil: for nothing
	noted   noted
	id      requestID
	call    call // the request of the moment
	plans   follow.Plans
	key     key              // by which an endpoint is picked
	removed []string         // what it does not keep
	set     []exchange.Field // what it gets in place of what it has
}

// Init says of which connection the requests are.
func (r *Requests) Init(w *Way, conn *gate.Conn, about carry.About) {
	r.way = w
	r.Requests.Init(w.kit, conn, about)
	r.plans.Init(&r.Requests, w.ways, false)
	r.noted = noted{way: w, records: &r.Requests}
}

// Route decides about one request to a service, whose record is open, and follows the
// decision.
func (r *Requests) Route(s *snapshot.Snapshot, x *exchange.Request, to Target) exchange.Direction {
	return r.route(s, x, to, false)
}

// route is Route; delayed says that a fault has held the request up already.
func (r *Requests) route(s *snapshot.Snapshot, x *exchange.Request, to Target, delayed bool) exchange.Direction {
	d := r.way.planned(s, to, route.Request{Method: x.Method, Path: x.Target, Authority: x.Host, HTTPS: x.HTTPS, Fields: x, Look: &r.plans.Look,
		Ends: route.Ends{Source: r.way.caller.V4, Destination: r.Dialled}})
	if x.PriorKnowledge {
		d.Versions = upstream.HTTP2
	}
	r.Decide(&d.Verdict)
	if !d.Verdict.Passes() {
		return r.Denied(s, to, d.Verdict) // by value: d stays on the stack
	}
	if r.held != to.Service || r.Beside != nil && r.beside != r.Beside {
		r.hold(s, to.Service, r.Beside)
	}
	if d.Why == nil {
		if direction, wait, instead := r.plans.Instead(x, &d.Plan, follow.Asked{Name: to.Service, Port: to.Port}, delayed); wait > 0 {
			r.hold(s, to.Service, r.Beside)
			return r.later(x, to, wait)
		} else if instead {
			return direction
		}
	}
	if d.Why == nil {
		chosen := r.plans.Draw(s, x, &d.Plan, to.Port)
		if chosen.Service.IsZero() {
			return r.outside(s, x, d.Plan, chosen, to)
		}
		r.hold(s, to.Service, r.Beside)
		r.key.fields = x
		r.way.pick(&d, &chosen, to.Instance, to.Port, true, &r.key)
	}
	if len(x.Bound) > 0 && to.Instance == "" {
		r.way.stay(&d, to, x.Bound)
	}
	r.call.hold = d.hold // until Done
	if d.Why != nil {
		r.Via("", d.Rule, record.End{})
		return r.Fail(d.Why)
	}
	r.noted.service = to.Service
	if err := r.call.begin(&r.noted, &d, to.Port); err != nil {
		return r.Fail(refusal.Of(err))
	}
	direction := exchange.Direction{
		Upstream: &r.call, ID: uint64(r.ID()), AllowUpgrade: d.Plan.Upgradable(x.Upgrade), Explain: true, Append: r.Append,
		Answer: r.plans.Answer(),
	}
	r.removed = r.AppendReplaced(append(r.removed[:0], r.Remove...))
	direction.Remove = r.removed
	r.set = r.set[:0]
	if r.Edge || r.id.missing(x) {
		r.set = append(r.set, r.id.fresh()...)
	}
	r.set = r.AppendTrace(r.set)
	direction.Set = r.set
	if direction.SetHost = r.Respelled; x.Host == "" { // HTTP/1.0
		direction.SetHost = follow.Asked{Name: to.Service, Port: to.Port}.Authority()
	}
	r.plans.Edit(&direction, x, &d.Plan, r.Append)
	direction.Mirror = r.plans.Mirror(x, &d.Plan, to.Port)
	r.plans.Bound(&direction, x, &d.Plan, &follow.Bounds{Timeout: route.DefaultTimeout, Overrides: !r.Edge, Name: to.Service, Attempts: &r.call})
	return direction
}

// later is apart from route so that a request without a delay allocates nothing.
//
//go:noinline
func (r *Requests) later(x *exchange.Request, to Target, wait time.Duration) exchange.Direction {
	return r.plans.Later(wait, func(s *snapshot.Snapshot) exchange.Direction { return r.route(s, x, to, true) })
}

// Done implements exchange.Director.
func (r *Requests) Done(x *exchange.Request, o exchange.Outcome) {
	r.call.hold.release()
	r.plans.Done()
	r.Requests.Done(x, o)
}

// outside directs a request to a host outside the mesh, which is decided about as if the
// workload had dialled it.
func (r *Requests) outside(s *snapshot.Snapshot, x *exchange.Request, plan route.Plan, chosen route.Destination, to Target) exchange.Direction {
	r.Via("", plan.Rule, record.End{})
	if r.Edge {
		return r.Fail(refusal.New(noEndpoint, plan.Rule+" leads outside the mesh: an ingress does not"))
	}
	r.Routed(plan.Rule)
	led, refused, ok := r.plans.Lead(s, x, plan, chosen, to.Port)
	if !ok {
		return refused
	}
	r.hold(s, to.Service, led.Grant)
	direction := exchange.Direction{
		Upstream: led.Upstream, ID: uint64(r.ID()), AllowUpgrade: plan.Upgradable(x.Upgrade), Explain: r.Kit().TellAll, Remove: r.Remove,
		SetHost: led.SetHost, Answer: r.plans.Answer(),
	}
	r.Trace(&direction, led.Traced)
	r.plans.Edit(&direction, x, &plan, nil)
	direction.Mirror = r.plans.Mirror(x, &plan, to.Port)
	r.plans.Bound(&direction, x, &plan, &follow.Bounds{Timeout: route.DefaultTimeout, Overrides: !r.Edge, Name: chosen.Host, Attempts: led.Attempts})
	return direction
}

// hold renews the connection's grant where it is not for the service, and for what a route
// rule leads to beside.
func (r *Requests) hold(s *snapshot.Snapshot, service names.Name, beside gate.Grant) {
	if r.held == service && r.beside == beside {
		return
	}
	r.held, r.beside = service, beside
	var grant gate.Grant = reachable{service}
	if beside != nil {
		grant = gate.Both(grant, beside)
	}
	r.Conn().Hold(grant, s)
}

// HoldAnew has the next request renew the connection's grant, whatever that is for.
func (r *Requests) HoldAnew() { r.held, r.beside = names.Name{}, nil }

// calls directs the requests of a connection whose workload dialled a service.
type calls struct {
	Requests
	to Target
}

func newCalls(c *connection) *calls {
	return callsOn(c.way, c.conn, c.about, c.to, c.dialled)
}

func callsOn(w *Way, conn *gate.Conn, about carry.About, to Target, dialled netip.Addr) *calls {
	r := &calls{to: to}
	r.Dialled = dialled
	r.Init(w, conn, about)
	r.Denied = r.denied
	return r
}

// Branch implements exchange.Multiplexed.
func (r *calls) Branch() (exchange.Branch, bool) {
	conn, ctx, ok := r.Conn().Branch()
	if !ok {
		return exchange.Branch{}, false
	}
	return exchange.Branch{Context: ctx, Director: callsOn(r.way, conn, r.About(), r.to, r.Dialled), Leave: conn.Leave}, true
}

// Direct implements exchange.Director.
func (r *calls) Direct(x *exchange.Request) exchange.Direction {
	s := r.Conn().Snapshot()
	r.Open(x, s)
	return r.Route(s, x, r.to)
}

func (r *calls) denied(s *snapshot.Snapshot, to Target, v policy.Verdict) exchange.Direction {
	return r.Deny(s, &policy.Chain{Port: to.Port, Dialled: to.Service, Sniffed: policy.HTTP}, &v)
}
