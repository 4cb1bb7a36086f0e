package egress

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/proof"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/sniff"
)

// dial opens the upstream connection of a decision and says to which address: our own
// resolution, and for TLS that is passed through the proof that the address is the
// name's.
func (c *connection) dial(ctx context.Context, d *Decision, seen sniff.Result) (*net.TCPConn, netip.AddrPort, error) {
	dialer := c.way.dialer
	target := c.way.target(&d.Verdict)
	candidates, err := dialer.Resolve(ctx, target)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	// The first address that answers is proved, so that one that is silent costs a
	// moment, not a time-out; where the proof fails the rest get their turn.
	var last error
	for {
		up, reached, err := dialer.DialAny(ctx, target, candidates)
		if err != nil {
			return nil, netip.AddrPort{}, cmp.Or(last, err)
		}
		if !toBeProved(&d.Verdict) {
			return up, reached, nil
		}
		if last = c.prove(ctx, d, reached, seen); last == nil {
			return up, reached, nil
		}
		up.Close()
		candidates = slices.DeleteFunc(candidates, func(a netip.AddrPort) bool { return a == reached })
		if len(candidates) == 0 {
			return nil, netip.AddrPort{}, last
		}
	}
}

// toBeProved reports whether the server must show a certificate of the name or address
// that was decided on: TLS that is passed through, and a hello that may hide another
// name.
func toBeProved(v *policy.Verdict) bool { return v.Treatment == policy.Passthrough || v.ECH }

// prove shows that the server at an address holds a certificate of the name that was
// decided on, or of the address where there was none.
func (c *connection) prove(ctx context.Context, d *Decision, address netip.AddrPort, seen sniff.Result) error {
	w, v := c.way, &d.Verdict
	roots, err := w.roots(d.Snapshot, v.Rule)
	if err != nil {
		return err
	}
	return w.prover.Prove(ctx, proof.Request{
		Key: proof.Key{Name: v.Name, Verify: v.Rule.TLS.ServerName, Addr: address, RootsID: roots.id}, Roots: roots.pool, Hello: seen, Share: w.proofs,
		Dial: func(ctx context.Context) (*net.TCPConn, error) {
			return w.dialer.DialAddr(ctx, w.target(v), address)
		},
	})
}

// target is what a verdict lets us dial. Where no rule spells the name out, the
// workload's rate of new names bounds the look-ups: a wildcard is a channel.
func (w *Way) target(v *policy.Verdict) resolve.Target {
	t := resolve.Target{Name: v.Name, Addr: v.Addr, Port: v.Port, Consent: v.Consent, Limit: w.lookups}
	if v.Rule != nil && v.Rule.SpellsOut(v.Name) {
		t.Limit = nil
	}
	return t
}
