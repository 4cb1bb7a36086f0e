package proxy

import (
	"context"
	"net"
	"net/netip"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/mesh"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// inboundRule is what the records of connections to a Pod name.
const inboundRule = "sidecar"

// ServeInbound carries what is sent to the Pod of a sidecar to the application, as bytes,
// until the listener closes or the workload does. The application sees an address of its own
// Pod as its client.
func (w *Workload) ServeInbound(listener *net.TCPListener) {
	if !w.begin() {
		listener.Close()
		return
	}
	defer w.work.Done()
	defer listener.Close()
	stop := context.AfterFunc(w.ctx, func() { listener.Close() })
	defer stop()
	w.accept(listener, func(down *net.TCPConn) func() {
		destination := w.config.Capture.Destination(down)
		if port := destination.Port(); !destination.IsValid() || destination.Addr().IsLoopback() || port == capture.PodInboundPort || port == capture.PodOutboundPort {
			gate.Reset(down) // the sidecar's own port was dialled: it would dial itself
			return nil
		}
		about := func() carry.About {
			return carry.About{Direction: record.Ingress, Dialled: w.Instance(), Port: destination.Port()}
		}
		return w.letIn(down, about, func(ctx context.Context, conn *gate.Conn) { w.comeInto(ctx, conn, destination, about()) })
	})
}

// comeInto carries one connection to where it was sent.
func (w *Workload) comeInto(ctx context.Context, conn *gate.Conn, destination netip.AddrPort, about carry.About) {
	flow := w.kit.Open(conn, w.kit.Now(), about, conn.Snapshot().Version)
	defer flow.Close()
	flow.Decide(&policy.Verdict{Action: policy.Allow, Treatment: policy.Relay, Port: destination.Port()})
	flow.Edit(func(r *record.Record) { r.Rule = inboundRule })
	if err := w.kit.Upstream.Reserve(ctx); err != nil {
		flow.Fail(err)
		gate.Reset(conn.Down())
		return
	}
	defer w.kit.Upstream.Open.Give(1)
	up, err := capture.Host{}.DialTCP(ctx, netip.Addr{}, destination)
	if err != nil {
		flow.Fail(&refusal.Error{Reason: refusal.ConnectRefused, Text: "nothing listens on that port in the Pod", Err: err})
		gate.Reset(conn.Down())
		return
	}
	flow.Relay(ctx, up, nil, func() {})
}

// IntoPod is the way to a port of the application for the sidecar beside it.
func IntoPod(ctx context.Context, _ mesh.Caller, port uint16) (*net.TCPConn, error) {
	conn, err := capture.Host{}.DialTCP(ctx, netip.Addr{}, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port))
	if err == nil {
		return conn, nil
	}
	if six, other := (capture.Host{}).DialTCP(ctx, netip.Addr{}, netip.AddrPortFrom(netip.IPv6Loopback(), port)); other == nil {
		return six, nil
	}
	return nil, err
}
