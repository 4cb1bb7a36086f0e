package loop

import (
	"bytes"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/proxy/rawio"
	"sluice.dev/sluice/internal/proxy/relay"
)

// Served is one connection as its owner knows it. All is called on the loop's goroutine and
// must not block. HandOver or Ended is the last that is.
type Served interface {
	// Listen is called before what the client says first is read; false: there is no memory
	// for it, and it is to be handed over unread.
	Listen() bool
	// Decide is given what the client has said first, and begins to connect; false: what
	// becomes of the connection is not known without waiting for somebody.
	Decide(said []byte) (up int, ok bool)
	// Carried says that the client's first bytes have gone to the upstream, and by what the
	// bytes are counted from now on. It returns how long nothing may move: at least
	// ShortestIdle; 0: relay.DefaultIdle.
	Carried(by Counts) (idle time.Duration)
	// HandOver gives the connection back where the loop cannot go on with it at once.
	HandOver(h Handed)
	// Ended says that the sockets are closed: nil where both sides ended in order. Where
	// the connection was not carried yet its client said nothing.
	Ended(err error, received int64)
}

// Counts is what was carried so far. It may be read by anybody at any time.
type Counts interface {
	Sent() int64
	Received() int64
}

// Handed is a connection that the loop does not serve any more. Its sockets are the taker's.
type Handed struct {
	Down int
	Up   int // -1 before the connection is carried
	// Said is what the client has said first, where the connection is not carried yet. It
	// is the loop's again when HandOver returns.
	Said  []byte
	Begun [2]relay.Begun
}

// relayAfter is how many bytes a direction may move in the loop: what goes on is worth a
// goroutine, and a pipe.
const relayAfter = 128 << 10

// What is asked of the poller about a socket. Urgent data makes a read stop before it,
// though there is more.
const (
	readable = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLET
	// whole says that a short read is not the end of what there is.
	whole = unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLHUP | unix.EPOLLERR
)

const (
	down = int(relay.Downstream)
	up   = int(relay.Upstream)
)

type stage uint8

const (
	listening stage = iota
	connecting
	carrying
	gone // the loop does not serve it any more
)

// conn is one connection that the loop serves.
type conn struct {
	loop       *Loop
	served     Served
	slot       uint32
	generation uint32 // so that an event of one that had the slot before is known
	stage      stage
	fds        [2]int  // by relay.Side
	whole      [2]bool // read until there is nothing
	ended      [2]bool // has sent FIN
	moved      [2]atomic.Int64
	said       []byte    // of a client whose upstream is being connected to
	since      time.Time // when something was begun to be waited for
	idle       idleness
}

// idleness is how long nothing has moved.
type idleness struct {
	every time.Duration // of looks, of which four in a row see nothing move
	next  time.Time
	moved int64
	still int
	alive bool // keep-alive is asked for
}

// Sent implements Counts.
func (c *conn) Sent() int64 { return c.moved[down].Load() }

// Received implements Counts.
func (c *conn) Received() int64 { return c.moved[up].Load() }

// Handle is a connection to whoever does not run on the loop's goroutine.
type Handle struct{ c *conn }

// End ends a connection that the loop still serves, for a reason. One that is not carried
// yet, but whose client has spoken, is handed over: its end is to be recorded.
func (h Handle) End(reason error) {
	h.c.loop.Post(func() {
		switch c := h.c; c.stage {
		case listening:
			c.fail(reason)
		case connecting:
			c.handOver()
		case carrying:
			c.fail(reason)
		}
	})
}

// Add serves a connection of whose client nothing was read. It is called on the loop's
// goroutine. Where it returns an error the connection is the caller's.
func (l *Loop) Add(fd int, served Served) (Handle, error) {
	c := &conn{loop: l, served: served, fds: [2]int{down: fd, up: -1}, since: time.Now()}
	l.last++
	c.generation = l.last
	if last := len(l.free) - 1; last >= 0 {
		c.slot = l.free[last]
		l.free = l.free[:last]
		l.slots[c.slot] = c
	} else {
		c.slot = uint32(len(l.slots))
		l.slots = append(l.slots, c)
	}
	l.await(1)
	if err := l.poller.Watch(uintptr(fd), c.id(down), readable); err != nil {
		c.leave()
		return Handle{}, err
	}
	return Handle{c}, nil
}

// ids of connections lie above those of listeners.
const firstID = 1 << 16

func (c *conn) id(side int) uint64 {
	return firstID + (uint64(c.generation)<<24|uint64(c.slot))<<1 | uint64(side)
}

