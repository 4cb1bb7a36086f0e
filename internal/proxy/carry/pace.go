package carry

import (
	"context"
	"sync/atomic"

	"golang.org/x/time/rate"

	"sluice.dev/sluice/internal/proxy/exchange"
)

// Bounds of the denials of one workload: beyond them each waits for its turn, with its
// connection, so that who asks again and again for what is denied takes neither the
// processor nor the place of records from others. None is left out.
const (
	DenialsPerSecond = 200
	DenialsBurst     = 400
)

// Denials is the pace of one workload's denials. A nil Denials holds nobody up.
type Denials struct {
	limiter *rate.Limiter
	line    chan struct{} // full while one waits for the limiter: it alone, so one that leaves owes nothing
	late    func()        // called for each that waits
	delayed atomic.Uint64 // how many had to
}

// NewDenials returns a pace at which nothing was denied yet; late, which must not block,
// is called for each denial that waits.
func NewDenials(late func()) *Denials {
	return &Denials{limiter: rate.NewLimiter(DenialsPerSecond, DenialsBurst), line: make(chan struct{}, 1), late: late}
}

// Delayed returns how many denials had to wait.
func (d *Denials) Delayed() uint64 { return d.delayed.Load() }

// Wait waits for the turn of one denial, or until ctx ends.
func (d *Denials) Wait(ctx context.Context) {
	if !d.now() {
		d.wait(ctx)
	}
}

// reply returns the direction of a denial in its turn.
func (d *Denials) reply(direction exchange.Direction) exchange.Direction {
	if d.now() {
		return direction
	}
	return exchange.Direction{ID: direction.ID, Later: func(ctx context.Context) exchange.Direction {
		d.wait(ctx)
		return direction
	}}
}

// now takes a turn where there is one; else the denial has to wait.
func (d *Denials) now() bool {
	if d == nil || d.limiter.Allow() {
		return true
	}
	d.delayed.Add(1)
	d.late()
	return false
}

// wait waits for a turn behind those who wait already.
func (d *Denials) wait(ctx context.Context) {
	select {
	case d.line <- struct{}{}:
		defer func() { <-d.line }()
		d.limiter.Wait(ctx) // the error says that ctx ended, or ends before the turn
	case <-ctx.Done():
	}
}
