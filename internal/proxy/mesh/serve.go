package mesh

import (
	"context"
	"net/netip"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/relay"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// LookAfter is how long a client may say nothing on a port of which nobody said what is
// spoken there, until one endpoint is dialled: its server may speak first.
const LookAfter = 100 * time.Millisecond

// connection is one connection of the workload to a service.
type connection struct {
	way   *Way
	conn  *gate.Conn
	to    Target
	about carry.About
	start time.Time

	dialled netip.Addr // that stands for the service
}

// Serve carries a connection to a service, or to one endpoint of it, to its end. The address that was dialled
// decides, and Host passes unchanged. What is spoken on the port says how: on one that
// is http nothing of a server's is carried before the client has asked; on one that is
// tcp everything is; and where nobody said it, what the client says counts.
func (w *Way) Serve(ctx context.Context, conn *gate.Conn, place snapshot.Place, dialled netip.AddrPort) {
	service, port := place.Service, place.Port
	c := &connection{
		way: w, conn: conn, dialled: dialled.Addr().Unmap(), to: Target{service.Name, port, place.Instance}, start: w.kit.Now(),
		about: carry.About{Direction: record.Mesh, Dialled: service.Name.String(), Port: port, Sniffed: policy.Opaque},
	}
	spoken, served := service.Find(port)
	switch {
	case spoken.TakesPlainHTTP():
		if !c.sniffed(ctx, sniff.DefaultSilence) { // bytes are refused: reach
			c.http(ctx, nil)
		}
	case !served || conn.Snapshot().Policy.DeniesAll() != "":
		if !c.sniffed(ctx, carry.DeniedSilence) { // else it was answered in its own protocol
			c.bytes(ctx, nil, nil)
		}
	case spoken == policy.ProtocolTCP:
		c.bytes(ctx, nil, nil)
	default:
		c.unsaid(ctx)
	}
}

// unsaid carries a connection to a port of which nobody said what is spoken there.
func (c *connection) unsaid(ctx context.Context) {
	switch c.way.findings.expect(c.to, c.start) {
	case server:
		c.serverFirst(ctx, false)
	case client:
		if !c.sniffed(ctx, sniff.DefaultSilence) {
			c.serverFirst(ctx, false)
		}
	default:
		if !c.sniffed(ctx, LookAfter) {
			c.serverFirst(ctx, true)
		}
	}
}

// sniffed carries the connection by what its client says first; it reports false where
// that is nothing for so long.
func (c *connection) sniffed(ctx context.Context, silence time.Duration) bool {
	buffer := c.way.kit.Buffers.NewBuffer(c.way.kit.Hellos)
	defer buffer.Release()
	seen, said, err := c.sniff(ctx, buffer, silence)
	switch {
	case err != nil && (len(buffer.Bytes()) > 0 || carry.Overflowed(err)):
		flow := c.open()
		flow.Broke(err, 0)
		flow.Close()
	case err != nil || seen.Silent && seen.Ended:
		// The client left before it said anything: there is nothing to tell of.
	case seen.Kind == policy.HTTP:
		c.http(ctx, buffer.Take())
	case seen.Silent:
		return false
	default:
		c.bytes(ctx, said, buffer.Release)
	}
	return true
}

// sniff reads what the client says first.
func (c *connection) sniff(ctx context.Context, buffer *sniff.Buffer, silence time.Duration) (sniff.Result, []byte, error) {
	seen, said, err := carry.Sniff(ctx, c.conn, buffer, sniff.Limits{Silence: silence})
	c.about.Sniffed, c.about.SNI = seen.Kind, seen.SNI
	return seen, said, err
}

func (c *connection) open() *carry.Flow {
	return c.way.kit.Open(c.conn, c.start, c.about, c.conn.Snapshot().Version)
}

// http carries the requests of the connection.
func (c *connection) http(ctx context.Context, said []byte) {
	c.way.kit.HTTP.Serve(ctx, c.conn.Down(), said, newCalls(c), c.conn)
}

// serverFirst dials one endpoint before the client has said anything, and looks at both
// sides. A server that speaks has its bytes carried, and what the client says then goes
// to it, for it is the one that was asked. Where the client speaks first after all, what
// it says decides, as if nobody had been dialled. Where nobody is reached, one that is
// patient waits for what the client says, to answer in its protocol.
func (c *connection) serverFirst(ctx context.Context, patient bool) {
	asked := c.way.kit.Now()
	r := c.reach(ctx)
	if r.up == nil && patient {
		if !c.sniffed(ctx, sniff.DefaultSilence) {
			c.serverFirst(ctx, false)
		}
		return
	}
	buffer := c.way.kit.Buffers.NewBuffer(c.way.kit.Hellos)
	defer buffer.Release()
	flow := c.open()
	if !c.reached(ctx, flow, &r) {
		flow.Close()
		return
	}
	again := c.bothSides(ctx, flow, flow.Through(r.up), buffer, asked)
	flow.Close()
	c.end(&r)
	if again {
		c.http(ctx, buffer.Take())
	}
}

// bothSides carries a connection whose server may speak first. again says that the client
// spoke HTTP to a server that said nothing: that server gets none of it, for the requests
// may lead elsewhere. asked is when the server was dialled.
func (c *connection) bothSides(ctx context.Context, flow *carry.Flow, through *relay.Relay, buffer *sniff.Buffer, asked time.Time) (again bool) {
	defer flow.Uncount()
	defer through.Drop()
	seen, said, err := carry.Greet(through, func() (sniff.Result, []byte, error) { return c.sniff(ctx, buffer, relay.DefaultIdle) })
	greeted, now := through.Received() > 0, c.way.kit.Now()
	flow.Edit(func(r *record.Record) { r.Sniffed, r.SNI = seen.Kind, record.Text(seen.SNI) })
	switch {
	case err != nil:
		flow.Broke(err, through.Received())
		return false
	case seen.Kind == policy.HTTP && greeted: // a server of HTTP greets nobody
		v := policy.Verdict{Reason: refusal.ProtocolMismatch, Name: c.to.Service, Port: c.to.Port}
		flow.Decide(&v)
		carry.HangUp(c.conn, seen.Kind, v.Reason)
		return false
	case greeted:
		c.way.findings.note(c.to, server, now)
	case !seen.Silent && now.Sub(asked) >= LookAfter: // it had the time to speak
		c.way.findings.note(c.to, client, now)
	}
	switch {
	case seen.Silent && !seen.Ended:
		flow.Broke(relay.ErrIdle, through.Received())
		gate.Reset(c.conn.Down())
		return false
	case seen.Kind == policy.HTTP:
		flow.Edit(func(r *record.Record) { r.Detail = "the client speaks HTTP: its requests are recorded for themselves" })
		return true
	}
	through.Say(said, buffer.Release)
	flow.Run(ctx, through)
	return false
}
