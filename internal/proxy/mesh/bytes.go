package mesh

import (
	"context"

	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/route"
)

// bytes relays a connection to an endpoint of the service, and closes its record.
func (w *Way) bytes(ctx context.Context, flow *carry.Flow, conn *gate.Conn, to Target, prefix []byte, release func()) {
	defer flow.Close()
	d := w.decide(conn.Snapshot(), to, route.Request{})
	flow.Decide(&d.Verdict)
	if !d.Verdict.Passes() {
		carry.HangUp(conn, flow.Sniffed(), d.Verdict.Reason)
		return
	}
	flow.Edit(func(r *record.Record) { r.Rule = d.Rule })
	conn.Hold(reachable{to.Service}, d.Snapshot)
	if d.Why != nil {
		carry.HangUp(conn, flow.Sniffed(), flow.Fail(d.Why).Reason)
		return
	}
	if err := w.kit.Upstream.Reserve(ctx); err != nil {
		flow.Fail(err)
		gate.Reset(conn.Down())
		return
	}
	defer w.kit.Upstream.Open.Give(1)
	up, err := w.dial(ctx, d.Endpoint, to.Port)
	if err != nil {
		carry.HangUp(conn, flow.Sniffed(), flow.Fail(err).Reason)
		return
	}
	flow.Edit(func(r *record.Record) { r.Upstream = d.Endpoint.Instance })
	flow.Relay(ctx, up, prefix, release)
}
