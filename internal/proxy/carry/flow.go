package carry

import (
	"context"
	"errors"
	"net"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/relay"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/telemetry/trace"
)

// Flow is the record of one connection that is carried as a whole. It is open from
// Open to Close.
type Flow struct {
	entry record.Entry
	kit   *Kit
	conn  *gate.Conn
	about About
	idle  time.Duration // that the last verdict gives it
}

// About is what is known of a connection before a verdict.
type About struct {
	Direction record.Direction
	Dialled   string // the name behind the address that was dialled, or that address
	Port      uint16
	Sniffed   policy.Sniffed
	SNI       string
}

// Open opens the record of a connection.
func (k *Kit) Open(c *gate.Conn, start time.Time, about About, snapshot string) *Flow {
	f := &Flow{kit: k, conn: c, about: about}
	f.entry.Edit(func(r *record.Record) {
		*r = record.Record{
			ID: record.NewID(), Start: start, Workload: k.Instance(), Source: k.Source, Direction: about.Direction, Dialled: about.Dialled,
			Port: about.Port, Sniffed: about.Sniffed, SNI: record.Text(about.SNI), Snapshot: snapshot,
		}
	})
	if of := &c.Snapshot().Telemetry; of.Tracing {
		f.entry.Edit(func(r *record.Record) { r.Context = trace.Begin(of.Sampling) })
	}
	k.Recorder.Open(&f.entry)
	return f
}

// TurnedAway keeps the record of a connection that was not let in.
func (k *Kit) TurnedAway(start time.Time, about About, snapshot string, why *refusal.Error) {
	k.keep(start, about, snapshot, func(r *record.Record) { r.Fail(why) })
}

// Refused keeps the record of a connection that a verdict denied before it was there.
func (k *Kit) Refused(start time.Time, about About, snapshot string, v *policy.Verdict) {
	k.keep(start, about, snapshot, func(r *record.Record) { r.Decide(v); k.explain(r, v) })
}

func (k *Kit) keep(start time.Time, about About, snapshot string, note func(*record.Record)) {
	var entry record.Entry
	entry.Edit(func(r *record.Record) {
		*r = record.Record{
			ID: record.NewID(), Start: start, Duration: k.Now().Sub(start), Workload: k.Instance(), Source: k.Source, Direction: about.Direction,
			Dialled: about.Dialled, Port: about.Port, Sniffed: about.Sniffed, Snapshot: snapshot,
		}
		note(r)
	})
	k.Recorder.Open(&entry)
	k.Recorder.Close(&entry)
}

// Sniffed is what the connection turned out to be.
func (f *Flow) Sniffed() policy.Sniffed { return f.about.Sniffed }

// Edit changes the record.
func (f *Flow) Edit(change func(r *record.Record)) { f.entry.Edit(change) }

// Decide notes a verdict.
func (f *Flow) Decide(v *policy.Verdict) {
	f.idle = v.IdleTimeout
	f.entry.Edit(func(r *record.Record) { r.Decide(v); f.kit.explain(r, v) })
}

// Ask asks about a connection that was denied, and reports whether it is to be decided
// anew.
func (f *Flow) Ask(ctx context.Context) bool {
	return f.kit.Ask != nil && f.kit.ask(ctx, &f.entry)
}

// Reserve takes one of the connections that may be open on behalf of the workload, as
// upstream.Allowance does, and notes how long it waited for it.
func (f *Flow) Reserve(ctx context.Context) error {
	begun := f.kit.Now()
	err := f.kit.Upstream.Reserve(ctx)
	waited := f.kit.Now().Sub(begun)
	f.entry.Edit(func(r *record.Record) { r.Queue += waited })
	return err
}

// Dialled notes how long it took to connect since begun; for so long of it the server was
// proved.
func (f *Flow) Dialled(begun time.Time, proved time.Duration) {
	took := f.kit.Now().Sub(begun)
	proved = min(proved, took)
	f.entry.Edit(func(r *record.Record) { r.Connect += took - proved; r.TLS += proved })
}

