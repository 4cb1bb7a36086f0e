package http1

import (
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/proxy/rawio"
)

// phase is what a connection waits for, as the sweeper has to know it.
type phase int64

const (
	idle      phase = iota // for a request
	reading                // for the rest of a request
	waiting                // for an answer's head
	moving                 // for a body, either way
	fresh                  // for the first request
	called                 // for a request, but it is to be parked: see park.go
	lingering              // for a client to have read its last answer
)

// unused says that nothing is under way on a connection.
func (p phase) unused() bool { return p == idle || p == fresh || p == called || p == lingering }

// phases is a power of two above them all.
const phases = 8

// watch is a connection's deadline and phase in one word, so that the sweeper
// ends exactly the wait that it saw. Once fired it stays so, and the connection
// ends after what it is doing.
type watch struct{ word atomic.Int64 }

const fired = -1

// set begins a wait that ends at deadline. It returns false where the sweeper
// has ended the connection.
func (w *watch) set(p phase, deadline time.Duration) bool {
	_, ok := w.swap(p, deadline)
	return ok
}

// swap is set, and returns what was waited for before.
func (w *watch) swap(p phase, deadline time.Duration) (before phase, ok bool) {
	next := wordOf(p, deadline)
	for {
		word := w.word.Load()
		if word == fired {
			return 0, false
		}
		if w.word.CompareAndSwap(word, next) {
			return phase(word & int64(phases-1)), true
		}
	}
}

func wordOf(p phase, deadline time.Duration) int64 { return int64(deadline)*int64(phases) | int64(p) }

// fired says whether the sweeper has ended the connection.
func (w *watch) fired() bool { return w.word.Load() == fired }

// look returns what the connection waits for, and until when.
func (w *watch) look() (word int64, p phase, deadline time.Duration) {
	word = w.word.Load()
	return word, phase(word & int64(phases-1)), time.Duration(word / int64(phases))
}

// end fires, if the wait is still the one that was seen.
func (w *watch) end(seen int64) bool { return w.word.CompareAndSwap(seen, fired) }

// turn changes what is waited for, if the wait is still the one that was seen.
func (w *watch) turn(seen int64, p phase) bool {
	return w.word.CompareAndSwap(seen, seen&^int64(phases-1)|int64(p))
}

// sweep ends every wait that is over at now, and those of clients that are
// gone. It is called by sweepUntilEmpty, and by tests with a time of theirs.
func (s *Server) sweep(now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := s.newest; d != nil; d = d.older {
		word, p, deadline := d.watch.look()
		switch {
		case word == fired:
		case now >= deadline:
			if d.watch.end(word) {
				d.interrupt()
			}
		case p.unused() && s.draining.Load():
			if d.watch.end(word) {
				d.interrupt()
			}
		case p == idle && d.quietMeanwhile(now, word):
			d.call(word)
		case (p == waiting || p == moving) && d.goneMeanwhile(now, word):
			if d.watch.end(word) {
				d.gone.Store(true)
				d.interrupt()
			}
		}
	}
}

// idleLeast is for how long a connection must have waited for a request before CloseIdle
// takes it for idle: less is the pause of a client that goes on.
const idleLeast = 100 * time.Millisecond

// CloseIdle ends the connection that has waited for a request for longest, so that
// another may take its place. It reports whether there was one, and does not wait for
// its end.
func (s *Server) CloseIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	latest := s.now() + s.limits.IdleTimeout - idleLeast
	var longest *conn
	var seen int64
	for d := s.newest; d != nil; d = d.older {
		if word, p, deadline := d.watch.look(); word != fired && (p == idle || p == called) && deadline <= latest {
			longest, seen, latest = d, word, deadline
		}
	}
	if longest == nil || !longest.watch.end(seen) {
		return false
	}
	longest.interrupt()
	return true
}

// sameMeanwhile reports whether a connection has waited for the same for two sweeps.
// seenWaiting and seenAt belong to the sweeper.
func (d *conn) sameMeanwhile(now time.Duration, word int64) bool {
	if d.seenWaiting != word {
		d.seenWaiting, d.seenAt = word, now
		return false
	}
	return now-d.seenAt >= goneAfter
}

// goneMeanwhile asks the kernel about a client for whom nothing came for two sweeps.
func (d *conn) goneMeanwhile(now time.Duration, word int64) bool {
	if !d.sameMeanwhile(now, word) {
		return false
	}
	if d.stream != nil {
		return d.stream.Gone(d.untilFIN.Load())
	}
	gone := false
	d.raw.Control(func(fd uintptr) { gone = rawio.Gone(fd) || d.untilFIN.Load() && rawio.Ended(fd) })
	return gone
}

// interrupt makes every wait of the connection and of its exchange return.
func (d *conn) interrupt() {
	d.tcp.SetDeadline(longAgo)
	d.wait.end()
	d.wake(false)
}

// longAgo is a deadline that has passed on every clock.
var longAgo = time.Unix(1, 0)

// sweepUntilEmpty runs while there are connections.
func (s *Server) sweepUntilEmpty() {
	defer s.sweeping.Done()
	tick := time.NewTicker(s.sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.empty:
		}
		s.sweep(s.now())
		s.settled.look(s.parking.taken())
		s.mu.Lock()
		if s.newest == nil {
			s.sweeperRuns = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
	}
}

// sweepInterval lets no time-out be missed by more than a quarter of the
// shortest.
func sweepInterval(l Limits) time.Duration {
	shortest := min(l.HeaderTimeout, l.IdleTimeout, l.AnswerTimeout, l.TransferTimeout, l.UpgradeTimeout)
	return min(max(shortest/4, sweepAtLeast), sweepAtMost)
}
