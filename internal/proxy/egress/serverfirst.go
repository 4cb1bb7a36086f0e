package egress

import (
	"cmp"
	"context"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/relay"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// serverFirst dials before the client has said anything, for the server may speak
// first. What the client then says is a link of the chain like any other, and is
// decided about before it goes on. Unless only TLS is looked for, a client that turns out
// to speak HTTP or TLS to a server that said nothing is given back, to be carried like
// one that was never silent: what it says may lead elsewhere.
func (c *connection) serverFirst(ctx context.Context, buffer *sniff.Buffer, limits sniff.Limits) (seen sniff.Result, said []byte, again bool) {
	d := decide(c.conn.Snapshot(), &c.chain)
	flow := c.open(sniff.Result{}, d.Snapshot)
	defer flow.Close()
	flow.Decide(&d.Verdict)
	if !d.Verdict.Passes() {
		c.refuse(ctx, &d.Verdict, sniff.Result{})
		return seen, nil, false
	}
	c.conn.Hold(allowed{c.chain}, d.Snapshot)
	if err := c.way.kit.Upstream.Reserve(ctx); err != nil {
		c.fail(flow, err)
		return seen, nil, false
	}
	defer c.way.kit.Upstream.Open.Give(1)
	up, at, err := c.dial(ctx, &d, sniff.Result{})
	if err != nil {
		c.fail(flow, err)
		return seen, nil, false
	}
	c.conn.Hold(dialled{allowed{c.chain}, at}, d.Snapshot)
	flow.Edit(func(r *record.Record) { r.Upstream = at.String() })
	limits.Silence = cmp.Or(d.Verdict.IdleTimeout, relay.DefaultIdle)
	through := flow.Through(up)
	defer flow.Uncount()
	defer through.Drop()
	seen, said, err = carry.Greet(through, func() (sniff.Result, []byte, error) { return c.sniff(ctx, buffer, limits) })
	greeting := through.Received()
	flow.Edit(func(r *record.Record) { r.Sniffed, r.SNI = c.chain.Sniffed, record.Text(seen.SNI) })
	if err != nil {
		flow.Broke(err, greeting)
		return seen, nil, false
	}
	isHTTP := seen.Kind == policy.HTTP || seen.Kind == policy.Opaque && seen.Cut
	switch {
	case seen.Silent && !seen.Ended: // nobody would look at what it may say yet
		flow.Broke(relay.ErrIdle, greeting)
		gate.Reset(c.conn.Down())
		return seen, nil, false
	case limits.OnlyTLS:
	case greeting == 0 && (isHTTP || seen.Kind == policy.ClientHello):
		return seen, said, true
	case isHTTP: // a server of HTTP greets nobody
		denied := d.Verdict.Denied(refusal.ProtocolMismatch)
		flow.Decide(&denied)
		c.refuse(ctx, &denied, seen)
		return seen, nil, false
	}
	d = decide(c.conn.Snapshot(), &c.chain)
	if reason := at.judge(&d.Verdict); reason != "" && d.Verdict.Passes() {
		d.Verdict = d.Verdict.Denied(reason) // what the client named must not lead to where it is
	}
	flow.Decide(&d.Verdict)
	if !d.Verdict.Passes() {
		c.refuse(ctx, &d.Verdict, seen)
		return seen, nil, false
	}
	switch {
	case !toBeProved(&d.Verdict):
	case greeting == 0: // no proof is made beside a connection that was not used
		through.Drop()
		if up, at, err = c.dial(ctx, &d, seen); err == nil {
			through = flow.Through(up)
			defer through.Drop()
			flow.Edit(func(r *record.Record) { r.Upstream = at.String() })
		}
	default:
		err = c.prove(ctx, &d, at, seen, nil)
	}
	if err != nil {
		c.fail(flow, err)
		return seen, nil, false
	}
	c.conn.Hold(dialled{allowed{c.chain}, at}, d.Snapshot)
	through.Say(said, buffer.Release)
	flow.Run(ctx, through)
	return seen, nil, false
}
