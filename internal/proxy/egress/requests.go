package egress

import (
	"context"
	"net"
	"strconv"
	"unsafe"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// requests directs the HTTP requests of one connection. It remembers from one to the
// next what a steady one need not parse, look up or allocate again.
type requests struct {
	carry.Requests
	way   *Way
	chain policy.Chain
	host  names.LastHost

	last    Decision       // that led to pool
	pool    *upstream.Pool // nil before the first
	made    *pool          // what pool was made for
	granted granted
	set     []exchange.Field // what a request that goes on with its trace outside gets
	removed []string         // and does not keep
}

// granted says what the connection's grant was made from.
type granted struct {
	snapshot *snapshot.Snapshot
	rule     *policy.Rule
	name     names.Name
	request  *requested // nil: none was granted yet
}

func newRequests(c *connection) *requests {
	r := &requests{way: c.way, chain: c.chain}
	r.Init(c.way.kit, c.conn, about(&c.chain, ""))
	return r
}

// Direct implements exchange.Director: the name chain, the verdict, and the pool that
// the verdict leads to.
func (r *requests) Direct(x *exchange.Request) exchange.Direction {
	s := r.Conn().Snapshot()
	r.Open(x, s)
	r.read(x)
	defer r.forget()
	d := decide(s, &r.chain)
	r.Decide(&d.Verdict)
	switch {
	case d.Verdict.Passes():
		return r.follow(&d)
	case r.Asks():
		return r.askLater(x, d)
	}
	return r.Deny(s, &r.chain, &d.Verdict)
}

// askLater keeps the decision until there is an answer. It is apart from Direct so that a
// request that passes allocates nothing.
//
//go:noinline
func (r *requests) askLater(x *exchange.Request, d Decision) exchange.Direction {
	return exchange.Direction{ID: uint64(r.ID()), Later: func(ctx context.Context) exchange.Direction { return r.ask(ctx, x, d) }}
}

// ask asks about a request that was denied, and decides anew where there are other rules
// now.
func (r *requests) ask(ctx context.Context, x *exchange.Request, d Decision) exchange.Direction {
	changed := r.Ask(ctx)
	r.read(x)
	defer r.forget()
	if changed {
		d = decide(r.Conn().Snapshot(), &r.chain)
		r.Under(d.Snapshot)
		r.Decide(&d.Verdict)
	}
	if d.Verdict.Passes() {
		return r.follow(&d)
	}
	return r.DenyNow(ctx, d.Snapshot, &r.chain, &d.Verdict)
}

// follow directs a request that passes.
func (r *requests) follow(d *Decision) exchange.Direction {
	pool, err := r.poolFor(d)
	if err != nil {
		return r.Fail(refusal.Of(err))
	}
	r.hold(d)
	if behind := r.made.behind; behind != "" {
		r.Via(behind, d.Verdict.Rule.ID, record.End{})
	}
	direction := exchange.Direction{Upstream: pool, ID: uint64(r.ID()), AllowUpgrade: true, Explain: r.way.kit.TellAll}
	if rule := d.Verdict.Rule; rule != nil && rule.Propagate {
		r.set = r.AppendTrace(r.set[:0])
		r.removed = r.AppendReplaced(r.removed[:0])
		direction.Set, direction.Remove = r.set, r.removed
	} else {
		direction.Boundary = true
	}
	if r.chain.Host.IsZero() {
		direction.SetHost = authority(&d.Verdict)
	}
	return direction
}

// read brings a request into the chain. What it says are views, which forget takes out.
func (r *requests) read(x *exchange.Request) {
	c := &r.chain
	c.Method, c.Path, c.HTTPS, c.Upgrade, c.Fields = x.Method, x.Path, x.HTTPS, x.Upgrade, x
	c.Host, c.HostBad = names.Host{}, false
	if text := x.Host; text != "" {
		host, err := r.host.Parse(unsafe.Slice(unsafe.StringData(text), len(text))) // a view: Parse keeps none of it
		c.Host, c.HostBad = host, err != nil
	}
}

func (r *requests) forget() {
	r.chain.Method, r.chain.Path, r.chain.HTTPS, r.chain.Upgrade, r.chain.Fields = "", "", false, "", nil
}

// authority is the Host of a request that had none (HTTP/1.0): the name that was
// dialled, as its server knows it (RFC 9110, section 7.2).
func authority(v *policy.Verdict) string {
	host := v.Name.String()
	if v.Name.IsZero() {
		host = v.Addr.String()
	}
	if v.Treatment == policy.Originate && v.Port == 443 || v.Treatment == policy.Forward && v.Port == 80 {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(int(v.Port)))
}

// hold renews the connection's grant where this request is let pass by something else
// than the last one.
func (r *requests) hold(d *Decision) {
	g, v := &r.granted, &d.Verdict
	if g.request != nil && g.snapshot == d.Snapshot && g.request.on == r.pool && g.rule == v.Rule && g.name == v.Name && g.request.chain.HTTPS == r.chain.HTTPS && (len(v.Rule.HTTP) == 0 || g.request.sameRequest(&r.chain)) {
		return
	}
	*g = granted{d.Snapshot, v.Rule, v.Name, &requested{allowed{keep(&r.chain)}, r.pool, r.made}}
	r.Conn().Hold(g.request, d.Snapshot)
}

// sameRequest reports whether the grant is for this very method, path and upgrade.
func (g *allowed) sameRequest(c *policy.Chain) bool {
	return g.chain.Method == c.Method && g.chain.Path == c.Path && g.chain.Upgrade == c.Upgrade
}

// poolFor returns the pool that a decision leads to: the last one where the decision
// says the same. Its snapshot counts too, for the roots are its.
func (r *requests) poolFor(d *Decision) (*upstream.Pool, error) {
	last, v := &r.last.Verdict, &d.Verdict
	if r.pool != nil && r.last.Snapshot == d.Snapshot && last.Rule == v.Rule && last.Name == v.Name && last.Addr == v.Addr && last.Treatment == v.Treatment && !r.pool.Closed() &&
		v.Rule.TLS.ClientCertificate == (policy.ClientCertificate{}) { // one may have been renewed
		return r.pool, nil
	}
	pool, made, err := r.way.pool(d, &r.chain)
	if err != nil {
		return nil, err
	}
	r.last, r.pool, r.made = *d, pool, made
	if now := r.Conn().Snapshot(); now != d.Snapshot {
		r.way.Recheck(now) // it was swapped in before the pool could be asked
	}
	return pool, nil
}
