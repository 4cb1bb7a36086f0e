// Package proof is verified passthrough: before the first byte of a passed-through
// connection goes to an address, a TLS handshake of our own with that address and
// server name has shown a certificate of the name, or of the address where there is no
// name, and the key behind it. Egress asks it once a connection; most answers come from
// its cache. It never carries a workload's bytes and never chooses an address.
package proof

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/refusal"
)

// Defaults and bounds of a Prover.
const (
	DefaultLifetime = 10 * time.Minute // of a proof
	LifetimeBehind  = time.Minute      // of a proof by way of a proxy, which may lead elsewhere each time
	FailureLifetime = 2 * time.Second  // of a failure, so that retries do not storm
	HandshakeTime   = 10 * time.Second // for dial and handshake together
	WaitTime        = 10 * time.Second // for a handshake's turn; then it fails
	MaxProofs       = 4096             // kept; then the one unused for longest is forgotten
	MaxFailures     = 1024             // kept, likewise
	MaxHandshakes   = 256              // at a time, of all workloads, which share them; more wait
)

// Config is a Prover's. The zero Config takes the defaults.
type Config struct {
	Lifetime time.Duration    // of a proof; 0 takes DefaultLifetime
	Now      func() time.Time // nil takes time.Now; certificates are judged by it too
}

// Key is what a proof is about.
type Key struct {
	// Name is the server name, as the workload sends it. It is zero where none was
	// sent, because the destination is an address (RFC 6066 section 3): the
	// certificate must hold that address then, as an iPAddress.
	Name   names.Name
	Verify names.Name // the name that the certificate must hold; zero: Name, or the address
	Addr   netip.AddrPort
	// Behind, where not "", is the proxy by way of which the server is reached, and Port
	// what it is asked for beside the name; Addr is not known then, unless the destination
	// is an address.
	Behind string
	Port   uint16
	// RootsID tells one pool of trusted roots from another: equal IDs mean equal
	// pools.
	RootsID string
}

// Request asks for one proof.
type Request struct {
	Key   Key
	Roots *x509.CertPool // behind Key.RootsID; nil trusts the machine's
	// Dial opens a connection to what Key says. Where several ask for the same proof
	// at a time, only one of them dials.
	Dial func(context.Context) (*net.TCPConn, error)
	// Hello is the workload's own: our handshake offers its ALPN, those of its
	// groups that crypto/tls knows, and TLS 1.3 only if it did. With ECH in it,
	// the proof must show too that the server has no use for ECH.
	Hello sniff.Result
	// Share is how many handshakes the asker may have at a time, so that one which dials
	// servers that never answer does not keep those of the others waiting. Those for whom
	// it is nil have MaxHandshakes together.
	Share *share.Member
	// Progress, where not nil, learns how far the handshake is. The connection is
	// closed when Prove returns.
	Progress Progress
}

// Progress learns how far a handshake is that somebody waits for. What is remembered
// makes none.
type Progress interface {
	Connecting() // it has got its turn and dials
	Connected()  // the server took the connection
}

// Prover proves servers, and remembers. It is safe for concurrent use.
type Prover struct {
	lifetime time.Duration
	wait     time.Duration // WaitTime, but in tests
	now      func() time.Time
	nobody   *share.Member // of handshakes for which no Share was given

	ctx    context.Context // of all handshakes
	cancel context.CancelFunc
	group  sync.WaitGroup

	proved, unproved atomic.Uint64

	mu       sync.Mutex
	proofs   table[proven]
	failures table[attempt]
	flights  map[flightKey]*flight
}

// proven is what a proof holds for.
type proven struct {
	key Key
	ech bool // the server has no use for ECH
}

// attempt is what a failure holds for. What was offered counts: one workload must not be able to spoil the
// connections of another by a hello that no server takes.
type attempt struct {
	proven
	offer string
}

