// Package egress is the way out of the mesh: sniff, decide once at connect and once
// for each request, resolve, prove, dial, and carry as the verdict says. The proxy
// calls it with each connection whose destination is no service of the mesh. It never
// dials the address that the workload dialled in place of our own resolution of a
// name, and never decides anew what a verdict said.
package egress

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/circuit"
	"sluice.dev/sluice/internal/proxy/dnsserver"
	"sluice.dev/sluice/internal/proxy/follow"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/pools"
	"sluice.dev/sluice/internal/proxy/proof"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/proxy/tunnel"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/record"
)

// Config is one workload's way out. Kit, Dialer and Prover are required.
type Config struct {
	Kit    *carry.Kit
	Dialer *resolve.Dialer
	Prover *proof.Prover
	// Lookups is the workload's part of the look-ups; nil: of those who have none.
	Lookups *resolve.Share
	// Roots, where not nil, are trusted for upstream certificates where the mesh names
	// none of its own.
	Roots *x509.CertPool
	// Certificates are what rules have us show to servers; nil: none.
	Certificates *Certificates
	// Via, where not nil, is the proxy that connections leave through.
	Via *tunnel.Proxy
	// Ways is the workload's, by which route rules lead to services; nil: they do not.
	Ways *follow.Ways
	// Source is the workload, and Address its own in the mesh, at which route rules look.
	Source  *policy.Source
	Address netip.Addr
}

// Way is the way out of one workload.
type Way struct {
	kit      *carry.Kit
	dialer   *resolve.Dialer
	prover   *proof.Prover
	given    *x509.CertPool
	share    *resolve.Share // of the look-ups
	lookups  newNames       // of names that only a wildcard allows
	services *resolve.Limit // of the services at other names
	trusted  trusted
	shown    *Certificates
	via      *tunnel.Proxy // nil: none
	asked    asked         // of it, under a limit
	pools    pools.Table[poolKey, *pool]
	circuits circuits
	ahead    ahead
	ways     *follow.Ways
	source   *policy.Source
	address  netip.Addr
}

// New returns a way without connections.
func New(c Config) *Way {
	if c.Ways == nil {
		c.Ways = follow.NewWays()
	}
	all := resolve.NewLimit(dnsserver.NewNamesPerSecond, dnsserver.NewNamesBurst)
	return &Way{
		kit: c.Kit, dialer: c.Dialer, prover: c.Prover, given: c.Roots, share: c.Lookups, shown: c.Certificates, via: c.Via, ways: c.Ways, source: c.Source, address: c.Address,
		lookups: newNames{now: c.Kit.Now, all: all}, services: all.Of(ServicesPerMinute),
	}
}

// Recheck closes the pools that a new snapshot has no use for, and what runs on them
// where it is forbidden. Connections are the gate's.
func (w *Way) Recheck(s *snapshot.Snapshot) {
	w.pools.Recheck(func(key poolKey, of *pool) pools.Fate { return w.fateOf(key, of, s) })
}

// LongestIdle returns the pool with the connection that is idle for longest, and for how
// long; nil where none is idle.
func (w *Way) LongestIdle() (*upstream.Pool, time.Duration) { return w.pools.LongestIdle() }

// Close ends what runs on the pools.
func (w *Way) Close() { w.pools.Close() }

// Pools returns how many pools there are, and their connections.
func (w *Way) Pools() (int, upstream.Stats) { return w.pools.Stats() }

// Decision is what becomes of one connection or request, and by which rules.
type Decision struct {
	Verdict  policy.Verdict
	Snapshot *snapshot.Snapshot
}

// decide is the one decision about what the chain shows, by the rules of s.
func decide(s *snapshot.Snapshot, chain *policy.Chain) Decision {
	return Decision{Verdict: gate.Decide(s, chain), Snapshot: s}
}

// connection is one connection on its way out, which is carried as a whole: what was
// seen of its name chain so far.
type connection struct {
	way   *Way
	conn  *gate.Conn
	chain policy.Chain
	start time.Time
	// proved is how long the proof took that the last address was proved by.
	proved atomic.Int64
}

// Serve carries a connection to its end. The chain holds its port, and the name behind
// the address that was dialled, or that address.
func (w *Way) Serve(ctx context.Context, conn *gate.Conn, chain policy.Chain) {
	c := &connection{way: w, conn: conn, chain: chain, start: w.kit.Now()}
	buffer := w.kit.Buffers.NewBuffer(w.kit.Hellos)
	defer buffer.Release()
	c.serve(ctx, buffer, 0)
}

// serve carries the connection to its end, whose client was listened to for so long
// already: what it has said is in the buffer.
func (c *connection) serve(ctx context.Context, buffer *sniff.Buffer, listened time.Duration) {
	chain := &c.chain
	at := c.conn.Snapshot().Policy.AtConnect(chain.Transport, chain.Port, chain.Dialled, chain.Addr)
	if at.ServerFirst {
		c.serverFirst(ctx, buffer, sniff.Limits{OnlyTLS: true})
		return
	}
	silence := max(carry.Silence(at.Possible, chain.Port)-listened, 1)
	seen, prefix, err := c.sniff(ctx, buffer, sniff.Limits{Silence: silence})
	switch {
	case err != nil:
		c.lost(buffer, err)
	case seen.Silent && seen.Ended:
		// The client left before it said anything: there is nothing to tell of.
	case seen.Kind == policy.HTTP:
		c.http(ctx, buffer)
	case seen.Silent && at.Watch:
		seen, prefix, again := c.serverFirst(ctx, buffer, sniff.Limits{})
		switch {
		case again && seen.Kind == policy.ClientHello:
			c.bytes(ctx, prefix, seen, buffer.Release)
		case again:
			c.http(ctx, buffer)
		}
	case seen.Kind == policy.Opaque && seen.Cut && at.Watch:
		c.http(ctx, buffer) // it may become a request yet; what does not is refused
	default:
		c.bytes(ctx, prefix, seen, buffer.Release)
	}
}

