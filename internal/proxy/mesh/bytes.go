package mesh

import (
	"context"
	"net"
	"time"

	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
)

// bytes relays the connection to an endpoint of the service, and keeps its record.
func (c *connection) bytes(ctx context.Context, said []byte, release func()) {
	flow := c.open()
	defer flow.Close()
	r := c.reach(ctx)
	defer c.end(&r)
	if c.reached(ctx, flow, &r) {
		flow.Relay(ctx, r.up, said, release)
	}
}

// reached is what came of a decision about the connection as a whole.
type reached struct {
	Decision
	up  *net.TCPConn // nil where nobody was reached
	err error        // why, where the verdict passes

	queued, connecting time.Duration
}

// reach decides about the connection as a whole and connects to its endpoint. On a port
// that is http, http2 or grpc now there are requests alone.
func (c *connection) reach(ctx context.Context) (r reached) {
	r.Decision = c.way.decide(c.conn.Snapshot(), c.to, route.Request{Ends: route.Ends{Source: c.way.caller.V4, Destination: c.dialled}})
	if service := r.Snapshot.Service(c.to.Service); service != nil {
		if spoken, _ := service.Find(c.to.Port); spoken.TakesPlainHTTP() && r.Verdict.Passes() {
			r.Verdict = r.Verdict.Denied(refusal.ProtocolMismatch)
			r.hold.release()
		}
	}
	if !r.Verdict.Passes() {
		return r
	}
	c.conn.Hold(reachable{c.to.Service}, r.Snapshot)
	if r.Why != nil {
		r.hold.release()
		r.err = r.Why
		return r
	}
	begun := c.way.kit.Now()
	r.err = c.way.kit.Upstream.Reserve(ctx)
	reserved := c.way.kit.Now()
	if r.queued = reserved.Sub(begun); r.err != nil {
		r.hold.release()
		return r
	}
	r.up, r.err = c.way.connect(ctx, &r.Decision, c.to.Port)
	if r.connecting = c.way.kit.Now().Sub(reserved); r.err != nil {
		r.hold.release()
		c.way.kit.Upstream.Open.Give(1)
	}
	return r
}

// end gives back what reach took, once what it dialled is closed.
func (c *connection) end(r *reached) {
	if r.up != nil {
		r.hold.release()
		c.way.kit.Upstream.Open.Give(1)
	}
}

// reached notes in the record what came of it. It reports false where nobody was
// reached, after it told the client.
func (c *connection) reached(ctx context.Context, flow *carry.Flow, r *reached) bool {
	flow.Decide(&r.Verdict)
	if !r.Verdict.Passes() {
		if r.Verdict.Reason == refusal.ProtocolMismatch {
			flow.Edit(func(to *record.Record) { to.Detail = "the port is http, and the client says something else" })
		}
		c.way.kit.Denials.Wait(ctx)
		carry.HangUp(c.conn, flow.Sniffed(), r.Verdict.Reason)
		return false
	}
	flow.Edit(func(to *record.Record) { to.Rule, to.Queue, to.Connect = r.Rule, r.queued, r.connecting })
	if r.err != nil {
		carry.HangUp(c.conn, flow.Sniffed(), flow.Fail(r.err).Reason)
		return false
	}
	end := c.way.ends.of(r.Snapshot, r.Endpoint, c.to.Service)
	flow.Edit(func(to *record.Record) { to.Upstream, to.Destination = r.Endpoint.Instance, end })
	return true
}
