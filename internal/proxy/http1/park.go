package http1

import (
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/proxy/poller"
)

// A connection that waits for a request costs its goroutine's stack, which is most of what
// it takes. So one that waits for long is parked: it has no goroutine then, and a registry
// waits for it. One whose requests follow each other closely is not: to wake one costs two
// system calls and a goroutine.
//
//   - A connection is parked as soon as it waits for its second request, so that of many
//     that come at once few have a stack at a time.
//   - One that goes on within busyWithin of that is busy: it waits on its goroutine.
//   - One that has been quiet for goneAfter is called by the sweeper, which has no other way
//     to its goroutine than a read deadline that has passed. A call turns the phase to
//     called first: whoever begins a request finds that and takes the deadline away, which
//     else could hit the reading of its body.
//
// Whoever ends a parked connection wakes it, so that it ends on a goroutine as any other.
// Between those who would wake it, and the one who parks it and finds it ended, the atomic
// flag in its place decides.

// busyWithin is how soon after its answer a client's next request must come for it to be
// taken for busy.
const busyWithin = 50 * time.Millisecond

// Life is what lives for as long as a client connection does. Stay takes a hold on it, and
// Leave gives one back.
type Life interface {
	Stay()
	Leave()
}

// parking waits for the connections of a Server that are parked. The zero value is ready.
type parking struct {
	mu     sync.Mutex
	poller *poller.Poller // nil until the first is parked
	places []*conn
	free   []uint32 // of places
	closed bool
	times  uint32 // that a place was taken, from 1: an event for whoever had it before is told by it
}

// parkingPlace is a connection's part of parking.
type parkingPlace struct {
	id     uint64 // the place, and when it was taken; 0: none
	parked atomic.Bool
	at     time.Duration // when it was parked
	busy   bool
	served bool // it has begun a request
	stays  bool // it has its hold on life
}

// wanted is what a parked connection is woken by: bytes, or an end.
const wanted = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT

// take gives a connection a place, for as long as it lives.
func (p *parking) take(s *Server, d *conn) (of *poller.Poller, known bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, false, os.ErrClosed
	case p.poller == nil:
		if p.poller, err = poller.Open(s.wakeParked); err != nil {
			return nil, false, err
		}
	}
	if d.place.id != 0 {
		return p.poller, true, nil
	}
	if len(p.free) == 0 {
		p.places = append(p.places, nil)
		p.free = append(p.free, uint32(len(p.places)-1))
	}
	last := len(p.free) - 1
	at := p.free[last]
	p.free, p.places[at] = p.free[:last], d
	if p.times++; p.times == 0 {
		p.times = 1
	}
	d.place.id = uint64(p.times)<<32 | uint64(at)
	return p.poller, false, nil
}

// taken is how many times a place was taken.
func (p *parking) taken() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.times
}

// forget gives a connection's place to the next.
func (p *parking) forget(d *conn) {
	if d.place.id == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := uint32(d.place.id)
	p.places[at], p.free = nil, append(p.free, at)
}

// find returns the connection that has a place.
func (p *parking) find(id uint64) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.places[uint32(id)]; d != nil && d.place.id == id {
		return d
	}
	return nil
}

// close ends the waiting: none is parked any more.
func (p *parking) close() {
	p.mu.Lock()
	p.closed = true
	of := p.poller
	p.mu.Unlock()
	if of != nil {
		of.Close() // waits for wakeParked, which takes the lock
	}
}

// maySleep reports whether a connection that waits for a request, and holds nothing, is to
// be parked at once.
func (d *conn) maySleep() bool {
	return d.life != nil && d.place.served && !d.place.busy
}

// park parks a connection that waits for a request. It reports false where it could not be,
// or has been ended meanwhile: it is the caller's still then.
func (s *Server) park(d *conn) bool {
	p := &d.place
	of, known, err := s.parking.take(s, d)
	if err != nil {
		p.busy = true // it waits as before
		return false
	}
	if !p.stays {
		p.stays = true
		d.life.Stay()
	}
	p.at = s.now()
	id := p.id
	p.parked.Store(true)
	// From here on it is another's, as soon as there is something to read.
	e := d.raw.Control(func(fd uintptr) {
		if known {
			err = of.Again(fd, id, wanted)
		} else {
			err = of.Watch(fd, id, wanted)
		}
	})
	switch {
	case e == nil && err == nil && !d.watch.fired():
		return true
	case !p.parked.CompareAndSwap(true, false):
		return true // somebody has woken it already
	}
	p.busy = true
	return false
}

// wakeParked wakes the connection that there is something to read from.
func (s *Server) wakeParked(id uint64, _ uint32) {
	if d := s.parking.find(id); d != nil {
		d.wake(true)
	}
}

// wake goes on with a connection if it is parked, on a goroutine of its own.
func (d *conn) wake(asked bool) {
	if !d.place.parked.CompareAndSwap(true, false) {
		return
	}
	if asked && d.server.now()-d.place.at < busyWithin {
		d.place.busy = true
	}
	go d.resume()
}

// resume serves a connection that was parked.
func (d *conn) resume() {
	if !d.serve() { // else it is parked again, and may have ended already
		d.end()
	}
}

// quietMeanwhile reports whether the sweeper is to call a connection.
func (d *conn) quietMeanwhile(now time.Duration, word int64) bool {
	return d.life != nil && !d.place.parked.Load() && d.sameMeanwhile(now, word)
}

// call makes a connection that waits on its goroutine park, if it still waits as was seen.
func (d *conn) call(seen int64) {
	d.wait.mu.Lock() // until the deadline is set, for whoever takes it away
	defer d.wait.mu.Unlock()
	if d.watch.turn(seen, called) {
		d.tcp.SetReadDeadline(longAgo)
	}
}

// followsCall reports whether err is a call, and not the connection's end.
func (d *conn) followsCall(err error) bool {
	if !isTimeout(err) {
		return false
	}
	word, p, _ := d.watch.look()
	if word == fired || p != called || !d.watch.turn(word, idle) {
		return false
	}
	d.endCall()
	d.place.busy = false
	return true
}

// awake is watch.set for a connection that has waited for a request, and may have been
// called.
func (d *conn) awake(p phase, deadline time.Duration) bool {
	d.place.served = true
	before, ok := d.watch.swap(p, deadline)
	if before == called {
		d.endCall()
	}
	return ok
}

// endCall takes the deadline of a call away.
func (d *conn) endCall() {
	d.wait.mu.Lock()
	d.wait.mu.Unlock() //lint:ignore SA2001 whoever called has set the deadline once it is free
	d.tcp.SetReadDeadline(time.Time{})
	d.heedInterrupt()
}

// SettledAfter is after how many connections Config.Settled is called.
const SettledAfter = 256

// settled finds out when many connections have come and no more do. It is the sweeper's.
type settled struct {
	tell  func()
	seen  uint32 // of parking.taken, at the last look
	since uint32 // and when it was last told of
}

func (s *settled) look(taken uint32) {
	still := taken == s.seen
	s.seen = taken
	if still && s.tell != nil && taken-s.since >= SettledAfter {
		s.since = taken
		s.tell()
	}
}
