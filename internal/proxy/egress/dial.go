package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/proof"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/sniff"
)

// dial opens the upstream connection of a decision and says where to: our own
// resolution, or the proxy that all leaves through, and for TLS that is passed through the
// proof that the place is the name's. The addresses are raced by the proof's connection, which is closed before
// the workload's own is dialled: a server may serve one at a time.
func (c *connection) dial(ctx context.Context, d *Decision, seen sniff.Result) (*net.TCPConn, place, error) {
	if to, ok := c.way.behind(&d.Verdict); ok {
		return c.dialBehind(ctx, d, seen, to)
	}
	conn, address, err := c.dialAddresses(ctx, d, seen)
	return conn, place{address: address}, err
}

func (c *connection) dialAddresses(ctx context.Context, d *Decision, seen sniff.Result) (*net.TCPConn, netip.AddrPort, error) {
	dialer := c.way.dialer
	target := c.way.target(&d.Verdict)
	if !toBeProved(&d.Verdict) {
		return dialer.Dial(ctx, target)
	}
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	return dialer.Race(ctx, target, func(ctx context.Context, a *resolve.Attempt) (*net.TCPConn, error) {
		if err := c.prove(ctx, d, place{address: a.To}, seen, a); err != nil {
			if errors.Is(err, proof.ErrBusy) {
				giveUp(err) // no other address would come to its turn either
			}
			return nil, err
		}
		a.Connecting()
		return dialer.DialAddr(ctx, target, a.To)
	})
}

// toBeProved reports whether the server must show a certificate of the name or address
// that was decided on: TLS that is passed through, and a hello that may hide another
// name.
func toBeProved(v *policy.Verdict) bool { return v.Treatment == policy.Passthrough || v.ECH }

// prove shows that the server at a place holds a certificate of the name that was
// decided on, or of the address where there was none. The progress may be nil.
func (c *connection) prove(ctx context.Context, d *Decision, at place, seen sniff.Result, progress proof.Progress) error {
	w, v := c.way, &d.Verdict
	roots, err := w.roots(d.Snapshot, v.Rule)
	if err != nil {
		return err
	}
	key := proofOf(v, at, roots)
	begun := w.kit.Now()
	defer func() { c.proved.Store(int64(w.kit.Now().Sub(begun))) }()
	return w.prover.Prove(ctx, proof.Request{
		Key: key, Roots: roots.pool, Hello: seen, Share: w.kit.Upstream.Handshakes, Progress: progress,
		Dial: func(ctx context.Context) (*net.TCPConn, error) {
			if at.behind != "" {
				return w.openBehind(ctx, w.target(v))
			}
			return w.dialer.DialAddr(ctx, w.target(v), at.address)
		},
	})
}

// proofOf is what the server at a place has to prove by a verdict.
func proofOf(v *policy.Verdict, at place, roots roots) proof.Key {
	key := proof.Key{Name: v.Name, Verify: v.Rule.TLS.ServerName, Addr: at.address, RootsID: roots.id}
	if at.behind != "" {
		key.Behind, key.Port = at.behind, v.DialPort()
	}
	return key
}

// target is what a verdict lets us dial. Where no rule spells the name out, the
// workload's rate of new names bounds the look-ups, and the rule's own: a wildcard is a
// channel.
func (w *Way) target(v *policy.Verdict) resolve.Target {
	return resolve.Target{Name: v.Name, Addr: v.Addr, Port: v.DialPort(), Consent: v.Consent, Limit: w.lookups.of(v), Share: w.share, Open: w.kit.Upstream.Open}
}
