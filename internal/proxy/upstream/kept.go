package upstream

// Keep implements exchange.Stream.
func (c *Conn) Keep() {
	c.setBlocking(false)
	p := c.pool
	p.mu.Lock()
	if p.closed.Load() || c.aborted.Load() {
		p.mu.Unlock()
		c.close()
		return
	}
	c.kept = true
	p.kept++
	p.startSweeper()
	p.mu.Unlock()
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

// lost says that a kept connection is of no use to its keeper any more.
func (c *Conn) lost() bool { return !c.quiet() }

// letGo takes the kept connections for which that holds, all where it is nil, from
// their keepers. It is called with mu held; the caller closes them.
func (p *Pool) letGo(lost func(*Conn) bool) []*Conn {
	if p.kept == 0 {
		return nil
	}
	var gone []*Conn
	for _, c := range p.all {
		if c.kept && (lost == nil || lost(c)) {
			c.kept = false
			p.kept--
			gone = append(gone, c)
		}
	}
	return gone
}
