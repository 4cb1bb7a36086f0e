// Package upstream keeps HTTP/1.1 and HTTP/2 connections to one upstream: dialled, proved by
// TLS where the rule says so, and used again. An engine takes one for each
// exchange. It must never share a pool between names, identities or client certificates,
// and never decides where a connection may go: that is the caller's Dial.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/share"
)

// Defaults and bounds of Config.
const (
	DefaultMaxIdle          = 256
	DefaultIdleTimeout      = 60 * time.Second
	DefaultConnectTimeout   = 10 * time.Second
	DefaultHandshakeTimeout = 10 * time.Second
)

// Allowance is what all pools of one workload may use together.
type Allowance struct {
	// Open is connections, idle or busy or being dialled. Where there is none left, who
	// needs one waits for it as long as the member's SetWait says: for an idle one of the
	// same pool, or for one that ends. An idle one of another pool is closed.
	Open *share.Member
	// Handshakes is TLS handshakes at a time.
	Handshakes *share.Member
	// Shaken is called after each of these, with what came of it; nil: nobody is.
	Shaken func(err error)
	// Sessions is where connections of HTTP/2 are ended with the workload; nil: nowhere.
	Sessions *Sessions
}

// Reserve takes one of the connections for what is carried outside of a pool, and waits
// for it as a pool does. It is given back with Open.Give(1).
func (a Allowance) Reserve(ctx context.Context) error {
	if err := a.Open.Take(ctx); err != nil {
		return overflow("upstream connections", err)
	}
	return nil
}

// Config says where a pool leads. Dial and Allowance must be set; zero numbers mean
// the defaults.
type Config struct {
	Allowance

	// Dial opens a connection to the upstream, MPTCP off. A *refusal.Error stands as
	// it is; any other is UpstreamConnect.
	Dial func(ctx context.Context) (*net.TCPConn, error)
	// Behind, where not "", is the proxy that Dial goes through: the peer of a connection
	// is then not the server.
	Behind string
	// TLS, when not nil, is how the server is verified. It is copied; the copy
	// offers the protocols that Versions says, and keeps sessions.
	TLS *tls.Config
	// Versions is what is spoken with the server; the zero value is HTTP/1.1 alone.
	Versions Versions

	// Circuit, where not nil, bounds connections of several pools together.
	Circuit Circuit
	// MaxExchanges is after how many exchanges a connection is closed; 0: none closes it.
	MaxExchanges int

	MaxIdle          int           // idle connections kept
	IdleTimeout      time.Duration // after which an idle connection is closed
	ConnectTimeout   time.Duration // for Dial
	HandshakeTimeout time.Duration // for TLS

	// Now is a monotonic clock; nil means the machine's.
	Now func() time.Duration
}

// Pool is the connections to one upstream: an exchange.Upstream.
type Pool struct {
	config Config
	now    func() time.Duration

	mu      sync.Mutex
	idle    []*Conn         // a stack: the last put is the first got
	all     []*Conn         // idle and busy
	closed  atomic.Bool     // set under mu
	ctx     context.Context // ends with Close: nobody waits for a connection any more
	cancel  context.CancelFunc
	kept    int         // of all, held back by Keep
	sweeper *time.Timer // runs while there are idle or kept ones
	shared  shared      // connections of HTTP/2
}

// NewPool returns a pool without connections.
func NewPool(config Config) (*Pool, error) {
	if config.Dial == nil || config.Open == nil || config.Handshakes == nil {
		return nil, errors.New("upstream: Config.Dial and Config.Allowance must be set")
	}
	if config.TLS != nil {
		own, err := clientConfig(config.TLS, config.Versions)
		if err != nil {
			return nil, err
		}
		config.TLS = own
	}
	config.MaxIdle = orDefault(config.MaxIdle, DefaultMaxIdle)
	config.IdleTimeout = orDefault(config.IdleTimeout, DefaultIdleTimeout)
	config.ConnectTimeout = orDefault(config.ConnectTimeout, DefaultConnectTimeout)
	config.HandshakeTimeout = orDefault(config.HandshakeTimeout, DefaultHandshakeTimeout)
	p := &Pool{config: config, now: config.Now}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if p.now == nil {
		start := time.Now()
		p.now = func() time.Duration { return time.Since(start) }
	}
	return p, nil
}

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// Take implements exchange.Upstream.
func (p *Pool) Take() exchange.Stream {
	if p.config.Versions != HTTP11 {
		if st := p.takeShared(); st != nil {
			return st
		}
	}
	for {
		c := p.pop()
		if c == nil {
			return nil
		}
		if !c.quiet() {
			c.close()
			continue
		}
		c.reused = true
		return c
	}
}

// pop takes the idle connection that was used last, or nil.
func (p *Pool) pop() *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	if last < 0 {
		return nil
	}
	c := p.idle[last]
	p.idle[last] = nil
	p.idle = p.idle[:last]
	return c
}

