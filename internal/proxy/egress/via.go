package egress

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/refusal"
)

// place is where a connection was dialled to: an address, or, behind a proxy, what the
// proxy was asked for.
type place struct {
	address netip.AddrPort // zero where the proxy was asked for a name
	name    names.Name     // that the proxy was asked for
	behind  string         // the proxy; "" for none
}

// String is what a record calls the place.
func (p place) String() string {
	if p.behind != "" {
		return p.behind
	}
	return p.address.String()
}

// judge says why a verdict does not let a connection lead there, "" where it does. Behind
// the proxy nobody here knows the address of a name: a verdict on another name, or one
// that holds for some addresses alone, lets nothing pass.
func (p place) judge(v *policy.Verdict) refusal.Reason {
	switch {
	case p.name.IsZero():
		return v.Consent.Judge(p.address.Addr())
	case v.Name != p.name:
		return refusal.NameMismatch
	case v.Consent.Ranges() != nil:
		return refusal.OutsideCIDR
	}
	return ""
}

// behind returns where a verdict leads through the proxy; ok is false where it leads
// there directly.
func (w *Way) behind(v *policy.Verdict) (to place, ok bool) {
	if w.via == nil || !w.via.Carries(destination(v.Name, v.Addr), v.DialPort()) {
		return place{}, false
	}
	to = place{name: v.Name, behind: w.via.String()}
	if v.Name.IsZero() {
		to.address = netip.AddrPortFrom(v.Addr, v.DialPort())
	}
	return to, true
}

func destination(name names.Name, addr netip.Addr) string {
	if name.IsZero() {
		return addr.String()
	}
	return name.String()
}

// dialBehind is dial by way of the proxy, which is asked for what the verdict names.
func (c *connection) dialBehind(ctx context.Context, d *Decision, seen sniff.Result, to place) (*net.TCPConn, place, error) {
	if toBeProved(&d.Verdict) {
		if err := c.prove(ctx, d, to, seen, nil); err != nil {
			return nil, to, err
		}
	}
	conn, err := c.way.openBehind(ctx, c.way.target(&d.Verdict))
	return conn, to, err
}

// openBehind opens a connection by way of the proxy. An address is judged as without it;
// of a name, which the proxy resolves, no answer can be.
func (w *Way) openBehind(ctx context.Context, t resolve.Target) (*net.TCPConn, error) {
	switch {
	case t.Name.IsZero():
		if err := t.JudgeAddr(); err != nil {
			return nil, err
		}
	case t.Consent.Ranges() != nil:
		return nil, refusal.New(refusal.OutsideCIDR, "only rules on addresses allow this port, and "+w.via.String()+" resolves "+t.Name.String()+": nobody here sees where it leads; name it in a rule")
	case !w.asked.take(t.Name, t.Limit, w.kit.Now()):
		return nil, refusal.New(refusal.TooManyNames, "")
	}
	return w.via.Open(ctx, destination(t.Name, t.Addr), t.Port)
}

// Bounds of the names that the proxy was asked for.
const (
	askedFor = resolve.MaxTTL // how long a name is not new
	maxAsked = 4096           // remembered; past it all are new again
)

// asked is the names that the proxy was asked for lately under a limit on new ones: each
// counts once, as in a resolver's memory. The zero value is ready.
type asked struct {
	mu    sync.Mutex
	until map[names.Name]time.Time
}

func (a *asked) take(n names.Name, limit *resolve.Limit, now time.Time) bool {
	if limit == nil {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Before(a.until[n]) {
		return true
	}
	if !limit.Take(now) {
		return false
	}
	if a.until == nil || len(a.until) >= maxAsked {
		a.until = make(map[names.Name]time.Time)
	}
	a.until[n] = now.Add(askedFor)
	return true
}