// Fail notes why what was allowed did not come about, and returns it: where the gate
// ended the connection, what its end looked like from below says nothing.
func (f *Flow) Fail(err error) *refusal.Error {
	why := refusal.Of(err)
	if ended := f.conn.Ended(); ended != nil {
		why = ended
	}
	f.entry.Edit(func(r *record.Record) { r.Fail(why) })
	return why
}

// Close closes the record. What was withdrawn meanwhile counts before all that came of
// it.
func (f *Flow) Close() {
	now := f.kit.Now()
	f.entry.Edit(func(r *record.Record) {
		r.Duration = now.Sub(r.Start)
		if withdrawn := f.conn.Withdrawn(); withdrawn != nil && r.Verdict != record.Denied {
			r.Fail(withdrawn)
		}
	})
	f.kit.Recorder.Close(&f.entry)
}

// Relay carries bytes until both sides have ended, and accounts for them. prefix is
// what the client sent already, before release is called.
func (f *Flow) Relay(ctx context.Context, up *net.TCPConn, prefix []byte, release func()) {
	carried := f.Through(up)
	carried.Say(prefix, release)
	f.Run(ctx, carried)
}

// Through returns a relay to an upstream whose bytes count for the record. It must be
// given to Run, or dropped and Uncounted.
func (f *Flow) Through(up *net.TCPConn) *relay.Relay {
	return f.through(up, [2]relay.Begun{})
}

func (f *Flow) through(up *net.TCPConn, begun [2]relay.Begun) *relay.Relay {
	carried := relay.New(relay.Config{Down: f.conn.Down(), Up: up, Memory: f.kit.Memory, Pipes: f.kit.Pipes, Begun: begun})
	f.Count(carried)
	return carried
}

// Count accounts for the bytes that somebody carries, in place of all that were carried
// before.
func (f *Flow) Count(m record.Moving) {
	f.Uncount()
	f.entry.Edit(func(r *record.Record) { r.Sent, r.Received = 0, 0 })
	f.entry.Count(m)
}

// Resume carries on what somebody else, who counts no more, has carried so far.
func (f *Flow) Resume(ctx context.Context, up *net.TCPConn, begun [2]relay.Begun) {
	f.Run(ctx, f.through(up, begun))
}

// Idle is how long nothing may move by the last verdict; 0: relay.DefaultIdle.
func (f *Flow) Idle() time.Duration { return f.idle }

// Run runs a relay of Through to its end, within the bound on idleness of the last
// verdict.
func (f *Flow) Run(ctx context.Context, carried *relay.Relay) {
	carried.SetIdle(f.idle)
	result := carried.Run(ctx)
	f.Uncount()
	if result.Err != nil {
		f.Broke(result.Err, result.Received)
	}
}

// Uncount takes what a relay has carried so far for all that it ever will.
func (f *Flow) Uncount() { f.entry.Count(nil) }

// Broke notes that the connection ended with an error after the client had received so
// many bytes. An error that is not a relay's is the client's own. Not each is a failure:
// many ends of connections that were used to the end are resets, for whoever has closed
// its socket already is sent one thing more (the close_notify of TLS).
func (f *Flow) Broke(err error, received int64) {
	reason := refusal.ClientGone
	var side *relay.SideError
	var own *refusal.Error
	switch {
	case errors.As(err, &own):
		f.Fail(own)
		return
	case errors.Is(err, relay.ErrIdle):
		f.Fail(&refusal.Error{Reason: refusal.UpstreamTimeout, Err: err})
		return
	case errors.As(err, &side) && side.Side == relay.Upstream:
		reason = refusal.UpstreamReset
		if side.Op == "read" {
			received = 0 // the server had more to say, for all that is known
		}
	}
	if received == 0 {
		f.Fail(&refusal.Error{Reason: reason, Err: err})
		return
	}
	f.entry.Edit(func(r *record.Record) { r.Detail = record.Text(err.Error()) })
}