// Dial implements exchange.Upstream. Where the workload has as many connections as it
// may, it waits for one. The reasons are Withdrawn after Close, Overflow where none
// became free in time, and those of the dial and the handshake.
func (p *Pool) Dial(ctx context.Context) (exchange.Stream, error) {
	if p.config.Versions != HTTP11 {
		return p.dialShared(ctx)
	}
	w := pending{of: p.config.Circuit}
	defer w.end()
	c, err := p.dial(ctx, &w)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// dial opens a connection, or waits for one that another exchange is done with: of HTTP/1.1, or
// one of HTTP/2 that may have a stream left.
func (p *Pool) dial(ctx context.Context, w *pending) (*Conn, error) {
	c, err := p.turn(ctx, w)
	if c == nil || c.session == nil { // else another may be quicker to take its stream, and it waits again
		w.end()
	}
	switch {
	case err != nil:
		return nil, err
	case c != nil:
		if c.session == nil { // else several have it
			c.reused = true
		}
		return c, nil
	}
	c, err = p.open(ctx)
	p.mu.Lock()
	if err == nil && p.closed.Load() {
		err = withdrawn()
	}
	if err == nil {
		c.place = len(p.all)
		p.all = append(p.all, c)
	}
	p.mu.Unlock()
	if err != nil {
		if c != nil {
			c.shut()
		}
		p.giveBack()
		return nil, err
	}
	return c, nil
}

// turn waits until the workload may open a connection, or until one of this pool that
// another exchange is done with is handed over.
func (p *Pool) turn(ctx context.Context, w *pending) (*Conn, error) {
	if p.closed.Load() {
		return nil, withdrawn()
	}
	if circuit := p.config.Circuit; circuit != nil && !circuit.Connections().Try(1) {
		if err := w.begin(); err != nil {
			return nil, connectError(err)
		}
		limited, cancel := ctx, context.CancelFunc(func() {})
		if most := p.config.Open.MaxWait(); most > 0 {
			limited, cancel = context.WithTimeoutCause(ctx, most, share.ErrWait)
		}
		c, err := p.await(limited, circuit.Connections())
		cancel()
		switch {
		case errors.Is(err, share.ErrQueue), errors.Is(err, share.ErrWait):
			return nil, circuit.InVain(err)
		case err != nil:
			return nil, connectError(err)
		case c != nil:
			return c, nil
		}
	}
	if p.config.Open.Try(1) {
		return nil, nil
	}
	c, err := p.await(ctx, p.config.Open)
	if err != nil {
		p.uncount()
		return nil, overflow("upstream connections", err)
	}
	if c != nil { // which is counted already
		p.uncount()
	}
	return c, nil
}

// await waits for a unit of what bounds the connections, or for a connection that holds it already.
func (p *Pool) await(ctx context.Context, of *share.Member) (*Conn, error) {
	w, err := of.Queue(p)
	if err != nil {
		return nil, err
	}
	// A stream that came free after Take, and before Queue, was handed to nobody.
	if c := p.withRoom(); c != nil && w.Abandon() {
		return c, nil
	}
	waits, since := exchange.WaitsOf(ctx), p.now()
	defer func() { waits.Queue += p.now() - since }()
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(p.ctx, func() { cancel(withdrawn()) })
	defer stop()
	if err := w.Wait(waiting); err != nil {
		return nil, err
	}
	c, _ := w.Given().(*Conn)
	return c, nil
}

// open dials and shakes hands. A connection that comes with an error has to be
// shut.
func (p *Pool) open(ctx context.Context) (*Conn, error) {
	waits, since := exchange.WaitsOf(ctx), p.now()
	connecting, cancel := context.WithTimeout(ctx, p.config.ConnectTimeout)
	tcp, err := p.config.Dial(connecting)
	cancel()
	waits.Connect += p.now() - since
	if err != nil {
		return nil, connectError(err)
	}
	c := &Conn{pool: p, tcp: tcp}
	c.stepFunc = c.step
	if a, ok := tcp.RemoteAddr().(*net.TCPAddr); ok && p.config.Behind == "" {
		c.remote = a.AddrPort()
	}
	if c.raw, err = tcp.SyscallConn(); err == nil {
		err = c.raw.Control(func(fd uintptr) { c.fd = fd })
	}
	if err != nil {
		return c, connectError(fmt.Errorf("take the socket: %w", err))
	}
	if p.config.TLS == nil {
		return c, nil
	}
	since = p.now()
	err = p.config.Handshakes.Take(ctx)
	waits.Queue += p.now() - since
	if err != nil {
		return c, overflow("TLS handshakes", err)
	}
	defer p.config.Handshakes.Give(1)
	since = p.now()
	defer func() { waits.TLS += p.now() - since }()
	shaking, cancel := context.WithTimeout(ctx, p.config.HandshakeTimeout)
	defer cancel()
	err = c.handshake(shaking, p.config.TLS)
	if p.config.Shaken != nil {
		p.config.Shaken(err)
	}
	if err != nil {
		c.aborted.Store(true) // no close_notify into a failed handshake
		return c, err
	}
	return c, nil
}

// put takes back a connection whose last answer was read to its end.
func (p *Pool) put(c *Conn) {
	c.setBlocking(false)
	c.idleSince = p.now()
	p.mu.Lock()
	c.exchanges++
	if p.closed.Load() || c.aborted.Load() || len(p.idle) >= p.config.MaxIdle || c.exchanges == p.config.MaxExchanges {
		p.mu.Unlock()
		c.close()
		return
	}
	p.idle = append(p.idle, c)
	p.startSweeper()
	p.mu.Unlock()
	// Asked after it was put: who begins to wait looks at what is idle then.
	p.wanted(p.handOn)
}

// startSweeper is called with mu held.
func (p *Pool) startSweeper() {
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(p.sweepEvery(), p.sweep)
	}
}

