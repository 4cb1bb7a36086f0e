// Package upstream keeps HTTP/1 connections to one upstream: dialled, proved by
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
	"sync"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

// Defaults and bounds of Config.
const (
	DefaultMaxIdle          = 256
	DefaultMaxConns         = 1024
	DefaultIdleTimeout      = 60 * time.Second
	DefaultConnectTimeout   = 10 * time.Second
	DefaultHandshakeTimeout = 10 * time.Second
)

// Config says where a pool leads. Only Dial must be set; zero numbers mean
// the defaults.
type Config struct {
	// Dial opens a connection to the upstream, MPTCP off. A *refusal.Error stands as
	// it is; any other is UpstreamConnect.
	Dial func(ctx context.Context) (*net.TCPConn, error)
	// TLS, when not nil, is how the server is verified. It is copied; the copy
	// offers http/1.1 alone and keeps sessions.
	TLS *tls.Config

	MaxIdle          int           // idle connections kept
	MaxConns         int           // open at once, idle ones included; beyond: Overflow
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
	idle    []*Conn     // a stack: the last put is the first got
	all     []*Conn     // idle and busy
	opening int         // being dialled
	closed  atomic.Bool // set under mu
	kept    int         // of all, held back by Keep
	sweeper *time.Timer // runs while there are idle or kept ones
}

// NewPool returns a pool without connections.
func NewPool(config Config) (*Pool, error) {
	if config.Dial == nil {
		return nil, errors.New("upstream: Config.Dial is missing")
	}
	if config.TLS != nil {
		own, err := clientConfig(config.TLS)
		if err != nil {
			return nil, err
		}
		config.TLS = own
	}
	config.MaxIdle = orDefault(config.MaxIdle, DefaultMaxIdle)
	config.MaxConns = orDefault(config.MaxConns, DefaultMaxConns)
	config.IdleTimeout = orDefault(config.IdleTimeout, DefaultIdleTimeout)
	config.ConnectTimeout = orDefault(config.ConnectTimeout, DefaultConnectTimeout)
	config.HandshakeTimeout = orDefault(config.HandshakeTimeout, DefaultHandshakeTimeout)
	p := &Pool{config: config, now: config.Now}
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
	for {
		p.mu.Lock()
		last := len(p.idle) - 1
		if last < 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[last]
		p.idle[last] = nil
		p.idle = p.idle[:last]
		p.mu.Unlock()
		if !c.quiet() {
			c.close()
			continue
		}
		c.reused = true
		return c
	}
}

// Dial implements exchange.Upstream. The reasons are Withdrawn after Close,
// Overflow at MaxConns, and those of the dial and the handshake.
func (p *Pool) Dial(ctx context.Context) (exchange.Stream, error) {
	p.mu.Lock()
	switch {
	case p.closed.Load():
		p.mu.Unlock()
		return nil, withdrawn()
	case len(p.all)+p.opening >= p.config.MaxConns:
		p.mu.Unlock()
		return nil, refusal.New(refusal.Overflow, "")
	}
	p.opening++
	p.mu.Unlock()

	c, err := p.open(ctx)

	p.mu.Lock()
	p.opening--
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
		return nil, err
	}
	return c, nil
}

// open dials and shakes hands. A connection that comes with an error has to be
// shut.
func (p *Pool) open(ctx context.Context) (*Conn, error) {
	connecting, cancel := context.WithTimeout(ctx, p.config.ConnectTimeout)
	tcp, err := p.config.Dial(connecting)
	cancel()
	if err != nil {
		return nil, connectError(err)
	}
	c := &Conn{pool: p, tcp: tcp}
	c.stepFunc = c.step
	if a, ok := tcp.RemoteAddr().(*net.TCPAddr); ok {
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
	shaking, cancel := context.WithTimeout(ctx, p.config.HandshakeTimeout)
	defer cancel()
	if err := c.handshake(shaking, p.config.TLS); err != nil {
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
	if p.closed.Load() || c.aborted.Load() || len(p.idle) >= p.config.MaxIdle {
		p.mu.Unlock()
		c.close()
		return
	}
	p.idle = append(p.idle, c)
	p.startSweeper()
	p.mu.Unlock()
}

// startSweeper is called with mu held.
func (p *Pool) startSweeper() {
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(p.sweepEvery(), p.sweep)
	}
}

// sweepEvery is how often idle connections are looked at: often enough that a
// peer that closed does not leave us in CLOSE_WAIT for long.
func (p *Pool) sweepEvery() time.Duration {
	return max(min(p.config.IdleTimeout/2, 5*time.Second), 10*time.Millisecond)
}

// sweep closes idle connections that are too old or whose peer has gone. It
// runs on a timer of its own, only while there are any.
func (p *Pool) sweep() {
	now := p.now()
	var stale []*Conn
	p.mu.Lock()
	kept := p.idle[:0]
	for _, c := range p.idle {
		if now-c.idleSince >= p.config.IdleTimeout || !c.quiet() {
			stale = append(stale, c)
		} else {
			kept = append(kept, c)
		}
	}
	clear(p.idle[len(kept):])
	p.idle = kept
	stale = append(stale, p.letGo((*Conn).lost)...)
	if len(kept)+p.kept > 0 && !p.closed.Load() {
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
}

// Close closes idle and kept connections and refuses new ones (Withdrawn). Busy
// connections end with their exchange, or at once when abort is set: what
// allowed them was withdrawn.
func (p *Pool) Close(abort bool) {
	p.mu.Lock()
	p.closed.Store(true)
	idle := append(p.idle, p.letGo(nil)...)
	p.idle = nil
	if p.sweeper != nil {
		p.sweeper.Stop()
		p.sweeper = nil
	}
	if abort {
		for _, c := range p.all {
			c.Abort()
		}
	}
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
	return Stats{Idle: len(p.idle), Busy: len(p.all) - len(p.idle)}
}
