package upstream

import (
	"context"
	"net"
	"slices"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/refusal"
)

// Versions says which versions of HTTP a pool speaks with its server.
type Versions uint8

const (
	HTTP11 Versions = iota // HTTP/1.1 alone
	HTTP2                  // HTTP/2 alone: by prior knowledge, or chosen by ALPN
	Either                 // what the server chooses by ALPN
)

// protocols are the names of ALPN, the one that is preferred first.
func (v Versions) protocols() []string {
	switch v {
	case HTTP2:
		return []string{"h2"}
	case Either:
		return []string{"h2", "http/1.1"}
	}
	return []string{"http/1.1"}
}

// shared is the connections of a pool that carry several exchanges side by side. It is
// guarded by the pool's mu.
type shared struct {
	all     []*Conn
	opening chan struct{} // closed once the one that is opened now is there, or is not; nil: none is
	one     bool          // the server chose HTTP/1.1: each exchange opens for itself
}

// takeShared returns a stream of a connection that is there; nil where none has one left.
func (p *Pool) takeShared() exchange.Stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed.Load() {
		return nil
	}
	for _, c := range slices.Backward(p.shared.all) {
		if st := p.streamOf(c); st != nil {
			return st
		}
	}
	return nil
}

// streamOf returns a stream of a connection, or nil. One that serves so many exchanges and no
// more ends with the last of them. It is called with mu held.
func (p *Pool) streamOf(c *Conn) exchange.Stream {
	st := c.session.Take()
	if st == nil {
		return nil // and no interface that holds it
	}
	if c.exchanges++; c.exchanges == p.config.MaxExchanges {
		c.session.Close(false)
	}
	return st
}

// streamFree is called when a stream of a connection has ended or its server takes more of them,
// within its session.
func (p *Pool) streamFree(c *Conn) {
	p.wanted(func(*share.Member) bool {
		go p.wanted(func(of *share.Member) bool { return !p.handOnShared(of, c) })
		return false
	})
}

// withRoom returns a connection of HTTP/2 with a stream left, or nil.
func (p *Pool) withRoom() *Conn {
	if p.config.Versions == HTTP11 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range slices.Backward(p.shared.all) {
		if c.session.Room() {
			return c
		}
	}
	return nil
}

// handOnShared gives a connection of HTTP/2 with a stream left to who waits for one of this pool,
// or makes way for who waits longer for another: it takes no more, and ends with what it carries.
// One that always carries something would otherwise stay for good. One at a time does, so that
// the pool is not left without any for one who waits. It reports whether it did.
func (p *Pool) handOnShared(of *share.Member, c *Conn) bool {
	p.mu.Lock()
	there := slices.Contains(p.shared.all, c) // one that opens has who waits for it
	making := slices.ContainsFunc(p.shared.all, func(o *Conn) bool { return !o.session.Usable() })
	p.mu.Unlock()
	if !there || !c.session.Usable() {
		return false
	}
	if c.session.Room() && of.HandOver(p, c) {
		return true
	}
	_, idle := c.session.Idle()
	if !idle && (making || !of.Elsewhere(p)) {
		return false
	}
	c.session.Close(false)
	return true
}

// dialShared opens a connection, one at a time where many exchanges can share it.
func (p *Pool) dialShared(ctx context.Context) (exchange.Stream, error) {
	w := pending{of: p.config.Circuit}
	defer w.end()
	for {
		p.mu.Lock()
		opening := p.shared.opening
		if opening == nil || p.shared.one {
			if !p.shared.one {
				p.shared.opening = make(chan struct{})
			}
			p.mu.Unlock()
			if st, err := p.openShared(ctx, &w); st != nil || err != nil {
				return st, err
			}
			continue // it was handed a connection whose streams others were quicker to take
		}
		p.mu.Unlock()
		if err := w.begin(); err != nil {
			return nil, err
		}
		waits, since := exchange.WaitsOf(ctx), p.now()
		select {
		case <-opening:
			waits.Connect += p.now() - since
		case <-ctx.Done():
			return nil, connectError(ctx.Err())
		}
		if st := p.Take(); st != nil {
			return st, nil
		}
	}
}