// stopSweeper stops it in a pool that was closed, unless exchanges go on over HTTP/2: what is
// late there is for the sweeper to end. It is called with mu held.
func (p *Pool) stopSweeper() {
	if p.sweeper != nil && len(p.shared.all) == 0 {
		p.sweeper.Stop()
		p.sweeper = nil
	}
}

// handOn gives an idle connection to who waits for one of this pool, or makes way for
// who waits for another. It reports true.
func (p *Pool) handOn(of *share.Member) bool {
	if c := p.pop(); c != nil && !(c.quiet() && of.HandOver(p, c)) {
		c.close()
	}
	return true
}

// LongestIdle returns for how long the idle or kept connection that was used longest ago
// was not; ok is false where there is none.
func (p *Pool) LongestIdle() (d time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.longestIdle()
	if c == nil {
		return 0, false
	}
	return p.now() - c.idleSince, true
}

// CloseLongestIdle closes it, and reports whether there was one.
func (p *Pool) CloseLongestIdle() bool {
	p.mu.Lock()
	c := p.longestIdle()
	switch {
	case c == nil:
		p.mu.Unlock()
		return false
	case c.kept:
		p.letGo(func(o *Conn) bool { return o == c })
	case c.session != nil:
		c.session.Close(false)
		p.mu.Unlock()
		return true
	default:
		p.idle = slices.Delete(p.idle, 0, 1)
	}
	p.mu.Unlock()
	c.close()
	return true
}

// longestIdle is called with mu held.
func (p *Pool) longestIdle() (longest *Conn) {
	if len(p.idle) > 0 {
		longest = p.idle[0]
	}
	if s := p.longestIdleShared(); s != nil && (longest == nil || s.idleSince < longest.idleSince) {
		longest = s
	}
	if p.kept == 0 {
		return longest
	}
	for _, c := range p.all {
		if c.kept && (longest == nil || c.idleSince < longest.idleSince) {
			longest = c
		}
	}
	return longest
}

// sweepEvery is how often idle connections are looked at: often enough that a
// peer that closed does not leave us in CLOSE_WAIT for long.
func (p *Pool) sweepEvery() time.Duration {
	return max(min(p.config.IdleTimeout/2, 5*time.Second), 10*time.Millisecond)
}

// sweep closes idle and kept connections that are too old or whose peer has gone. It
// runs on a timer of its own, only while there are any.
func (p *Pool) sweep() {
	now := p.now()
	var stale []*Conn
	p.mu.Lock()
	kept := p.idle[:0]
	for _, c := range p.idle {
		if c.stale(now) {
			stale = append(stale, c)
		} else {
			kept = append(kept, c)
		}
	}
	clear(p.idle[len(kept):])
	p.idle = kept
	stale = append(stale, p.letGo(func(c *Conn) bool { return c.stale(now) })...)
	p.checkShared()
	if len(p.shared.all) > 0 || len(kept)+p.kept > 0 && !p.closed.Load() {
		p.sweeper.Reset(p.sweepEvery())
	} else {
		p.sweeper = nil
	}
	p.mu.Unlock()
	for _, c := range stale {
		c.close()
	}
}

// forget takes c out of the open connections.
func (p *Pool) forget(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.all) - 1
	if c.place < 0 || last < 0 || p.all[c.place] != c {
		return
	}
	p.all[c.place] = p.all[last]
	p.all[c.place].place = c.place
	p.all[last] = nil
	p.all = p.all[:last]
	c.place = -1
	p.giveBack()
}

// Close closes idle and kept connections and refuses new ones (Withdrawn). Busy
// connections end with their exchange, or at once when abort is set: what
// allowed them was withdrawn.
func (p *Pool) Close(abort bool) {
	p.mu.Lock()
	p.closed.Store(true)
	p.cancel()
	idle := append(p.idle, p.letGo(func(*Conn) bool { return true })...)
	p.idle = nil
	p.stopSweeper()
	if abort {
		for _, c := range p.all {
			c.Abort()
		}
	}
	idle = append(idle, p.closeShared(abort)...)
	p.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

// Closed says whether Close was called.
func (p *Pool) Closed() bool { return p.closed.Load() }

// Stats counts connections at one moment; a kept one is busy.
type Stats struct{ Idle, Busy int }

// Stats returns how many connections the pool holds.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := len(p.idle) + p.idleShared()
	return Stats{Idle: idle, Busy: len(p.all) - idle}
}
