package relay

import (
	"errors"
	"os"
	"time"
)

// Greet begins to carry what Up says to Down, while the caller looks at what Down says:
// until Pause. It takes neither a context nor the bound on idleness: whoever ends the
// connection meanwhile closes Down. Where one side fails, Down is reset, so that its
// reader hears of it.
func (r *Relay) Greet() {
	r.greeting = make(chan struct{})
	go func() {
		defer close(r.greeting)
		if err := r.open(); err != nil {
			r.fail(err)
		} else {
			r.ways[Upstream].run()
		}
		if r.failed.Load() != nil {
			r.config.Down.SetLinger(0)
			r.config.Down.Close()
		}
	}()
}

// Pause ends Greet at once, also where Down does not read; what was taken from Up and
// could not be written yet stays in the relay, for Run or a further Greet. The error is
// why one side failed. Then, as after Drop, Down is the caller's.
func (r *Relay) Pause() error {
	r.pausing.Store(true)
	past := time.Unix(1, 0)
	r.config.Up.SetReadDeadline(past)
	r.config.Down.SetWriteDeadline(past)
	<-r.greeting
	r.config.Memory.hangups.forget(&r.ways[Upstream]) // a reset that comes later is not Down's
	r.pausing.Store(false)
	r.config.Up.SetReadDeadline(time.Time{})
	r.config.Down.SetWriteDeadline(time.Time{})
	if failed := r.failed.Load(); failed != nil {
		r.interrupt() // its own deadlines may just have been taken away
		return failed.err
	}
	return nil
}

// Drop ends a relay that will not Run after all: it closes Up and leaves Down alone. After
// Run it does nothing.
func (r *Relay) Drop() {
	r.release()
	r.config.Up.Close()
}

// release gives back what the directions hold.
func (r *Relay) release() {
	for i := range r.ways {
		w := &r.ways[i]
		r.config.Memory.hangups.forget(w)
		w.giveBackPipe()
		w.left = nil
	}
}

// pause reports whether a direction is to stop where it is, given what its wait came to.
func (r *Relay) pause(err error) bool {
	return r.pausing.Load() && r.failed.Load() == nil && (err == nil || errors.Is(err, os.ErrDeadlineExceeded))
}
