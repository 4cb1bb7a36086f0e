package http1

import (
	"fmt"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/refusal"
)

// alarm ends an attempt whose answer's head does not come in time: to the point, while
// the sweeper looks once a second, and without ending the client's connection. Its timer
// is wound seldom: it looks when it rings whether there is something that is late, so that
// a steady connection pays two stores for each request.
type alarm struct {
	at    atomic.Int64 // when it rings, or one of the below
	next  atomic.Int64 // when the timer looks; 0: it does not. Changed under waits.mu
	timer *time.Timer  // under waits.mu; nil before the first
}

const (
	unset    = 0
	rung     = -1 // it rang, and ended the attempt
	answered = -2 // the answer's head came: it rings for this exchange no more
)

// setAlarm lets it ring at a time.
func (d *conn) setAlarm(at time.Duration) {
	d.alarm.at.Store(int64(at))
	d.windAlarm(at)
}

// setAlarmOnce lets it ring at a time, unless the answer's head is there already. The pump
// calls it.
func (d *conn) setAlarmOnce(at time.Duration) {
	if d.alarm.at.CompareAndSwap(unset, int64(at)) {
		d.windAlarm(at)
	}
}

// windAlarm is called after at was stored: either it sees that the timer does not look in
// time, or the timer sees at.
func (d *conn) windAlarm(at time.Duration) {
	if next := d.alarm.next.Load(); next != 0 && next <= int64(at) {
		return
	}
	d.wait.mu.Lock()
	defer d.wait.mu.Unlock()
	d.alarm.wind(d, at)
}

// wind is called with waits.mu held.
func (a *alarm) wind(d *conn, at time.Duration) {
	wait := max(at-d.server.now(), time.Millisecond)
	if a.timer == nil {
		a.timer = time.AfterFunc(wait, d.ring)
	} else {
		a.timer.Reset(wait)
	}
	a.next.Store(int64(at))
}

// ring ends the attempt that is late.
func (d *conn) ring() {
	d.wait.mu.Lock()
	defer d.wait.mu.Unlock()
	a := &d.alarm
	a.next.Store(0)
	at := a.at.Load()
	switch {
	case at <= 0:
	case int64(d.server.now()) < at:
		a.wind(d, time.Duration(at))
	case a.at.CompareAndSwap(at, rung):
		d.wait.endLocked()
	}
}

// stopAlarm says that the answer's head is there, and reports whether it came too late. A
// pump that is there may set the alarm later: it must find that.
func (d *conn) stopAlarm(pumping bool) (late bool) {
	return (pumping || d.alarm.at.Load() != unset) && d.alarm.at.Swap(answered) == rung
}

// interrupted reports whether the sweeper or the alarm has ended what is under way: either
// may have come before it could see what there is to abort.
func (d *conn) interrupted() bool { return d.watch.fired() || d.alarm.at.Load() == rung }

// endAlarm ends it with the connection.
func (d *conn) endAlarm() {
	d.wait.mu.Lock()
	defer d.wait.mu.Unlock()
	d.alarm.at.Store(unset)
	if d.alarm.timer != nil {
		d.alarm.timer.Stop()
	}
}

// late says that there was no answer in time; nil where the alarm did not ring.
func (d *conn) late() *refusal.Error {
	if d.alarm.at.Load() != rung {
		return nil
	}
	return &refusal.Error{Reason: refusal.UpstreamTimeout, Err: publicText(fmt.Sprintf("no answer within %v", d.patienceOf))}
}
