package egress

import (
	"errors"
	"net/netip"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/circuit"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
)

// pooled is where the last request of a connection went, and what let it: what a steady one
// need not look up or allocate again.
type pooled struct {
	way     *Way
	records *carry.Requests

	last    Decision          // that led to pool
	spoken  upstream.Versions // with it
	aliased bool              // the Host of the request of the moment is another name for what was dialled
	pool    *upstream.Pool    // nil before the first
	made    *pool             // what pool was made for
	granted granted
	name    named
	counted counted // the request of the moment
}

// named is what a verdict's destination is called in Host.
type named struct {
	name      names.Name
	addr      netip.Addr
	port      uint16
	treatment policy.Treatment
	text      string
}

// named is authority, put together anew only where the last one was of something else.
func (p *pooled) named(v *policy.Verdict) string {
	if n := &p.name; n.text == "" || n.name != v.Name || n.addr != v.Addr || n.port != v.DialPort() || n.treatment != v.Treatment {
		*n = named{v.Name, v.Addr, v.DialPort(), v.Treatment, authority(v)}
	}
	return p.name.text
}

// granted says what a grant was made from.
type granted struct {
	snapshot *snapshot.Snapshot
	rule     *policy.Rule
	name     names.Name
	request  *requested // nil: none was granted yet
}

// grant returns what lets a request be on the pool that poolFor returned for it; fresh says
// that something else let the last one.
func (p *pooled) grant(d *Decision, chain *policy.Chain) (of *requested, fresh bool) {
	g, v := &p.granted, &d.Verdict
	if g.request != nil && g.snapshot == d.Snapshot && g.request.on == p.pool && g.rule == v.Rule && g.name == v.Name && g.request.sameRequest(v.Rule, chain) {
		return g.request, false
	}
	*g = granted{d.Snapshot, v.Rule, v.Name, &requested{allowed{keep(chain)}, p.pool, p.made}}
	return g.request, true
}

// sameRequest reports whether the grant is for a request that the rule does not tell from
// this one: where it looks at requests, of this very method, path and upgrade.
func (g *allowed) sameRequest(rule *policy.Rule, c *policy.Chain) bool {
	return g.chain.HTTPS == c.HTTPS && (len(rule.HTTP) == 0 || g.chain.Method == c.Method && g.chain.Path == c.Path && g.chain.Upgrade == c.Upgrade)
}

// versionsOf is which versions of HTTP are spoken with the server of a request that passes:
// HTTP/2 where its rule says so. Elsewhere one of HTTP/2 in the clear came by prior knowledge of
// that server, which is asked for it likewise; where TLS is ours to begin, the server chooses.
func versionsOf(v *policy.Verdict, known bool) upstream.Versions {
	switch {
	case v.Protocol.SpeaksHTTP2():
		return upstream.HTTP2
	case !known:
		return upstream.HTTP11
	case v.Treatment == policy.Originate:
		return upstream.Either
	}
	return upstream.HTTP2
}

// take is poolFor, and counts the request that goes on by the pool, until counted.over. Where the
// breaker of the pool was given up in between, there is another.
func (p *pooled) take(d *Decision, chain *policy.Chain, spoken upstream.Versions) (*upstream.Pool, *refusal.Error) {
	for {
		pool, err := p.poolFor(d, chain, spoken)
		if err != nil {
			return nil, refusal.Of(err)
		}
		refused := p.counted.count(p.made.circuit)
		switch {
		case refused == nil:
			return pool, nil
		case !errors.Is(refused, circuit.ErrRetired):
			return nil, refused
		}
	}
}

// poolFor returns the pool that a decision leads to: the last one where the decision
// says the same. Its snapshot counts too, for the roots are its.
func (p *pooled) poolFor(d *Decision, chain *policy.Chain, spoken upstream.Versions) (*upstream.Pool, error) {
	last, v := &p.last.Verdict, &d.Verdict
	if p.pool != nil && p.spoken == spoken && p.last.Snapshot == d.Snapshot && last.Rule == v.Rule && last.Name == v.Name && last.Addr == v.Addr && last.Treatment == v.Treatment && last.Upstream == v.Upstream && !p.pool.Closed() && !p.made.retired() &&
		v.Rule.TLS.ClientCertificate == (policy.ClientCertificate{}) { // one may have been renewed
		return p.pool, nil
	}
	pool, made, err := p.way.pool(d, chain, spoken)
	if err != nil {
		return nil, err
	}
	p.last, p.spoken, p.pool, p.made = *d, spoken, pool, made
	if now := p.records.Conn().Snapshot(); now != d.Snapshot {
		p.way.Recheck(now) // it was swapped in before the pool could be asked
	}
	return pool, nil
}
