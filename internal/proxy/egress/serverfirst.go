package egress

import (
	"cmp"
	"context"
	"net"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/relay"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// early is an upstream connection that was dialled before the client has said anything.
type early struct {
	decision Decision
	flow     *carry.Flow
	up       *net.TCPConn
	at       place
	under    counted
}

// serverFirst dials before the client has said anything, for the server may speak
// first. What the client then says is a link of the chain like any other, and is
// decided about before it goes on. Unless only TLS is looked for, a client that turns out
// to speak HTTP or TLS to a server that said nothing is given back, to be carried like
// one that was never silent: what it says may lead elsewhere.
func (c *connection) serverFirst(ctx context.Context, buffer *sniff.Buffer, limits sniff.Limits) (seen sniff.Result, said []byte, again bool) {
	e := new(early)
	err := c.reach(ctx, e)
	defer e.flow.Close()
	switch {
	case !e.decision.Verdict.Passes():
		c.refuse(ctx, &e.decision.Verdict, sniff.Result{})
		return seen, nil, false
	case err != nil:
		c.fail(e.flow, err)
		return seen, nil, false
	}
	defer c.way.kit.Upstream.Open.Give(1)
	defer e.under.over()
	return c.greet(ctx, e, buffer, limits)
}

// reach decides about a client that has said nothing, and dials. Where it was dialled, a
// unit of the upstream connections is the caller's to give back; the flow is to be closed
// in any case.
func (c *connection) reach(ctx context.Context, e *early) (err error) {
	e.decision = decide(c.conn.Snapshot(), &c.chain)
	d := &e.decision
	e.flow = c.open(sniff.Result{}, d.Snapshot)
	e.flow.Decide(&d.Verdict)
	c.ask(ctx, e.flow, d)
	if !d.Verdict.Passes() {
		return refusal.New(d.Verdict.Reason, "")
	}
	c.conn.Hold(allowed{c.chain}, d.Snapshot)
	if err := e.flow.Reserve(ctx); err != nil {
		return err
	}
	if err := c.count(&e.under, d); err != nil {
		c.way.kit.Upstream.Open.Give(1)
		return err
	}
	begun := c.way.kit.Now()
	e.up, e.at, err = c.dial(ctx, d, sniff.Result{})
	e.flow.Dialled(begun, time.Duration(c.proved.Load()))
	if err != nil {
		e.under.over()
		c.way.kit.Upstream.Open.Give(1)
		return err
	}
	c.conn.Hold(dialled{allowed{c.chain}, e.at}, d.Snapshot)
	e.flow.Edit(func(r *record.Record) { r.Upstream = e.at.String() })
	return nil
}

// greet carries what the server says first, and then what the client does.
func (c *connection) greet(ctx context.Context, e *early, buffer *sniff.Buffer, limits sniff.Limits) (seen sniff.Result, said []byte, again bool) {
	d, flow, up, at := e.decision, e.flow, e.up, e.at
	limits.Silence = cmp.Or(d.Verdict.IdleTimeout, relay.DefaultIdle)
	through := flow.Through(up)
	defer flow.Uncount()
	defer through.Drop()
	seen, said, err := carry.Greet(through, func() (sniff.Result, []byte, error) { return c.sniff(ctx, buffer, limits) })
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
	err = c.count(&e.under, &d) // the client may have named another host than was dialled
	switch {
	case err != nil || !toBeProved(&d.Verdict):
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
