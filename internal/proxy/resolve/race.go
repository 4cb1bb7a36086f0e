package resolve

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Bounds of a dial.
const (
	// ConnectTimeout is the default bound on all attempts of one dial together, from the
	// first that connects.
	ConnectTimeout = 10 * time.Second
	// AttemptDelay is how long one attempt to connect is ahead of the next (RFC 8305,
	// section 5). Where a name has so many addresses that the last ones would not get
	// their turn within the timeout it is less, but not below MinAttemptDelay.
	AttemptDelay    = 250 * time.Millisecond
	MinAttemptDelay = 100 * time.Millisecond
	// ProveDelay is how long an attempt whose server took the connection has for the
	// rest, such as a proof, before others are tried beside it.
	ProveDelay = time.Second
	// MaxAttempts is how many attempts of one dial run at a time. For a further one the
	// oldest is given up.
	MaxAttempts = 8
	// turnsAlone is how many turns the oldest attempt has where no further one may run beside
	// it, because the workload has as many connections as it may.
	turnsAlone = 4
)

// Try makes one attempt. What it returns is closed where another attempt was faster;
// it returns soon after ctx has ended. It says by the Attempt how far it is.
type Try func(ctx context.Context, a *Attempt) (*net.TCPConn, error)

// Attempt is one address's turn. Until Connecting is called it waits for something that
// other addresses would wait for too, so none is tried beside it.
type Attempt struct {
	To netip.AddrPort

	ctx    context.Context
	cancel context.CancelCauseFunc
	events chan<- event
	stage  stage // and what follows are the race's
	lost   bool  // to one that connected; it may be tried again
	late   bool  // it had its time
	waited int   // turns that others waited for, because they had no socket
}

type stage uint8

const (
	begun      stage = iota // but it waits for its turn
	connecting              // others may be tried beside it
	connected               // it is ahead of all others
	slow                    // connected for longer than ProveDelay
	ended
)

// event is what an attempt reports; with ended also what came of it.
type event struct {
	of    *Attempt
	stage stage
	conn  *net.TCPConn
	err   error
}

// Connecting says that the attempt begins to connect, once more perhaps.
func (a *Attempt) Connecting() { a.report(connecting) }

// Connected says that the server took a connection, though it is not yet what is
// wanted: the attempts that are still connecting are ended.
func (a *Attempt) Connected() { a.report(connected) }

func (a *Attempt) report(s stage) {
	select {
	case a.events <- event{of: a, stage: s}:
	case <-a.ctx.Done():
	}
}

// race is one dial at work, in the hands of one goroutine.
type race struct {
	target Target
	try    Try
	total  time.Duration

	ctx      context.Context
	cancel   context.CancelCauseFunc
	events   chan event
	queue    queue
	running  []*Attempt // the oldest first
	failures []failure
	next     *time.Timer // begins the next attempt
	deadline *time.Timer // nil before the first one connects
	expired  <-chan time.Time
	late     *flight
	over     bool // nothing is begun any more
	timedOut bool
}

// race tries the candidates (RFC 8305): the families in turn, AttemptDelay after one
// another, at once where one failed. All that it began has ended when it returns.
func (d *Dialer) race(ctx context.Context, t Target, known candidates, try Try) (*net.TCPConn, netip.AddrPort, error) {
	r := race{target: t, try: try, total: d.timeout, events: make(chan event), late: known.late, next: time.NewTimer(0)}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	defer r.finish()
	r.queue.add(known.addrs)
	stopped, more := ctx.Done(), r.late.finished()
	for len(r.running) > 0 || !r.over && (r.queue.len() > 0 || r.late != nil) {
		select {
		case <-r.next.C:
			r.begin()
		case e := <-r.events:
			if r.note(e); e.conn != nil {
				return e.conn, e.of.To, nil
			}
		case <-more:
			more = nil
			r.join(r.late.found.addrs)
			r.late = nil
		case <-r.expired:
			r.timedOut, r.over = true, true
			r.cancel(context.DeadlineExceeded)
		case <-stopped:
			stopped, r.over = nil, true
		}
	}
	return nil, netip.AddrPort{}, r.outcome(ctx)
}

// begin begins the next attempt, if there is one to begin.
func (r *race) begin() {
	for _, a := range r.running {
		switch a.stage {
		case begun:
			return // the next would wait for the same
		case connected:
			a.stage = slow
		}
	}
	if r.ctx.Err() != nil || r.queue.len() == 0 {
		return
	}
	beside := len(r.running) > 0 && r.target.Open != nil
	if len(r.running) >= MaxAttempts || beside && !r.target.Open.Try(1) {
		oldest := r.running[0]
		if oldest.waited++; len(r.running) < MaxAttempts && oldest.waited < turnsAlone {
			r.next.Reset(r.pace())
			return
		}
		oldest.late = true
		oldest.cancel(context.DeadlineExceeded) // its end begins the next
		return
	}
	a := &Attempt{To: netip.AddrPortFrom(r.queue.next(), r.target.Port), events: r.events}
	a.ctx, a.cancel = context.WithCancelCause(r.ctx)
	r.running = append(r.running, a)
	go func() {
		conn, err := r.try(a.ctx, a)
		a.cancel(nil)
		if beside {
			r.target.Open.Give(1)
		}
		r.events <- event{a, ended, conn, err}
	}()
}

