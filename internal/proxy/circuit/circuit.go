// Package circuit bounds what one workload has under way to one destination at a time:
// connections, requests, requests that wait for a connection, and requests that are sent
// again. The way into the mesh asks it before it sends something. It never waits but for
// an idle connection to close, and knows neither endpoints nor messages.
package circuit

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
)

// Breaker counts what is under way to one destination, and refuses what is beyond its bounds.
// It is safe for concurrent use.
type Breaker struct {
	to                         string // for people
	policy                     atomic.Pointer[route.DestinationPolicy]
	requests, pending, retries atomic.Int64
	connections                *share.Member
}

// New returns a breaker of a destination, of which Set says the bounds. reclaim begins to close a connection
// that is idle, and reports whether there was one.
func New(to string, reclaim func() bool) *Breaker {
	stock := share.NewStock(share.Config{Units: route.MaxUnderWay, Alone: true})
	return &Breaker{to: to, connections: stock.Join(0, reclaim)}
}

// Set says by which policy, with limits, what is bounded from now on.
func (b *Breaker) Set(p *route.DestinationPolicy) {
	if b.policy.Swap(p) != p {
		b.connections.SetMax(p.Limits.Connections)
	}
}

// Request counts a request; where as many are under way as may be, it is refused. Done ends
// the counting.
func (b *Breaker) Request() *refusal.Error {
	most := b.policy.Load().Limits.Requests
	now, ok := under(&b.requests, most)
	switch {
	case ok:
		return nil
	case now >= retired:
		return b.gone()
	}
	return b.refuse("%d requests are under way (httpMaxRequests)", most)
}

// Done ends what Request counted.
func (b *Breaker) Done() { b.requests.Add(-1) }

// Retry counts a request that is sent again; it reports false where as many are as may be.
// Retried ends the counting.
func (b *Breaker) Retry() bool {
	_, ok := under(&b.retries, b.policy.Load().Limits.Retries)
	return ok
}

// Retried ends what Retry counted.
func (b *Breaker) Retried() { b.retries.Add(-1) }

// Connections is the connections that may be open, and those who wait for one.
func (b *Breaker) Connections() *share.Member { return b.connections }

// closing is how long an idle connection may take to close, which one of HTTP/2 does on its own.
const closing = time.Second

// Connect counts a connection that waits for no other; where as many are open as may be, and
// none of them idle, it is refused; an idle one is closed, which it waits for. Closed ends the counting.
func (b *Breaker) Connect() *refusal.Error {
	if b.connections.TakeIdle(closing) {
		if b.Retired() { // Retire looks at the connections afterwards: one of the two sees the other
			b.Closed()
			return b.gone()
		}
		return nil
	}
	return b.refuse("%d connections are open (maxConnections)", b.policy.Load().Limits.Connections)
}

// Closed ends what Connect counted.
func (b *Breaker) Closed() { b.connections.Give(1) }

// Wait counts a request that waits for a connection; where as many wait as may, it is refused.
// Waited ends the counting.
func (b *Breaker) Wait() *refusal.Error {
	most := b.policy.Load().Limits.Pending
	if _, ok := under(&b.pending, most); !ok { // for one to end, or to open
		return b.refuse("%d requests wait for a connection (httpMaxPendingRequests)", most)
	}
	return nil
}

// Waited ends what Wait counted.
func (b *Breaker) Waited() { b.pending.Add(-1) }

// InVain is the refusal of a request whose wait for a connection was in vain: err is share's.
func (b *Breaker) InVain(err error) *refusal.Error {
	refused := b.refuse("of %d connections (maxConnections)", b.policy.Load().Limits.Connections)
	refused.Err = err
	return refused
}

// Idle reports whether nothing is under way and no connection open.
func (b *Breaker) Idle() bool {
	return b.requests.Load() == 0 && b.pending.Load() == 0 && b.retries.Load() == 0 && b.connections.Used() == 0 && b.connections.Waiting() == 0
}

// retired is what the requests of a breaker come to that is not used any more.
const retired = 1 << 62

// ErrRetired is in the refusal of what came to a breaker that is not used any more, or was about
// to be: whoever asked for the breaker may ask for it anew.
var ErrRetired = errors.New("this circuit breaker is not used any more")

func (b *Breaker) gone() *refusal.Error {
	refused := b.refuse("it is not counted any more")
	refused.Err = ErrRetired
	return refused
}

// Retire ends the use of a breaker under which nothing is under way; it reports false where
// something is. What comes to it still is refused with ErrRetired.
func (b *Breaker) Retire() bool {
	if !b.Idle() || !b.requests.CompareAndSwap(0, retired) {
		return false
	}
	if b.connections.Used() > 0 || b.connections.Waiting() > 0 { // it was taken since
		b.requests.Add(-retired)
		return false
	}
	return true
}

// Retired reports whether Retire was called.
func (b *Breaker) Retired() bool { return b.requests.Load() >= retired }

func (b *Breaker) refuse(format string, args ...any) *refusal.Error {
	p := b.policy.Load()
	return refusal.New(refusal.CircuitBreaker, fmt.Sprintf("%s lets no more through to %s: ", p.ID, b.to)+fmt.Sprintf(format, args...))
}

// under counts one more, unless there are so many; now is how many there were.
func under(n *atomic.Int64, most int) (now int64, ok bool) {
	for {
		now := n.Load()
		if now >= int64(most) {
			return now, false
		}
		if n.CompareAndSwap(now, now+1) {
			return now, true
		}
	}
}