// openShared opens a connection, and returns a stream of it where HTTP/2 is spoken. It returns
// neither where it was given a connection that is there already and has none left.
func (p *Pool) openShared(ctx context.Context, w *pending) (_ exchange.Stream, err error) {
	defer p.opened()
	c, err := p.dial(ctx, w)
	if err != nil {
		return nil, err
	}
	if c.session != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.streamOf(c), nil
	}
	if c.tls != nil && c.tls.ConnectionState().NegotiatedProtocol != "h2" {
		p.mu.Lock()
		p.shared.one = true
		p.mu.Unlock()
		return c, nil
	}
	if !p.config.Sessions.begin(c) {
		c.close()
		return nil, withdrawn()
	}
	session := http2.NewClient(c.transport(), c.remote, http2.Limits{IdleTimeout: p.config.IdleTimeout}, p.now, func() { p.endShared(c) })
	session.OnFree(func() { p.streamFree(c) })
	settling, cancel := context.WithTimeout(ctx, p.config.HandshakeTimeout)
	defer cancel()
	if err := session.Ready(settling); err != nil {
		session.Close(true)
		return nil, &refusal.Error{Reason: refusal.UpstreamProtocol, Text: "the server does not answer as one of HTTP/2", Err: err}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shared.one = false
	c.session = session
	st := p.streamOf(c)
	if st == nil || p.closed.Load() { // it takes none, or has ended already
		session.Close(true)
		return nil, connectError(net.ErrClosed)
	}
	p.shared.all = append(p.shared.all, c)
	p.startSweeper()
	return st, nil
}

// opened lets those go on who wait for a connection that is opened.
func (p *Pool) opened() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shared.opening != nil {
		close(p.shared.opening)
		p.shared.opening = nil
	}
}

// transport is what HTTP/2 is spoken on: from several goroutines.
func (c *Conn) transport() net.Conn {
	if c.tls == nil {
		return c.tcp
	}
	c.setBlocking(true)
	return c.tls
}

// endShared is called once a connection of HTTP/2 has ended.
func (p *Pool) endShared(c *Conn) {
	p.mu.Lock()
	if i := slices.Index(p.shared.all, c); i >= 0 {
		p.shared.all = slices.Delete(p.shared.all, i, i+1)
	}
	if p.closed.Load() {
		p.stopSweeper()
	}
	p.mu.Unlock()
	c.aborted.Store(true) // its session has said what there was to say
	c.close()
	p.config.Sessions.end(c)
}

// checkShared ends those that are idle for too long, or late. It is called with mu held.
func (p *Pool) checkShared() {
	for _, c := range p.shared.all {
		c.session.Check()
	}
}

// closeShared lets what runs on them end, and nothing more begin; where it is to end at once,
// it returns them to be closed. It is called with mu held.
func (p *Pool) closeShared(abort bool) (now []*Conn) {
	for _, c := range p.shared.all {
		c.session.Close(abort)
		if abort {
			c.aborted.Store(true)
			now = append(now, c)
		}
	}
	return now
}

// idleShared is how many carry nothing. It is called with mu held.
func (p *Pool) idleShared() (n int) {
	for _, c := range p.shared.all {
		if _, idle := c.session.Idle(); idle {
			n++
		}
	}
	return n
}

// longestIdleShared returns the one that carries nothing for longest. It is called with mu held.
func (p *Pool) longestIdleShared() (longest *Conn) {
	for _, c := range p.shared.all {
		if d, idle := c.session.Idle(); idle && c.session.Usable() {
			c.idleSince = p.now() - d
			if longest == nil || c.idleSince < longest.idleSince {
				longest = c
			}
		}
	}
	return longest
}
