package resolve

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
)

// Bounds of a dial.
const (
	// ConnectTimeout is the default bound on all attempts to connect together.
	ConnectTimeout = 10 * time.Second
	// AttemptDelay is how long one attempt is ahead of the next (RFC 8305,
	// section 5).
	AttemptDelay = 250 * time.Millisecond
	// MaxAttempts is how many addresses are tried.
	MaxAttempts = 8
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
	Limit *rate.Limiter
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

// Dial resolves t and connects to the first of its addresses that answers.
// Errors are *refusal.Error.
func (d *Dialer) Dial(ctx context.Context, t Target) (*net.TCPConn, error) {
	candidates, err := d.Resolve(ctx, t)
	if err != nil {
		return nil, err
	}
	conn, _, err := d.DialAny(ctx, t, candidates)
	return conn, err
}

// Resolve returns the addresses of t that may be dialled, at most MaxAttempts, in
// the order in which they should be: families in turn, IPv6 first. Whoever must prove an address
// before it is used proves one of these and gives it to DialAddr.
func (d *Dialer) Resolve(ctx context.Context, t Target) ([]netip.AddrPort, error) {
	addrs := []netip.Addr{t.Addr}
	if !t.Name.IsZero() {
		var err error
		if addrs, err = d.resolver.Lookup(ctx, t.Name, t.Limit); err != nil {
			return nil, err
		}
	}
	allowed, reason, refused := t.Consent.Sift(addrs)
	if len(allowed) == 0 {
		e := failed(reason, t.Name, refused, nil)
		if len(refused) > 0 {
			e.Addr = netip.AddrPortFrom(refused[0], t.Port)
		}
		return nil, e
	}
	ordered := interleave(allowed, t.Port)
	return ordered[:min(len(ordered), MaxAttempts)], nil
}

// interleave puts the families in turn (RFC 8305, section 4), each in the order
// in which DNS gave it.
func interleave(addrs []netip.Addr, port uint16) []netip.AddrPort {
	var v6, v4 []netip.Addr
	for _, a := range addrs {
		if a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	ordered := make([]netip.AddrPort, 0, len(addrs))
	for len(v6)+len(v4) > 0 {
		for _, f := range []*[]netip.Addr{&v6, &v4} {
			if len(*f) > 0 {
				ordered = append(ordered, netip.AddrPortFrom((*f)[0], port))
				*f = (*f)[1:]
			}
		}
	}
	return ordered
}

// DialAddr connects to one address of t. It is checked as Resolve checked it:
// what is refused is never given to connect.
func (d *Dialer) DialAddr(ctx context.Context, t Target, to netip.AddrPort) (*net.TCPConn, error) {
	conn, _, err := d.DialAny(ctx, t, []netip.AddrPort{to})
	return conn, err
}

type attempt struct {
	conn *net.TCPConn
	to   netip.AddrPort
	err  error
}

// DialAny connects to the first of the candidates that answers, and says which
// one: they are begun
// AttemptDelay after one another, at once where the one before failed, at most
// MaxAttempts of them.
func (d *Dialer) DialAny(ctx context.Context, t Target, candidates []netip.AddrPort) (*net.TCPConn, netip.AddrPort, error) {
	candidates = candidates[:min(len(candidates), MaxAttempts)]
	if len(candidates) == 0 {
		return nil, netip.AddrPort{}, failed(refusal.NoAddress, t.Name, nil, nil)
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	results := make(chan attempt, len(candidates))
	begun, running := 0, 0
	defer func() {
		cancel()
		for ; running > 0; running-- { // the losers end at once
			if late := <-results; late.conn != nil {
				late.conn.Close()
			}
		}
	}()
	next := time.NewTimer(0)
	defer next.Stop()
	var failures []attempt
	for begun < len(candidates) || running > 0 {
		select {
		case <-next.C:
			if begun == len(candidates) {
				continue
			}
			to := candidates[begun]
			begun++
			running++
			go func() {
				conn, err := d.connect(ctx, t, to)
				results <- attempt{conn, to, err}
			}()
			next.Reset(AttemptDelay)
		case a := <-results:
			running--
			if a.err == nil {
				return a.conn, a.to, nil
			}
			failures = append(failures, a)
			if ctx.Err() != nil {
				begun = len(candidates) // no more
				continue
			}
			next.Reset(0)
		}
	}
	return nil, netip.AddrPort{}, connectError(t, failures)
}

// connect checks and connects. Nothing stands between the check and the socket.
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

// connectError makes one error of all attempts: a denial when all were refused,
// else what happened to the first that was tried.
func connectError(t Target, failures []attempt) error {
	var first, denied *refusal.Error
	addrs := make([]netip.Addr, 0, maxShown)
	for _, f := range failures {
		var own *refusal.Error
		if !errors.As(f.err, &own) {
			own = &refusal.Error{Reason: reasonOf(f.err), Err: f.err}
		}
		switch {
		case own.Denied() && denied == nil:
			denied = own
		case !own.Denied() && first == nil:
			first = own
		}
		if len(addrs) < maxShown {
			addrs = append(addrs, f.to.Addr())
		}
	}
	if first == nil {
		first = denied
	}
	e := failed(first.Reason, t.Name, addrs, first.Err)
	e.Addr = failures[0].to
	return e
}

func reasonOf(err error) refusal.Reason {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return refusal.ConnectRefused
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return refusal.ConnectTimeout
	}
	return refusal.ConnectFailed
}
