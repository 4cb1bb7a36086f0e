package proxy

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/ingress"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
)

// admit waits until a captured connection is let in, and returns what serves it; nil where
// it was turned away.
func (w *Workload) admit(down *net.TCPConn, destination netip.AddrPort) (serve func()) {
	if capture.Local(destination) { // the proxy's own port was dialled: it is no way out
		gate.Reset(down)
		return nil
	}
	if w.egress.Arrived(down, destination) {
		return nil // it is carried by whoever dialled for it
	}
	return w.letIn(down, func() carry.About { return w.aboutCaptured(destination) }, func(ctx context.Context, conn *gate.Conn) {
		w.serve(ctx, conn, destination)
	})
}

// letIn waits until a connection is let in, and returns what serves it: on the goroutine of
// whoever calls that until it ends or is parked (http1.Life). In the end it is closed. It is
// nil where it was turned away, which has its record.
func (w *Workload) letIn(down *net.TCPConn, about func() carry.About, serve func(context.Context, *gate.Conn)) func() {
	start := w.kit.Now()
	conn, ctx, why := w.gate.Admit(w.ctx, down)
	if why != nil {
		w.kit.TurnedAway(start, about(), w.config.Holder.Load().Version, why)
		return nil
	}
	w.work.Add(1)
	conn.AtEnd(func() {
		down.Close()
		w.work.Done()
	})
	return func() {
		defer conn.Leave()
		serve(ctx, conn)
	}
}

// aboutCaptured is what the record of a captured connection that was not let in says.
func (w *Workload) aboutCaptured(destination netip.AddrPort) carry.About {
	about := carry.About{Direction: record.Egress, Dialled: destination.Addr().String(), Port: destination.Port()}
	if name, synthetic := w.config.Names.Pin(destination.Addr()); synthetic {
		defer w.config.Names.Unpin(destination.Addr())
		about.Dialled = name.String()
		if _, within := w.leads(w.config.Holder.Load(), name, destination); within {
			about.Direction = record.Mesh
		}
	}
	return about
}

// serve says which way a connection goes.
func (w *Workload) serve(ctx context.Context, conn *gate.Conn, destination netip.AddrPort) {
	if destination.Port() == 53 {
		w.dns.ServeTCP(ctx, conn.Down())
		return
	}
	to, within := w.leadsTo(conn, destination)
	w.carry(ctx, conn, to, within, destination)
}

// leadsTo is leads for a connection, which keeps the name of the address until its end.
func (w *Workload) leadsTo(conn *gate.Conn, destination netip.AddrPort) (to way, within bool) {
	var dialled names.Name
	if name, synthetic := w.config.Names.Pin(destination.Addr()); synthetic {
		conn.AtEnd(func() { w.config.Names.Unpin(destination.Addr()) })
		dialled = name
	}
	return w.leads(conn.Snapshot(), dialled, destination)
}

// carry carries a connection the way that it leads.
func (w *Workload) carry(ctx context.Context, conn *gate.Conn, to way, within bool, destination netip.AddrPort) {
	if within {
		w.mesh.Serve(ctx, conn, to.place, destination)
		return
	}
	w.egress.Serve(ctx, conn, to.chain)
}

// way is where a destination leads: to a place within the mesh, or out of it.
type way struct {
	place snapshot.Place
	chain policy.Chain
}

// leads says where a destination leads. name is what a synthetic address stands for, zero
// where the address itself was dialled: that may be one of the cluster, behind which there is
// a service or a Pod of the mesh.
func (w *Workload) leads(s *snapshot.Snapshot, name names.Name, destination netip.AddrPort) (to way, within bool) {
	to.chain = policy.Chain{Source: &w.source, Port: destination.Port()}
	if name.IsZero() {
		to.place, within = s.At(destination)
	} else {
		to.place, within = s.Named(name, destination.Port())
	}
	switch {
	case within:
		address, outside := s.Outside(to.place.Service, destination.Addr().Unmap().Is6())
		if !outside {
			return to, true
		}
		if to.chain.Addr = address; name.IsZero() {
			to.chain.Addr = destination.Addr()
		}
	case name.IsZero():
		to.chain.Addr = destination.Addr()
	default:
		to.chain.Dialled = name
	}
	return to, false
}

// Ingress is what ServeIngress serves: at least one of the listeners is there.
type Ingress struct {
	Plain, TLS   *net.TCPListener
	Routes       []ingress.Route
	Certificates *ingress.Certificates // that are shown by TLS
}

// ServeIngress takes connections from outside the mesh until the listeners close or the
// workload does. Their requests are routed as those of the workload are.
func (w *Workload) ServeIngress(c Ingress) error {
	config := ingress.Config{Kit: &w.kit, Mesh: w.mesh, Routes: c.Routes, Certificates: c.Certificates}
	if c.TLS != nil {
		config.TLSPort = c.TLS.Addr().(*net.TCPAddr).AddrPort().Port()
	}
	way, err := ingress.New(config)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	for _, of := range []struct {
		listener *net.TCPListener
		serve    func(context.Context, *gate.Conn)
	}{{c.Plain, way.Serve}, {c.TLS, way.ServeTLS}} {
		if of.listener == nil {
			continue
		}
		if !w.begin() {
			of.listener.Close()
			continue
		}
		all.Go(func() {
			defer w.work.Done()
			stop := context.AfterFunc(w.ctx, func() { of.listener.Close() })
			defer stop()
			w.accept(of.listener, func(down *net.TCPConn) func() {
				return w.letIn(down, func() carry.About { return aboutEntering(down) }, of.serve)
			})
		})
	}
	all.Wait()
	return nil
}

// aboutEntering is what the record of a connection that came in by an ingress and was not
// let in says.
func aboutEntering(down *net.TCPConn) carry.About {
	about := carry.About{Direction: record.Ingress}
	if at, ok := down.LocalAddr().(*net.TCPAddr); ok {
		about.Dialled, about.Port = at.IP.String(), uint16(at.Port)
	}
	return about
}

// accept hands each connection of a listener to take, one after the other, and runs what
// that returns, the function of letIn, in a goroutine of its own. While take waits, those that come wait with the
// kernel, where they cost no descriptor.
func (w *Workload) accept(listener *net.TCPListener, take func(*net.TCPConn) func()) {
	carry.Accept(w.ctx, listener, w.notAccepted, func(conn *net.TCPConn) {
		if serve := take(conn); serve != nil {
			go serve()
		}
	})
}
