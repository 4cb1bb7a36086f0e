package proxy

import (
	"net/netip"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/loop"
	"sluice.dev/sluice/internal/proxy/rawio"
)

// acceptLooped has an event loop accept what is captured, and serve of it what it can. It
// reports false where none can be made: then each listener has its goroutine.
func (w *Workload) acceptLooped() bool {
	captured := w.config.Capture
	l, err := loop.Open(loop.Config{
		Listeners: captured.TCP,
		Arrived: func(l *loop.Loop, listener, fd int) bool {
			return w.arrived(l, fd, captured.DestinationOf(fd), func() { l.Resume(listener) })
		},
		Failed: w.notAccepted,
	})
	if err != nil {
		w.log.Warn("connections are accepted without an event loop, which costs more for each", "error", err)
		return false
	}
	w.loop = l
	return true
}

// arrived takes a connection that was accepted by the loop, on whose goroutine it is. False
// says that those behind it wait with the kernel, where they cost no descriptor, until
// resume is called: when it is let in, or turned away.
func (w *Workload) arrived(l *loop.Loop, fd int, destination netip.AddrPort, resume func()) bool {
	if !w.begin() {
		rawio.Reset(fd)
		return true
	}
	if capture.Local(destination) || w.egress.Expecting() {
		go w.arrivedAlone(fd, destination, resume)
		return false
	}
	conn, ctx, ok := w.gate.AdmitAhead(w.ctx)
	if !ok {
		go w.arrivedAlone(fd, destination, resume)
		return false
	}
	conn.AtEnd(func() {
		if down := conn.Down(); down != nil {
			down.Close()
		}
		w.work.Done()
	})
	if destination.Port() == 53 {
		go w.arrivedFor(conn, fd, destination, func() { w.dns.ServeTCP(ctx, conn.Down()) })
		return true
	}
	to, within := w.leadsTo(conn, destination)
	if within || !w.egress.Loop(ctx, conn, to.chain, l, fd) {
		go w.arrivedFor(conn, fd, destination, func() { w.carry(ctx, conn, to, within, destination) })
	}
	return true
}

// arrivedFor carries a connection, which was let in, on a goroutine of its own.
func (w *Workload) arrivedFor(conn *gate.Conn, fd int, destination netip.AddrPort, serve func()) {
	defer conn.Leave()
	down, err := rawio.TCP(fd)
	if err != nil {
		w.kit.TurnedAway(w.kit.Now(), w.aboutCaptured(destination), w.config.Holder.Load().Version, carry.NoDescriptor(err))
		return
	}
	conn.Arrive(down)
	serve()
}

// arrivedAlone takes a connection as who has a goroutine for its listener does.
func (w *Workload) arrivedAlone(fd int, destination netip.AddrPort, resume func()) {
	defer w.work.Done()
	var serve func()
	down, err := rawio.TCP(fd)
	if err == nil {
		serve = w.admit(down, destination)
	} else {
		w.kit.TurnedAway(w.kit.Now(), w.aboutCaptured(destination), w.config.Holder.Load().Version, carry.NoDescriptor(err))
	}
	resume()
	if serve != nil {
		serve()
	}
}

// notAccepted says that connections cannot be accepted.
func (w *Workload) notAccepted(err error) {
	w.warn.Do(func() { w.log.Warn("connections cannot be accepted", "error", err) })
}
