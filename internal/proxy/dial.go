package proxy

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/proof"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/sniff"
)

// dial opens the upstream connection of a verdict: our own resolution, and for
// TLS that is passed through the proof that the address is the name's.
func (c *connection) dial(ctx context.Context, v policy.Verdict, seen sniff.Result) (*net.TCPConn, error) {
	p := c.workload.proxy
	target := c.workload.target(v)
	if v.Name.IsZero() || v.Treatment != policy.Passthrough && !v.ECH {
		return p.dialer.Dial(ctx, target)
	}
	candidates, err := p.dialer.Resolve(ctx, target)
	if err != nil {
		return nil, err
	}
	// The first address that answers is proved, so that one that is silent costs a
	// moment, not a time-out; where the proof fails the rest get their turn.
	var last error
	for len(candidates) > 0 {
		up, reached, err := p.dialer.DialAny(ctx, target, candidates)
		if err != nil {
			return nil, cmp.Or(last, err)
		}
		if last = c.prove(ctx, v, reached, seen); last == nil {
			return up, nil
		}
		up.Close()
		candidates = slices.DeleteFunc(candidates, func(a netip.AddrPort) bool { return a == reached })
	}
	return nil, last
}

// prove shows that the server at an address holds a certificate of the name.
func (c *connection) prove(ctx context.Context, v policy.Verdict, address netip.AddrPort, seen sniff.Result) error {
	p := c.workload.proxy
	roots, id, err := c.workload.roots(c.snapshot, v.Rule)
	if err != nil {
		return err
	}
	return p.prover.Prove(ctx, proof.Request{
		Key: proof.Key{Name: v.Name, Verify: v.Rule.TLS.ServerName, Addr: address, RootsID: id}, Roots: roots, Hello: seen,
		Dial: func(ctx context.Context) (*net.TCPConn, error) {
			return p.dialer.DialAddr(ctx, c.workload.target(v), address)
		},
	})
}

// target is what a verdict lets us dial. Where no rule spells the name out, the
// workload's rate of new names bounds the look-ups: a wildcard is a channel.
func (w *Workload) target(v policy.Verdict) resolve.Target {
	t := resolve.Target{Name: v.Name, Addr: v.Addr, Port: v.Port, Within: v.Within, Limit: w.lookups}
	if v.Rule != nil {
		t.Private = v.Rule.PrivateAnswers
		if slices.ContainsFunc(v.Rule.Hosts, func(p names.Pattern) bool { n, ok := p.Exact(); return ok && n == v.Name }) {
			t.Limit = nil
		}
	}
	return t
}
