package upstream

import (
	"time"

	"sluice.dev/sluice/internal/proxy/share"
)

// Keep implements exchange.Stream.
func (c *Conn) Keep() {
	c.setBlocking(false)
	p := c.pool
	p.mu.Lock()
	c.exchanges++
	if p.closed.Load() || c.aborted.Load() || c.exchanges == p.config.MaxExchanges {
		p.mu.Unlock()
		c.close()
		return
	}
	c.kept, c.idleSince = true, p.now()
	p.kept++
	p.startSweeper()
	p.mu.Unlock()
	// It is its keeper's alone, and cannot be handed on: but it is idle, as one that was put, and
	// makes way for who waits.
	p.wanted(func(*share.Member) bool { return !p.CloseLongestIdle() })
}

// Again implements exchange.Stream.
func (c *Conn) Again() bool {
	if !c.takeBack() {
		return false // the pool closed it
	}
	if !c.quiet() {
		c.close()
		return false
	}
	c.reused = true
	return true
}

// takeBack ends a Keep. It returns false where there was none, or where the pool has
// ended it.
func (c *Conn) takeBack() bool {
	p := c.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.kept {
		return false
	}
	c.kept = false
	p.kept--
	return true
}

// stale says of an idle or kept connection that it is of no use any more, or not in use
// for too long.
func (c *Conn) stale(now time.Duration) bool {
	return now-c.idleSince >= c.pool.config.IdleTimeout || !c.quiet()
}

// letGo takes the kept connections for which that holds from their keepers. It is called with mu held; the caller closes them.
func (p *Pool) letGo(which func(*Conn) bool) []*Conn {
	if p.kept == 0 {
		return nil
	}
	var gone []*Conn
	for _, c := range p.all {
		if c.kept && which(c) {
			c.kept = false
			p.kept--
			gone = append(gone, c)
		}
	}
	return gone
}
