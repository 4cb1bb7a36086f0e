package egress

import (
	"context"
	"net"
	"net/netip"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/loop"
	"sluice.dev/sluice/internal/proxy/rawio"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/record"
)

// looped is a connection that an event loop serves. What it does is what connection.bytes
// does where nothing is to be waited for: TLS is passed through to an address that is known,
// and was proved to be the name's. Everything else is handed over to connection.serve with
// what was read, which decides as if the loop had not been; and nothing is recorded before
// the loop has begun to connect.
type looped struct {
	connection
	ctx    context.Context
	buffer *sniff.Buffer // of the memory for what the client says first
	stop   func() bool   // ends the watching of ctx
	began  bool          // the loop has decided, and what follows is set

	decision Decision
	seen     sniff.Result
	to       netip.AddrPort
	flow     *carry.Flow
	begun    time.Time
}

// Loop has an event loop serve a connection, whose client's end is the descriptor: until
// its end, or until it must be waited for, on a goroutine of its own then. It reports false,
// and has done nothing, where that goroutine is needed at once. It is called on the loop's.
// The connection leaves its gate in the end.
func (w *Way) Loop(ctx context.Context, conn *gate.Conn, chain policy.Chain, l *loop.Loop, fd int) bool {
	if w.via != nil || !w.dialer.Begins() {
		return false
	}
	at := conn.Snapshot().Policy.AtConnect(chain.Transport, chain.Port, chain.Dialled, chain.Addr)
	if at.ServerFirst || !at.Possible || !at.Hello {
		return false
	}
	s := &looped{connection: connection{way: w, conn: conn, chain: chain, start: w.kit.Now()}, ctx: ctx}
	s.buffer = w.kit.Buffers.NewBuffer(w.kit.Hellos)
	handle, err := l.Add(fd, s)
	if err != nil {
		return false
	}
	s.stop = context.AfterFunc(ctx, func() { handle.End(context.Cause(ctx)) })
	return true
}

// Listen implements loop.Served.
func (s *looped) Listen() bool { return s.buffer.Reserve() }

// Decide implements loop.Served.
func (s *looped) Decide(said []byte) (up int, ok bool) {
	seen, need := sniff.Parse(said)
	if need != 0 || seen.Kind != policy.ClientHello || seen.Err != nil {
		return -1, false
	}
	chain := s.chain
	see(&chain, &seen)
	d := decide(s.conn.Snapshot(), &chain)
	to, ok := s.way.proved(&d, seen.ECH)
	if !ok {
		return -1, false
	}
	// Held before it is acted upon, so that rules which withdraw it meanwhile end it before
	// a byte goes out.
	if s.conn.Hold(allowed{chain}, d.Snapshot); s.conn.Ended() != nil {
		return -1, false
	}
	open := s.way.kit.Upstream.Open
	if !open.Try(1) {
		return -1, false
	}
	s.begun = s.way.kit.Now()
	up, err := s.way.dialer.Begin(s.way.target(&d.Verdict), to)
	if err != nil {
		open.Give(1)
		return -1, false
	}
	s.began, s.chain, s.decision, s.seen, s.to = true, chain, d, seen, to
	s.flow = s.open(seen, d.Snapshot)
	s.flow.Decide(&d.Verdict)
	s.conn.Hold(dialled{allowed{chain}, place{address: to}}, d.Snapshot)
	return up, true
}

// proved returns the first address of a decision that is known, may be dialled, and has
// proved itself; ok is false where somebody would have to be asked, or waited for.
func (w *Way) proved(d *Decision, ech bool) (to netip.AddrPort, ok bool) {
	v := &d.Verdict
	if !v.Passes() || v.Treatment != policy.Passthrough || v.Rule == nil || v.IdleTimeout != 0 && v.IdleTimeout < loop.ShortestIdle {
		return to, false
	}
	if d.Snapshot.Routes.PolicyOfHost(v.Name) != nil {
		return to, false // a circuit breaker counts it
	}
	roots, err := w.roots(d.Snapshot, v.Rule)
	if err != nil {
		return to, false
	}
	target := w.target(v)
	for _, address := range w.dialer.Remembered(target) {
		at := place{address: netip.AddrPortFrom(address, target.Port)}
		if w.prover.Proved(proofOf(v, at, roots), ech) {
			return at.address, true
		}
	}
	return to, false
}

// Carried implements loop.Served.
func (s *looped) Carried(by loop.Counts) time.Duration {
	s.buffer.Release()
	s.flow.Dialled(s.begun, 0)
	s.flow.Edit(func(r *record.Record) { r.Upstream = s.to.String() })
	s.flow.Count(by)
	return s.flow.Idle()
}

// Ended implements loop.Served.
func (s *looped) Ended(err error, received int64) {
	s.stop()
	s.buffer.Release()
	if s.began {
		s.flow.Uncount()
		if err != nil {
			s.flow.Broke(err, received)
		}
		s.flow.Close()
		s.way.kit.Upstream.Open.Give(1)
	}
	s.conn.Leave()
}

// HandOver implements loop.Served.
func (s *looped) HandOver(h loop.Handed) {
	s.stop()
	s.buffer.Fill(h.Said) // it has memory: Listen
	go func() {
		defer s.conn.Leave()
		defer s.buffer.Release()
		s.goOn(h)
	}()
}

// goOn carries the connection to its end on a goroutine of its own.
func (s *looped) goOn(h loop.Handed) {
	down, err := rawio.TCP(h.Down)
	if err == nil {
		s.conn.Arrive(down)
	}
	if !s.began {
		if err != nil {
			s.way.kit.TurnedAway(s.start, about(&s.chain, ""), s.conn.Snapshot().Version, carry.NoDescriptor(err))
			return
		}
		s.serve(s.ctx, s.buffer, s.way.kit.Now().Sub(s.start))
		return
	}
	defer s.way.kit.Upstream.Open.Give(1)
	defer s.flow.Close()
	var up *net.TCPConn
	if h.Up >= 0 {
		var upErr error
		if up, upErr = rawio.TCP(h.Up); err == nil {
			err = upErr
		}
	}
	switch {
	case err != nil:
		s.flow.Uncount()
		s.flow.Fail(carry.NoDescriptor(err))
		if down != nil {
			gate.Reset(down)
		}
		if up != nil {
			gate.Reset(up)
		}
	case up != nil:
		s.flow.Resume(s.ctx, up, h.Begun)
	default:
		s.conn.Hold(allowed{s.chain}, s.decision.Snapshot)
		s.flow.Dialled(s.begun, 0) // the time until here counts, though another dial follows
		s.onward(s.ctx, s.flow, &s.decision, s.buffer.Bytes(), s.seen, s.buffer.Release)
	}
}
