package upstream

import (
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/refusal"
)

// Circuit bounds the connections of several pools together, and how many exchanges wait for
// one. Who needs one beyond them waits for it as for one of the workload's, and as long.
type Circuit interface {
	Connections() *share.Member
	// Wait counts an exchange that waits for a connection, or for a place on one that it shares;
	// the error is that of one that may not. Waited ends the counting.
	Wait() *refusal.Error
	Waited()
	// InVain is the refusal of one that waited as long as it may, or that too many wait before.
	InVain(err error) *refusal.Error
}

// pending is one exchange that may have to wait.
type pending struct {
	of      Circuit // nil: however many may wait
	counted bool
}

// begin is for one that begins to wait, or goes on.
func (w *pending) begin() error {
	if w.of == nil || w.counted {
		return nil
	}
	if refused := w.of.Wait(); refused != nil {
		return refused
	}
	w.counted = true
	return nil
}

// end is for one that does not wait any more.
func (w *pending) end() {
	if w.counted {
		w.counted = false
		w.of.Waited()
	}
}

// giveBack gives a connection of what is open back.
func (p *Pool) giveBack() {
	p.config.Open.Give(1)
	p.uncount()
}

// uncount gives a connection of the Circuit back, where there is one.
func (p *Pool) uncount() {
	if c := p.config.Circuit; c != nil {
		c.Connections().Give(1)
	}
}

// wanted calls f with each of what bounds the connections of a pool while somebody waits for one
// of it, until f reports false.
func (p *Pool) wanted(f func(of *share.Member) bool) {
	if c := p.config.Circuit; c != nil && c.Connections().Wanted() && !f(c.Connections()) {
		return
	}
	if p.config.Open.Wanted() {
		f(p.config.Open)
	}
}
