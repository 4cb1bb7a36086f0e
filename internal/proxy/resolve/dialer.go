package resolve

import (
	"context"
	"net"
	"net/netip"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/share"
)

// Target is where an allowed connection goes.
type Target struct {
	// Name is resolved; where it is zero, Addr is dialled.
	Name names.Name
	Addr netip.Addr
	Port uint16
	// Consent judges each address, right before it is given to connect.
	Consent policy.Consent
	// Source is the address to dial from, where its family fits; the zero Addr
	// leaves it to the kernel.
	Source netip.Addr
	// Limit bounds how many names DNS is asked for. The caller sets it to the
	// workload's own where no rule names Name exactly: a wildcard is a channel.
	Limit *Limit
	// Open, where not nil, is the connections that the workload may have open. One of them
	// is the caller's for this dial; each attempt that runs beside another takes one more.
	Open *share.Member
	// Share is the workload's part of the look-ups; nil: the part of those who have none.
	Share *Share
}

// DialerConfig is what a Dialer needs. Sockets and Resolver are required.
type DialerConfig struct {
	Sockets        Sockets
	Resolver       *Resolver
	ConnectTimeout time.Duration // ConnectTimeout where 0
}

// Dialer connects to allowed destinations. It is safe for concurrent use.
type Dialer struct {
	sockets  Sockets
	resolver *Resolver
	timeout  time.Duration
}

// NewDialer makes a Dialer.
func NewDialer(c DialerConfig) *Dialer {
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = ConnectTimeout
	}
	return &Dialer{sockets: c.Sockets, resolver: c.Resolver, timeout: c.ConnectTimeout}
}

// Dial resolves t, connects to the first of its addresses that answers, and says
// which one it is. Errors are *refusal.Error.
func (d *Dialer) Dial(ctx context.Context, t Target) (*net.TCPConn, netip.AddrPort, error) {
	return d.Race(ctx, t, func(ctx context.Context, a *Attempt) (*net.TCPConn, error) {
		a.Connecting()
		return d.connect(ctx, t, a.To)
	})
}

// Race is Dial where more than to connect makes an address good: try is called for
// one address after the other, for several at a time where they are slow, and the
// first connection that it returns is the result.
func (d *Dialer) Race(ctx context.Context, t Target, try Try) (*net.TCPConn, netip.AddrPort, error) {
	known, err := d.candidates(ctx, t)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	return d.race(ctx, t, known, try)
}

// DialAddr connects to one address of t. It is judged as the candidates were: what is
// refused is never given to connect. Errors are *refusal.Error.
func (d *Dialer) DialAddr(ctx context.Context, t Target, to netip.AddrPort) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	conn, err := d.connect(ctx, t, to)
	if err != nil {
		return nil, raceError(t, []failure{{to, err}})
	}
	return conn, nil
}

// candidates is what is known of where a target is.
type candidates struct {
	addrs []netip.Addr // that may be dialled, never none
	late  *flight      // where not nil, brings more of them
}

// candidates resolves a target. It returns as soon as there is an address that may be
// dialled; the other family may come later.
func (d *Dialer) candidates(ctx context.Context, t Target) (candidates, error) {
	if t.Name.IsZero() {
		allowed, err := sift(t, []netip.Addr{t.Addr})
		return candidates{addrs: allowed}, err
	}
	addrs, late, err := d.resolver.begin(ctx, t.Name, t.Share, t.Limit)
	if err != nil {
		return candidates{}, err
	}
	allowed, err := sift(t, addrs)
	if err == nil || late == nil {
		return candidates{allowed, late}, err
	}
	if addrs, err = late.wait(ctx, t.Name); err != nil {
		return candidates{}, err
	}
	allowed, err = sift(t, addrs)
	return candidates{addrs: allowed}, err
}

// sift returns the addresses of a target that may be dialled, at least one.
func sift(t Target, addrs []netip.Addr) ([]netip.Addr, error) {
	allowed, reason, refused := t.Consent.Sift(addrs)
	if len(allowed) > 0 {
		return allowed, nil
	}
	e := failed(reason, t.Name, refused, nil)
	if len(refused) > 0 {
		e.Addr = netip.AddrPortFrom(refused[0], t.Port)
	}
	return nil, e
}

// JudgeAddr says why the address of a target without a name must not be dialled. The error
// is a *refusal.Error.
func (t Target) JudgeAddr() error {
	_, err := sift(t, []netip.Addr{t.Addr})
	return err
}

// connect judges and connects. Nothing stands between the judgement and the socket.
func (d *Dialer) connect(ctx context.Context, t Target, to netip.AddrPort) (*net.TCPConn, error) {
	if reason := t.Consent.Judge(to.Addr()); reason != "" {
		return nil, failed(reason, t.Name, []netip.Addr{to.Addr()}, nil)
	}
	source := t.Source
	if source.Is4() != to.Addr().Is4() {
		source = netip.Addr{}
	}
	return d.sockets.DialTCP(ctx, source, to)
}
