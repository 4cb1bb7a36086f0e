package proxy

import (
	"context"
	"net"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// Publish carries the connections of a listener outside to a port inside the sandbox of
// the workload, as bytes, until the listener closes or the workload does. rule is what
// their records name: the wish of whoever started the command.
func (w *Workload) Publish(listener *net.TCPListener, port uint16, rule string) {
	if !w.begin() {
		listener.Close()
		return
	}
	defer w.work.Done()
	defer listener.Close()
	stop := context.AfterFunc(w.ctx, func() { listener.Close() })
	defer stop()
	w.accept(listener, func(down *net.TCPConn) func() {
		about := func() carry.About {
			return carry.About{Direction: record.Ingress, Dialled: w.Instance(), Port: port}
		}
		return w.letIn(down, about, func(ctx context.Context, conn *gate.Conn) { w.comeIn(ctx, conn, port, rule) })
	})
}

// comeIn carries one connection to a port of the sandbox.
func (w *Workload) comeIn(ctx context.Context, conn *gate.Conn, port uint16, rule string) {
	flow := w.kit.Open(conn, w.kit.Now(), carry.About{Direction: record.Ingress, Dialled: w.Instance(), Port: port}, conn.Snapshot().Version)
	defer flow.Close()
	flow.Decide(&policy.Verdict{Action: policy.Allow, Treatment: policy.Relay, Port: port})
	flow.Edit(func(r *record.Record) { r.Rule = rule })
	if err := w.kit.Upstream.Reserve(ctx); err != nil {
		flow.Fail(err)
		gate.Reset(conn.Down())
		return
	}
	defer w.kit.Upstream.Open.Give(1)
	up, err := w.inward(ctx, w.caller, port)
	if err != nil {
		flow.Fail(&refusal.Error{Reason: refusal.ConnectRefused, Text: "nothing listens on that port inside the sandbox", Err: err})
		gate.Reset(conn.Down())
		return
	}
	flow.Relay(ctx, up, nil, func() {})
}
