package mesh

import (
	"net"
	"strconv"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// Requests routes the HTTP requests of one connection to services, and keeps their
// records. It must not be copied once it is used.
type Requests struct {
	carry.Requests
	NewID bool // each request gets a new x-request-id: the client's own is not for the mesh

	way  *Way
	held names.Name // the service that the connection's grant is for
	id   requestID
	call call // the request of the moment
}

// Init says of which connection the requests are.
func (r *Requests) Init(w *Way, conn *gate.Conn, about carry.About) {
	r.way = w
	r.Requests.Init(w.kit, conn, about)
}

// Route decides about one request to a service, whose record is open, and follows the
// decision. What is denied is answered by deny.
func (r *Requests) Route(s *snapshot.Snapshot, x *exchange.Request, to Target, deny func(policy.Verdict) exchange.Direction) exchange.Direction {
	request := route.Request{Method: x.Method, Path: x.Target, Authority: x.Host, Fields: x}
	d := r.way.decide(s, to, request)
	if len(x.Bound) > 0 {
		r.way.stay(&d, to, request, x.Bound)
	}
	r.Decide(&d.Verdict)
	if !d.Verdict.Passes() {
		return deny(d.Verdict) // by value: d stays on the stack
	}
	if r.held != to.Service {
		r.held = to.Service
		r.Conn().Hold(reachable{to.Service}, s)
	}
	if d.Why != nil {
		r.Via("", d.Rule, record.End{})
		return r.Fail(d.Why)
	}
	r.Via(d.Endpoint.Instance, d.Rule, r.endOf(d.Endpoint))
	if err := r.call.begin(r, &d, to.Port); err != nil {
		return r.Fail(refusal.Of(err))
	}
	direction := exchange.Direction{Upstream: &r.call, ID: uint64(r.ID()), AllowUpgrade: true, Explain: true}
	if r.NewID || r.id.missing(x) {
		direction.Set = r.id.fresh()
	}
	if x.Host == "" { // HTTP/1.0
		direction.SetHost = net.JoinHostPort(to.Service.String(), strconv.Itoa(int(to.Port)))
	}
	return direction
}

// endOf is who an endpoint is to the request of the moment.
func (r *Requests) endOf(e *wire.Endpoint) record.End {
	return r.way.ends.of(r.Conn().Snapshot(), e, r.held)
}

// served directs the requests of a connection whose workload dialled a service.
type served struct {
	Requests
	to Target
}

func newServed(w *Way, conn *gate.Conn, about carry.About, to Target) *served {
	r := &served{to: to}
	r.Init(w, conn, about)
	return r
}

// Direct implements exchange.Director.
func (r *served) Direct(x *exchange.Request) exchange.Direction {
	s := r.Conn().Snapshot()
	r.Open(x, s)
	return r.Route(s, x, r.to, func(v policy.Verdict) exchange.Direction {
		return r.Deny(s, &policy.Chain{Port: r.to.Port, Dialled: r.to.Service, Sniffed: policy.HTTP}, &v)
	})
}
