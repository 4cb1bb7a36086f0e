package relay

import (
	"sync"
	"time"
)

// idleLooks is how many times within Config.Idle a relay is looked at. No clock
// is read while bytes move: a look compares the counters with those of the last.
const idleLooks = 4

// idleWatch fails a relay in which nothing moves.
type idleWatch struct {
	relay *Relay
	every time.Duration

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
	count   idleCount
}

// idleCount counts looks that saw nothing move.
type idleCount struct {
	moved int64
	still int
}

// look takes the bytes that moved so far and reports whether nothing did for
// idleLooks looks.
func (c *idleCount) look(moved int64) (idle bool) {
	if moved != c.moved {
		c.moved, c.still = moved, 0
		return false
	}
	c.still++
	return c.still >= idleLooks
}

func (r *Relay) watchIdle() *idleWatch {
	idle := r.config.Idle
	if idle == 0 {
		idle = DefaultIdle
	}
	w := &idleWatch{relay: r, every: max(idle/idleLooks, 1)}
	if idle < 0 {
		return w
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.every, w.look)
	return w
}

func (w *idleWatch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	if w.count.look(w.relay.Sent() + w.relay.Received()) {
		w.relay.fail(ErrIdle)
		return
	}
	w.timer.Reset(w.every)
}

// stop returns when no look is at work any more, and none comes.
func (w *idleWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.timer != nil {
		w.timer.Stop()
	}
}