// flightKey is what those who wait together wait for, each Share for itself: nobody's
// handshake waits for the turn of another's.
type flightKey struct {
	attempt
	share *share.Member
}

// flight is one handshake at work and those who wait for it.
type flight struct {
	what    flightKey
	begun   chan struct{} // closed when it has got its turn
	reached chan struct{} // closed when the server took the connection
	done    chan struct{}
	err     error // once done
	waiting int
	cancel  context.CancelCauseFunc
}

// ErrBusy says that a handshake did not get its turn: that is nothing of its server.
var ErrBusy = errors.New("too many servers are being proved")

var (
	errClosed = errors.New("the proxy ends")
	errLeft   = errors.New("nobody waits for the proof any more")
)

// NewProver returns a Prover that has proved nothing. Close it.
func NewProver(c Config) *Prover {
	if c.Lifetime == 0 {
		c.Lifetime = DefaultLifetime
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &Prover{
		lifetime: c.Lifetime,
		wait:     WaitTime,
		now:      c.Now,
		nobody:   share.NewStock(share.Config{Units: MaxHandshakes, Alone: true}).Join(0, nil),
		proofs:   newTable[proven](MaxProofs),
		failures: newTable[attempt](MaxFailures),
		flights:  make(map[flightKey]*flight),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Close ends the handshakes at work and waits for them. Prove fails from then on
// unless it remembers.
func (p *Prover) Close() {
	p.mu.Lock()
	p.cancel()
	p.mu.Unlock()
	p.group.Wait()
}

// Prove returns nil when the server at the request's address has proved, now or
// within the lifetime of a proof, that it holds a certificate for the name. It
// returns *refusal.Error when it has not, and the context's cause when ctx ends first.
// A failure is remembered for FailureLifetime.
func (p *Prover) Prove(ctx context.Context, r Request) error {
	if r.Key.Verify == r.Key.Name {
		r.Key.Verify = names.Name{} // one key for one thing
	}
	if !r.Key.Addr.IsValid() && r.Key.Behind == "" || r.Dial == nil {
		return errors.New("prove: a request without address or dialer")
	}
	want := attempt{proven: proven{key: r.Key, ech: r.Hello.ECH}}
	f, err := p.join(want, r)
	if f == nil {
		return err
	}
	return p.await(ctx, f, r)
}

// Proved reports whether it is remembered that the key holds; with ech, that the server has
// no use for ECH besides. It never asks.
func (p *Prover) Proved(key Key, ech bool) bool {
	if key.Verify == key.Name {
		key.Verify = names.Name{} // as in Prove
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.proofs.get(proven{key, ech}, p.now())
	return ok
}

// await waits for a flight.
func (p *Prover) await(ctx context.Context, f *flight, r Request) error {
	var begun, reached <-chan struct{}
	if r.Progress != nil {
		begun, reached = f.begun, f.reached
	}
	for {
		select {
		case <-f.done:
			return f.err
		case <-reached:
			begun, reached = nil, nil
			r.Progress.Connected()
		case <-begun:
			begun = nil
			r.Progress.Connecting()
		case <-ctx.Done():
			p.leave(f)
			return f.left(r.Key, context.Cause(ctx))
		}
	}
}

// left is the error of who waited too long: a server that took the connection and no
// more is told from one that did not.
func (f *flight) left(key Key, cause error) error {
	if !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	select {
	case <-f.reached:
		return failed(key, refusal.UpstreamTLS, cause)
	default:
		return cause
	}
}

// join looks up what is known; else it returns the flight to wait for, which it
// starts where there is none.
func (p *Prover) join(want attempt, r Request) (*flight, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if _, ok := p.proofs.get(want.proven, now); ok {
		return nil, nil
	}
	want.offer = offerOf(&r.Hello)
	if err, ok := p.failures.get(want, now); ok {
		return nil, err
	}
	if r.Share == nil {
		r.Share = p.nobody
	}
	what := flightKey{want, r.Share}
	if f := p.flights[what]; f != nil {
		f.waiting++
		return f, nil
	}
	return p.takeOff(what, r)
}

// takeOff begins a flight. The caller holds the lock.
func (p *Prover) takeOff(what flightKey, r Request) (*flight, error) {
	if p.ctx.Err() != nil {
		return nil, errClosed
	}
	ctx, cancel := context.WithCancelCause(p.ctx)
	f := &flight{
		what: what, begun: make(chan struct{}), reached: make(chan struct{}), done: make(chan struct{}),
		waiting: 1, cancel: cancel,
	}
	p.flights[what] = f
	p.group.Go(func() { p.fly(ctx, f, r) })
	return f, nil
}

// Stats counts the handshakes of proofs since the start by what came of them.
type Stats struct{ Proved, Failed uint64 }

// Stats returns the counts.
func (p *Prover) Stats() Stats { return Stats{p.proved.Load(), p.unproved.Load()} }

// fly does one handshake and remembers what came of it.
func (p *Prover) fly(ctx context.Context, f *flight, r Request) {
	defer f.cancel(nil)
	expires, err := p.handshake(ctx, f, r)
	switch {
	case err == nil:
		p.proved.Add(1)
	case ctx.Err() == nil: // nobody gave it up
		p.unproved.Add(1)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	switch {
	case err == nil:
		lifetime := p.lifetime
		if f.what.key.Behind != "" {
			lifetime = min(lifetime, LifetimeBehind)
		}
		until := now.Add(lifetime)
		if expires.Before(until) {
			until = expires // a proof does not outlive its certificate
		}
		p.proofs.put(f.what.proven, nil, until)
		if f.what.ech {
			p.proofs.put(proven{key: f.what.key}, nil, until)
		}
	case ctx.Err() == nil && !errors.Is(err, ErrBusy): // it failed; nobody cancelled it
		p.failures.put(f.what.attempt, err, now.Add(FailureLifetime))
	}
	if p.flights[f.what] == f {
		delete(p.flights, f.what)
	}
	f.err = err
	close(f.done)
}

// handshake waits for its turn, then proves. It returns when the certificates
// that it was shown expire.
func (p *Prover) handshake(ctx context.Context, f *flight, r Request) (expires time.Time, err error) {
	h := handshake{request: r, now: p.now, reached: sync.OnceFunc(func() { close(f.reached) })}
	waiting, cancel := context.WithTimeoutCause(ctx, p.wait, h.fail(refusal.Overflow, ErrBusy))
	defer cancel()
	if err := r.Share.Take(waiting); err != nil {
		if errors.Is(err, share.ErrQueue) || errors.Is(err, share.ErrWait) {
			err = h.fail(refusal.Overflow, ErrBusy)
		}
		return time.Time{}, err
	}
	defer r.Share.Give(1)
	close(f.begun)
	limited, cancel := context.WithTimeout(ctx, HandshakeTime)
	defer cancel()
	err = h.prove(limited)
	if err != nil && ctx.Err() != nil {
		return time.Time{}, context.Cause(ctx)
	}
	return h.expires, err
}

// leave is called by who waits no longer. The last one ends the handshake, and
// who comes then begins another.
func (p *Prover) leave(f *flight) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.waiting--; f.waiting > 0 {
		return
	}
	if p.flights[f.what] == f {
		delete(p.flights, f.what)
	}
	f.cancel(errLeft)
}

// offerOf is what of a hello our handshake takes over, in a form to compare.
func offerOf(hello *sniff.Result) string {
	var b strings.Builder
	if offersTLS13(hello) {
		b.WriteByte('3')
	}
	for _, protocol := range hello.ALPN {
		b.WriteByte(byte(len(protocol)))
		b.WriteString(protocol)
	}
	b.WriteByte(0) // no protocol is empty
	for _, group := range groupsOf(hello) {
		b.WriteByte(byte(group >> 8))
		b.WriteByte(byte(group))
	}
	return b.String()
}