// note takes in what an attempt reports.
func (r *race) note(e event) {
	a := e.of
	if e.stage != ended {
		if a.ctx.Err() != nil {
			return
		}
		a.stage = e.stage
	}
	switch e.stage {
	case connecting:
		if r.deadline == nil {
			r.deadline = time.NewTimer(r.total)
			r.expired = r.deadline.C
		}
		r.next.Reset(r.pace())
	case connected:
		for _, other := range r.running {
			if other != a && other.stage <= connecting {
				other.lost = true
				other.cancel(nil)
			}
		}
		r.next.Reset(ProveDelay)
	case ended:
		r.running = slices.DeleteFunc(r.running, func(other *Attempt) bool { return other == a })
		if e.conn == nil {
			r.lose(a, e.err)
		}
	}
}

// lose takes in that an attempt brought no connection.
func (r *race) lose(a *Attempt, err error) {
	cancelled := errors.Is(err, context.Canceled)
	switch {
	case a.lost && !r.over:
		r.queue.addFirst(a.To.Addr())
	case cancelled && (a.late || r.timedOut):
		r.failures = append(r.failures, failure{a.To, context.DeadlineExceeded})
	case cancelled && len(r.failures) > 0: // it was ended by what ended the dial
	default:
		r.failures = append(r.failures, failure{a.To, err})
	}
	if !slices.ContainsFunc(r.running, func(other *Attempt) bool { return other.stage == connected }) {
		r.next.Reset(0)
	}
}

// join takes in the addresses that came later.
func (r *race) join(addrs []netip.Addr) {
	allowed, _, _ := r.target.Consent.Sift(addrs)
	idle := r.queue.len() == 0
	r.queue.add(allowed)
	if idle && len(r.running) == 0 {
		r.next.Reset(0)
	} else if idle && r.deadline != nil && !slices.ContainsFunc(r.running, func(a *Attempt) bool { return a.stage == connected }) {
		r.next.Reset(r.pace())
	}
}

// pace is how long the next attempt waits.
func (r *race) pace() time.Duration {
	return min(AttemptDelay, max(MinAttemptDelay, r.total*3/4/time.Duration(max(1, r.queue.known()))))
}

// outcome is the error of a race that nobody won.
func (r *race) outcome(ctx context.Context) error {
	if len(r.failures) == 0 {
		return failed(reasonOf(ctx.Err()), r.target.Name, nil, context.Cause(ctx))
	}
	slices.SortStableFunc(r.failures, func(a, b failure) int { // as DNS gave them: many end at once
		return cmp.Compare(slices.Index(r.queue.seen, a.to.Addr()), slices.Index(r.queue.seen, b.to.Addr()))
	})
	return raceError(r.target, r.failures)
}

// finish ends what still runs and waits for it.
func (r *race) finish() {
	r.cancel(nil)
	r.next.Stop()
	if r.deadline != nil {
		r.deadline.Stop()
	}
	for open := len(r.running); open > 0; {
		if e := <-r.events; e.stage == ended {
			open--
			if e.conn != nil {
				e.conn.Close()
			}
		}
	}
}

// queue holds the addresses that are still to be tried and gives the families in turn,
// IPv6 first, each in the order in which DNS gave it (RFC 8305, section 4).
type queue struct {
	v6, v4 []netip.Addr
	seen   []netip.Addr // all that were added
	turn4  bool
}

// add appends those that are not known yet.
func (q *queue) add(addrs []netip.Addr) {
	for _, a := range addrs {
		if slices.Contains(q.seen, a) {
			continue
		}
		q.seen = append(q.seen, a)
		family := q.of(a)
		*family = append(*family, a)
	}
}

// addFirst gives one back.
func (q *queue) addFirst(a netip.Addr) {
	family := q.of(a)
	*family = append([]netip.Addr{a}, *family...)
}

func (q *queue) of(a netip.Addr) *[]netip.Addr {
	if a.Is4() {
		return &q.v4
	}
	return &q.v6
}

func (q *queue) len() int   { return len(q.v6) + len(q.v4) }
func (q *queue) known() int { return len(q.seen) }

// next takes one out; there must be one.
func (q *queue) next() netip.Addr {
	family := &q.v6
	if q.turn4 && len(q.v4) > 0 || len(q.v6) == 0 {
		family = &q.v4
	}
	a := (*family)[0]
	*family = (*family)[1:]
	q.turn4 = family == &q.v6
	return a
}
