package carry

import (
	"context"
	"sync/atomic"
	"time"

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
	late    func()        // told of each that waits
	delayed atomic.Uint64 // how many had to
}

// NewDenials returns a pace at which nothing was denied yet; late, which must not block,
// is called for each denial that waits.
func NewDenials(late func()) *Denials {
	return &Denials{limiter: rate.NewLimiter(DenialsPerSecond, DenialsBurst), late: late}
}

// Delayed returns how many denials had to wait.
func (d *Denials) Delayed() uint64 { return d.delayed.Load() }

// next takes a turn and returns how long it is off.
func (d *Denials) next() time.Duration {
	if d == nil {
		return 0
	}
	wait := d.limiter.Reserve().Delay()
	if wait > 0 {
		d.delayed.Add(1)
		d.late()
	}
	return wait
}

// Wait waits for the turn of one denial, or until ctx ends.
func (d *Denials) Wait(ctx context.Context) { sleep(ctx, d.next()) }

// reply returns the direction of a denial in its turn.
func (d *Denials) reply(direction exchange.Direction) exchange.Direction {
	wait := d.next()
	if wait == 0 {
		return direction
	}
	return exchange.Direction{ID: direction.ID, Later: func(ctx context.Context) exchange.Direction {
		sleep(ctx, wait)
		return direction
	}}
}

func sleep(ctx context.Context, wait time.Duration) {
	if wait == 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
