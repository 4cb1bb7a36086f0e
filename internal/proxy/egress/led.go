package egress

import (
	"errors"
	"strings"
	"unsafe"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/onward"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/circuit"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/follow"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/route"
)

// led leads the requests of one connection to hosts that route rules name, each decided about
// as if the workload had dialled it: a follow.Leader.
type led struct {
	pooled
	authority names.LastHost // of rewrites
	path      []byte         // likewise
	now       policy.Chain   // of the request of the moment
}

// Leader implements follow.Way.
func (w *Way) Leader(records *carry.Requests) follow.Leader {
	return &led{pooled: pooled{way: w, records: records}}
}

// Lead implements follow.Leader.
func (l *led) Lead(s *snapshot.Snapshot, x *exchange.Request, plan route.Plan, to route.Destination, port uint16) (follow.Led, exchange.Direction, bool) {
	chain, setHost := &l.now, ""
	defer func() { chain.Method, chain.Path, chain.Upgrade, chain.Fields = "", "", "", nil }() // views
	*chain, setHost = l.chain(x, &plan, &to, port)
	d := decide(s, chain)
	l.records.Decide(&d.Verdict)
	if !d.Verdict.Passes() {
		l.records.DeniedWhere(chain, &d.Verdict)
		return follow.Led{}, l.records.Deny(s, chain, &d.Verdict), false
	}
	pool, refused := l.take(&d, chain, versionsOf(&d.Verdict, x.PriorKnowledge))
	if refused != nil {
		return follow.Led{}, l.records.Fail(refused), false
	}
	l.records.Reached(l.made.behind, record.End{})
	if setHost == "" && (plan.Elsewhere(&to) || d.Verdict.Upstream != 0) {
		setHost = l.named(&d.Verdict)
	}
	g, _ := l.grant(&d, chain)
	return follow.Led{Upstream: pool, SetHost: setHost, Attempts: (*again)(&l.pooled), Grant: g, Traced: propagates(&d.Verdict)}, exchange.Direction{}, true
}

// chain is what a request would show if the workload had dialled a destination of its plan.
func (l *led) chain(x *exchange.Request, plan *route.Plan, to *route.Destination, port uint16) (chain policy.Chain, setHost string) {
	r := onward.Request{Target: x.Target, Buffer: &l.path, Asked: policy.Chain{
		Source: l.way.source, Port: port, Method: x.Method, Path: x.Path, HTTPS: x.HTTPS, Upgrade: x.Upgrade, Fields: x,
	}}
	return r.Chain(plan, to, l.parse)
}

func (l *led) parse(authority string) (names.Host, error) {
	return l.authority.Parse(unsafe.Slice(unsafe.StringData(authority), len(authority)))
}

// Done implements follow.Leader.
func (l *led) Done() { l.counted.over() }

// Holds implements follow.Leader.
func (l *led) Holds(s *snapshot.Snapshot, x *exchange.Request, plan route.Plan, to route.Destination, port uint16) bool {
	chain, _ := l.chain(x, &plan, &to, port)
	d := decide(s, &chain)
	if !d.Verdict.Passes() {
		return false
	}
	key, _, _, err := l.way.key(s, &d.Verdict, versionsOf(&d.Verdict, x.PriorKnowledge))
	if err != nil {
		return false
	}
	for _, u := range x.Bound {
		if pool, ok := u.(*upstream.Pool); ok && l.way.pools.Is(key, pool) {
			return true
		}
	}
	return false
}

// Copy implements follow.Leader. Its Host is that of who gets it: another would lead nowhere.
func (l *led) Copy(out exchange.Message, c follow.Copy) {
	s := l.records.Conn().Snapshot()
	path, _, _ := strings.Cut(out.Target(), "?")
	chain := policy.Chain{
		Source: l.way.source, Port: c.Port, Dialled: c.To.Host, Sniffed: policy.HTTP, Host: names.Host{Name: c.To.Host},
		Method: out.Method(), Path: path, HTTPS: c.HTTPS,
	}
	d := decide(s, &chain)
	host := authority(&d.Verdict)
	record := l.records.Copy(s, c.Rule, host)
	record.Decide(&d.Verdict, c.Rule)
	if !d.Verdict.Passes() {
		record.Close(0, nil)
		return
	}
	var under counted
	pool, err := l.copied(&under, &d, &chain, versionsOf(&d.Verdict, c.PriorKnowledge))
	if err != nil {
		record.Close(0, err)
		return
	}
	if now := l.records.Conn().Snapshot(); now != s {
		l.way.Recheck(now) // it was swapped in before the pool could be asked
	}
	l.way.ways.SendCopy(record, func() (exchange.Upstream, error) { return pool, nil }, follow.ForHost(out, host, propagates(&d.Verdict)), under.over)
}

// copied returns the pool of a copy, which is counted until under is over.
func (l *led) copied(under *counted, d *Decision, chain *policy.Chain, spoken upstream.Versions) (*upstream.Pool, error) {
	for {
		pool, made, err := l.way.pool(d, chain, spoken)
		if err != nil {
			return nil, err
		}
		refused := under.count(made.circuit)
		switch {
		case refused == nil:
			return pool, nil
		case !errors.Is(refused, circuit.ErrRetired):
			return nil, refused
		}
	}
}