// find returns the connection of an id; nil where it is not served any more.
func (l *Loop) find(id uint64) (*conn, int) {
	id -= firstID
	slot := uint32(id>>1) & (1<<24 - 1)
	if int(slot) >= len(l.slots) {
		return nil, 0
	}
	c := l.slots[slot]
	if c == nil || c.generation != uint32(id>>25) {
		return nil, 0
	}
	return c, int(id & 1)
}

// take takes an event of one side.
func (c *conn) take(side int, events uint32) {
	if events&whole != 0 {
		c.whole[side] = true
	}
	switch {
	case c.stage == carrying:
		c.move(side)
	case c.stage == listening:
		c.listen()
	case side == up: // and connecting
		if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			c.handOver() // who dials again says why
		} else if events&unix.EPOLLOUT != 0 {
			c.say(c.said)
		}
	default: // the client may wait
		c.whole[down] = true
	}
}

// listen reads what the client says first.
func (c *conn) listen() {
	if !c.served.Listen() {
		c.handOver()
		return
	}
	b := c.loop.buffer[:]
	n, errno := rawio.Read(uintptr(c.fds[down]), b)
	switch {
	case errno == syscall.EAGAIN:
		return
	case errno != 0:
		c.fail(sideError(down, "read", errno))
		return
	case n == 0: // it left before it said anything
		c.end(nil)
		return
	}
	said := b[:n]
	to, ok := c.served.Decide(said)
	if !ok {
		c.said = said
		c.handOver()
		return
	}
	if n == len(b) {
		c.whole[down] = true
	}
	c.stage, c.fds[up] = connecting, to
	c.say(said)
}

// say sends the client's first bytes to an upstream that may be connected by now.
func (c *conn) say(said []byte) {
	waits := c.said != nil
	n, errno := rawio.Write(uintptr(c.fds[up]), said)
	switch {
	case errno == syscall.EAGAIN && waits:
		return
	case errno == syscall.EAGAIN: // it is not connected yet
		c.said, c.since = bytes.Clone(said), time.Now()
		if c.loop.poller.Watch(uintptr(c.fds[up]), c.id(up), readable|unix.EPOLLOUT) != nil {
			c.handOver()
		}
		return
	case errno != 0:
		c.said = said
		c.handOver()
		return
	}
	c.said, c.stage = nil, carrying
	c.loop.await(-1)
	c.moved[down].Store(int64(n))
	c.bound(c.served.Carried(c))
	if n < len(said) {
		c.giveBack(bytes.Clone(said[n:]), down)
		return
	}
	if !waits && c.loop.poller.Watch(uintptr(c.fds[up]), c.id(up), readable) != nil {
		c.giveBack(nil, down)
		return
	}
	if c.whole[down] {
		c.move(down)
	}
	if waits { // the edge that said so may be of what the server has sent, too
		c.move(up)
	}
}

// move carries what one side has sent to the other, until there is nothing.
func (c *conn) move(from int) {
	to := 1 - from
	for range readMost {
		if c.stage != carrying || c.ended[from] {
			return
		}
		b := c.loop.buffer[:]
		n, errno := rawio.Read(uintptr(c.fds[from]), b)
		switch {
		case errno == syscall.EAGAIN:
			return
		case errno != 0:
			c.fail(sideError(from, "read", errno))
			return
		case n == 0:
			c.endOf(from)
			return
		}
		written, errno := rawio.Write(uintptr(c.fds[to]), b[:n])
		if errno != 0 && errno != syscall.EAGAIN {
			c.fail(sideError(to, "write", errno))
			return
		}
		moved := c.moved[from].Add(int64(written))
		switch {
		case written < n: // who may wait goes on
			c.giveBack(bytes.Clone(b[written:n]), from)
			return
		case moved >= relayAfter:
			c.giveBack(nil, from)
			return
		case n < len(b) && !c.whole[from]: // what comes now is an edge of its own
			return
		}
	}
	c.loop.readAgain(c, from)
}

// endOf passes on that one side has sent its last byte.
func (c *conn) endOf(from int) {
	c.ended[from] = true
	if c.ended[1-from] {
		c.end(nil)
		return
	}
	rawio.EndWrite(c.fds[1-from])
}

// sideError is the error of one side's socket, as a relay words it.
func sideError(side int, op string, errno syscall.Errno) error {
	return &relay.SideError{Side: relay.Side(side), Op: op, Err: os.NewSyscallError(op, errno)}
}
