package mesh

import (
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/follow"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
)

// led leads the requests of one connection to services, as a route rule of a host outside
// says, and copies of requests as any says: a follow.Leader.
type led struct {
	way   *Way
	noted noted
	call  call
	key   key        // by which an endpoint is picked
	grant gate.Grant // for noted.service; nil before the first
}

// Leader implements follow.Way.
func (w *Way) Leader(records *carry.Requests) follow.Leader {
	return &led{way: w, noted: noted{way: w, records: records, led: true}}
}

// Lead implements follow.Leader.
func (l *led) Lead(s *snapshot.Snapshot, x *exchange.Request, plan route.Plan, to route.Destination, port uint16) (follow.Led, exchange.Direction, bool) {
	records := l.noted.records
	d := Decision{Verdict: gate.DecideService(s, to.Service, port), Snapshot: s, Plan: plan, Rule: plan.Rule}
	records.Decide(&d.Verdict)
	if !d.Verdict.Passes() {
		return follow.Led{}, records.Deny(s, &policy.Chain{Port: port, Dialled: to.Service, Sniffed: policy.HTTP}, &d.Verdict), false
	}
	if served(&d, to.Service, port) {
		if x.PriorKnowledge {
			d.Versions = upstream.HTTP2
		}
		l.key.fields = x
		l.way.pick(&d, &to, "", port, true, &l.key)
	}
	if len(x.Bound) > 0 {
		l.way.stay(&d, Target{Service: to.Service, Port: port}, x.Bound)
	}
	l.call.hold = d.hold // until Done
	if d.Why != nil {
		return follow.Led{}, records.Fail(d.Why), false
	}
	if l.noted.service != to.Service || l.grant == nil {
		l.noted.service, l.grant = to.Service, reachable{to.Service}
	}
	if err := l.call.begin(&l.noted, &d, port); err != nil {
		return follow.Led{}, records.Fail(refusal.Of(err)), false
	}
	return follow.Led{Upstream: &l.call, Attempts: &l.call, Grant: l.grant, Traced: true}, exchange.Direction{}, true
}

// Done implements follow.Leader.
func (l *led) Done() { l.call.hold.release() }

// Holds implements follow.Leader.
func (l *led) Holds(s *snapshot.Snapshot, x *exchange.Request, _ route.Plan, to route.Destination, port uint16) bool {
	versions := versionsOf(spokenOn(s, to.Service, port), x.PriorKnowledge)
	f, _ := l.way.fitting(setKey{to.Service, port, to.Set, ""}, s.Endpoints(to.Service), &to)
	for _, e := range f.fit {
		h := hold{of: f.governed}
		key := keyOf(e, port, versions)
		if key.of, _ = h.pooled(e); l.way.holds(key, x.Bound) {
			return true
		}
	}
	return false
}

// Copy implements follow.Leader.
func (l *led) Copy(out exchange.Message, c follow.Copy) {
	w, records := l.way, l.noted.records
	s := records.Conn().Snapshot()
	host, copied := follow.Shadow(out)
	record := records.Copy(s, c.Rule, host)
	d := Decision{Verdict: gate.DecideService(s, c.To.Service, c.Port), Snapshot: s, Rule: c.Rule}
	record.Decide(&d.Verdict, c.Rule)
	if !d.Verdict.Passes() {
		record.Close(0, nil)
		return
	}
	d.Versions = versionsOf(spokenOn(s, c.To.Service, c.Port), c.PriorKnowledge)
	if w.pick(&d, &c.To, "", c.Port, true, nil); d.Why != nil {
		d.hold.release() // it may be counted, though no endpoint is ready
		record.Close(0, d.Why)
		return
	}
	record.Via(d.Endpoint.Instance, w.ends.of(s, d.Endpoint, c.To.Service))
	of, perConn := d.hold.pooled(nil)
	w.ways.SendCopy(record, func() (exchange.Upstream, error) { return w.pool(d.Endpoint, c.Port, d.Versions, of, perConn) }, copied, d.hold.release)
}
