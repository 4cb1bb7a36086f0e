package proxy

import (
	"context"
	"net"
	"net/netip"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/ingress"
)

// carry carries one captured connection of the workload to its end, and closes it: it
// says which way the connection goes.
func (w *Workload) carry(down *net.TCPConn, destination netip.AddrPort) {
	defer down.Close()
	if capture.Local(destination) { // the proxy's own port was dialled: it is no way out
		gate.Reset(down)
		return
	}
	conn, ctx, ok := w.gate.Admit(w.ctx, down)
	if !ok {
		return
	}
	defer conn.Leave()
	if destination.Port() == 53 {
		w.dns.ServeTCP(ctx, down)
		return
	}
	chain := policy.Chain{Source: &w.source, Port: destination.Port()}
	if name, synthetic := w.config.Names.Pin(destination.Addr()); synthetic {
		defer w.config.Names.Unpin(destination.Addr())
		if service := conn.Snapshot().Service(name); service != nil {
			w.mesh.Serve(ctx, conn, service, destination.Port())
			return
		}
		chain.Dialled = name
	} else {
		chain.Addr = destination.Addr()
	}
	w.egress.Serve(ctx, conn, chain)
}

// ServeIngress takes connections from outside the mesh until the listener closes or the
// workload does. Its requests are routed as those of the workload are.
func (w *Workload) ServeIngress(listener *net.TCPListener, routes []ingress.Route) error {
	way, err := ingress.New(ingress.Config{Kit: &w.kit, Mesh: w.mesh, Routes: routes})
	if err != nil {
		return err
	}
	if !w.begin() {
		return listener.Close()
	}
	defer w.work.Done()
	stop := context.AfterFunc(w.ctx, func() { listener.Close() })
	defer stop()
	w.accept(listener, func(down *net.TCPConn) { w.enter(way, down) })
	return nil
}

// enter carries one connection that came in by an ingress.
func (w *Workload) enter(way *ingress.Way, down *net.TCPConn) {
	defer down.Close()
	if conn, ctx, ok := w.gate.Admit(w.ctx, down); ok {
		defer conn.Leave()
		way.Serve(ctx, conn)
	}
}

// accept hands each connection of a listener to take, in a goroutine of its own.
func (w *Workload) accept(listener *net.TCPListener, take func(*net.TCPConn)) {
	failed := func(err error) {
		w.warn.Do(func() { w.log.Warn("connections cannot be accepted", "error", err) })
	}
	carry.Accept(w.ctx, listener, failed, func(conn *net.TCPConn) {
		w.work.Go(func() { take(conn) })
	})
}
