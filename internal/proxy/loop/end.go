package loop

import (
	"cmp"
	"time"

	"sluice.dev/sluice/internal/proxy/rawio"
	"sluice.dev/sluice/internal/proxy/relay"
)

// leave takes the connection out of the loop.
func (c *conn) leave() {
	l := c.loop
	if c.stage != carrying {
		l.await(-1)
	}
	c.stage = gone
	l.slots[c.slot] = nil
	l.free = append(l.free, c.slot)
}

// end closes both sockets. Where there is an error both peers are reset.
func (c *conn) end(err error) {
	c.leave()
	for _, fd := range c.fds {
		switch {
		case fd < 0:
		case err != nil:
			rawio.Reset(fd)
		default:
			rawio.Close(fd)
		}
	}
	c.served.Ended(err, c.Received())
}

func (c *conn) fail(err error) { c.end(err) }

// handOver gives a connection back that is not carried yet. An upstream that is not
// connected is closed: who dials it tries others beside it.
func (c *conn) handOver() {
	c.leave()
	if c.fds[up] >= 0 {
		rawio.Close(c.fds[up])
	}
	c.loop.poller.Forget(uintptr(c.fds[down]))
	c.served.HandOver(Handed{Down: c.fds[down], Up: -1, Said: c.said})
	c.said = nil
}

// giveBack gives a connection back that is carried, with what was read from one side and
// not written yet.
func (c *conn) giveBack(left []byte, from int) {
	c.leave()
	h := Handed{Down: c.fds[down], Up: c.fds[up]}
	for side, fd := range c.fds {
		c.loop.poller.Forget(uintptr(fd)) // else it would be watched for as long as a copy of it is open
		h.Begun[side] = relay.Begun{Moved: c.moved[side].Load(), Ended: c.ended[side]}
	}
	h.Begun[from].Left = left
	c.served.HandOver(h)
}

// bound sets how long nothing may move.
func (c *conn) bound(idle time.Duration) {
	c.idle.every = cmp.Or(idle, relay.DefaultIdle) / idleLooks
	c.idle.next = time.Now().Add(c.idle.every)
	c.loop.tick()
}

// idleLooks is how many looks in a row see nothing move where a connection is idle for too
// long, as a relay has it.
const idleLooks = 4

// await counts connections of which something is waited for.
func (l *Loop) await(n int) {
	if l.waiting += n; n > 0 {
		l.tick()
	}
}

// tick has the connections looked at once more.
func (l *Loop) tick() {
	kind, every := 0, l.config.SlowTick
	if l.waiting > 0 {
		kind, every = 1, l.config.Tick
	}
	if l.ticking[1] && l.config.Tick <= l.config.SlowTick || l.ticking[kind] {
		return
	}
	l.ticking[kind] = true
	time.AfterFunc(every, func() {
		l.Post(func() {
			l.ticking[kind] = false
			l.look()
		})
	})
}

// look looks at all connections.
func (l *Loop) look() {
	now, some := time.Now(), false
	for _, c := range l.slots {
		if c == nil {
			continue
		}
		some = true
		switch {
		case c.stage == carrying:
			c.lookIdle(now)
		case now.Sub(c.since) >= l.config.Tick:
			c.handOver()
		}
	}
	if some {
		l.tick()
	}
}

// lookIdle ends a connection in which nothing has moved for too long.
func (c *conn) lookIdle(now time.Time) {
	if i := &c.idle; !i.alive { // it lives for longer than most
		i.alive = true
		rawio.KeepAlive(c.fds[up])
	}
	if now.Before(c.idle.next) {
		return
	}
	c.idle.next = now.Add(c.idle.every) // a loop that stalled does not look the more often
	if moved := c.Sent() + c.Received(); moved != c.idle.moved {
		c.idle.moved, c.idle.still = moved, 0
		return
	}
	if c.idle.still++; c.idle.still >= idleLooks {
		c.fail(relay.ErrIdle)
	}
}