// http carries the requests of the connection.
func (c *connection) http(ctx context.Context, said *sniff.Buffer) {
	c.chain.Sniffed = policy.HTTP
	c.way.kit.HTTP.Serve(ctx, c.conn.Down(), said.Take(), newRequests(c), c.conn)
}

// sniff reads what the client says first and brings it into the chain.
func (c *connection) sniff(ctx context.Context, buffer *sniff.Buffer, limits sniff.Limits) (sniff.Result, []byte, error) {
	seen, prefix, err := carry.Sniff(ctx, c.conn, buffer, limits)
	see(&c.chain, &seen)
	return seen, prefix, err
}

// see brings what the client says first into a chain.
func see(chain *policy.Chain, seen *sniff.Result) {
	chain.Sniffed = seen.Kind
	if seen.Kind == policy.ClientHello {
		chain.SNI, chain.SNIBad, chain.ECH = seen.Name, seen.SNIBad, seen.ECH
	}
}

// lost keeps the record of a client that went away amid what it said first, or that
// there was no memory for.
func (c *connection) lost(buffer *sniff.Buffer, err error) {
	if len(buffer.Bytes()) == 0 && !carry.Overflowed(err) {
		return
	}
	flow := c.open(sniff.Result{}, c.conn.Snapshot())
	flow.Broke(err, 0)
	flow.Close()
}

// bytes decides about a connection as a whole and carries its bytes: TLS that is passed
// through, or TCP.
func (c *connection) bytes(ctx context.Context, prefix []byte, seen sniff.Result, release func()) {
	d := decide(c.conn.Snapshot(), &c.chain)
	flow := c.open(seen, d.Snapshot)
	defer flow.Close()
	flow.Decide(&d.Verdict)
	c.ask(ctx, flow, &d)
	if !d.Verdict.Passes() {
		c.refuse(ctx, &d.Verdict, seen)
		return
	}
	c.conn.Hold(allowed{c.chain}, d.Snapshot)
	if err := flow.Reserve(ctx); err != nil {
		c.fail(flow, err)
		return
	}
	defer c.way.kit.Upstream.Open.Give(1)
	var under counted
	defer under.over()
	if err := c.count(&under, &d); err != nil {
		c.fail(flow, err)
		return
	}
	c.onward(ctx, flow, &d, prefix, seen, release)
}

// onward dials and carries what a decision allows.
func (c *connection) onward(ctx context.Context, flow *carry.Flow, d *Decision, prefix []byte, seen sniff.Result, release func()) {
	begun := c.way.kit.Now()
	up, at, err := c.dial(ctx, d, seen)
	flow.Dialled(begun, time.Duration(c.proved.Load()))
	if err != nil {
		c.fail(flow, err)
		return
	}
	c.conn.Hold(dialled{allowed{c.chain}, at}, d.Snapshot)
	flow.Edit(func(r *record.Record) { r.Upstream = at.String() })
	flow.Relay(ctx, up, prefix, release)
}

// count counts a connection that is carried as a whole, where a policy is about its host.
func (c *connection) count(under *counted, d *Decision) error {
	for {
		by, _, err := c.way.circuitOf(d.Snapshot, &d.Verdict)
		if err != nil {
			return err
		}
		refused := under.connect(by)
		switch {
		case refused == nil:
			return nil
		case !errors.Is(refused, circuit.ErrRetired):
			return refused
		}
	}
}

// ask asks about a connection that was denied, and decides anew where there are other
// rules now.
func (c *connection) ask(ctx context.Context, flow *carry.Flow, d *Decision) {
	if d.Verdict.Passes() || !flow.Ask(ctx) {
		return
	}
	*d = decide(c.conn.Snapshot(), &c.chain)
	flow.Edit(func(r *record.Record) { r.Snapshot, r.Detail = d.Snapshot.Version, "" })
	flow.Decide(&d.Verdict)
}

// open opens the record of the connection.
func (c *connection) open(seen sniff.Result, s *snapshot.Snapshot) *carry.Flow {
	flow := c.way.kit.Open(c.conn, c.start, about(&c.chain, seen.SNI), s.Version)
	if seen.Err != nil {
		flow.Edit(func(r *record.Record) { r.Detail = seen.Err.Error() })
	}
	return flow
}

// refuse ends a connection that a verdict denies, at the pace of the workload's denials.
func (c *connection) refuse(ctx context.Context, v *policy.Verdict, seen sniff.Result) {
	c.way.kit.Denials.Wait(ctx)
	if seen.Err != nil {
		sniff.Refuse(c.conn.Down(), seen.Err.Alert())
		return
	}
	carry.HangUp(c.conn, c.chain.Sniffed, v.Reason)
}

// fail ends a connection that was allowed and could not be carried.
func (c *connection) fail(flow *carry.Flow, err error) {
	carry.HangUp(c.conn, c.chain.Sniffed, flow.Fail(err).Reason)
}

// about is what a chain shows of its connection.
func about(chain *policy.Chain, sni string) carry.About {
	dialled := chain.Dialled.String()
	if chain.Dialled.IsZero() {
		dialled = chain.Addr.String()
	}
	return carry.About{Direction: record.Egress, Dialled: dialled, Port: chain.Port, Sniffed: chain.Sniffed, SNI: sni}
}
