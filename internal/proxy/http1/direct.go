package http1

import (
	"context"
	"fmt"
	"time"

	"sluice.dev/sluice/internal/httpfield"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

// exchange asks about the request at r and follows the answer.
func (d *conn) exchange() next {
	d.endPatience()
	d.later = true
	start := d.server.now()
	d.received, d.until = 0, 0
	d.begun, d.headBy, d.attempts, d.retry, d.edits = start, 0, 0, nil, nil
	d.waits, d.first = exchange.Waits{}, 0
	if d.alarm.at.Load() != unset { // of an exchange that ended before its answer
		d.alarm.at.Store(unset)
	}
	if !d.awake(waiting, start+d.server.limits.AnswerTimeout) {
		return endNow
	}
	d.describe(d.head)
	direction := d.director.Direct(&d.x)
	if direction.Later != nil {
		return d.leave(&direction, start)
	}
	return d.follow(&direction, start)
}

// follow answers or forwards a request, inside the callback where its body is in
// the buffer.
func (d *conn) follow(dir *exchange.Direction, start time.Duration) next {
	if dir.Reply != nil && dir.Upstream == nil {
		return d.local(dir, start)
	}
	if fault := d.unfollowable(dir); fault != "" {
		return d.failed(dir, start, result{failure: internal(fault)})
	}
	d.edits = dir.Answer
	if dir.SetHost == "" && d.x.Host == "" {
		return d.failed(dir, start, result{failure: refusal.New(refusal.NoHost, "")})
	}
	if dir.Timeout > 0 {
		d.until = start + dir.Timeout
		d.watch.set(waiting, d.until)
	}
	if late := d.boundCall(dir, start); late != nil {
		return d.failed(dir, start, result{failure: late})
	}
	if dir.HeadTimeout > d.server.limits.AnswerTimeout {
		by := d.begun + dir.HeadTimeout + sweepAtMost // the alarm comes first
		if d.until > 0 {
			by = min(by, d.until)
		}
		d.watch.set(waiting, by)
	}
	if !d.request.complete || dir.AllowUpgrade && d.x.Upgrade != "" {
		return d.leave(dir, start)
	}
	return d.forward(dir, start)
}

// longRun is a request that is served outside the callback.
type longRun struct {
	direction exchange.Direction
	start     time.Duration
}

// leave goes on with a request outside the callback.
func (d *conn) leave(dir *exchange.Direction, start time.Duration) next {
	d.long = &longRun{direction: *dir, start: start}
	if d.inside {
		return leaveLong
	}
	return d.serveLong()
}

// serveLong decides about a request that needs time for it, and serves one whose
// body does not fit into the buffer or that may become a relay.
func (d *conn) serveLong() next {
	run := d.long
	d.long = nil
	if run.direction.Later == nil {
		if d.x.GRPC && run.direction.Retry != nil {
			whole, bad := d.gather()
			switch {
			case bad != fine:
				return d.failed(&run.direction, run.start, result{failure: d.server.limits.request(bad), closes: true})
			case whole:
				return d.forward(&run.direction, run.start)
			}
		}
		return d.forwardLong(&run.direction, run.start)
	}
	direction, late := d.decideLater(&run.direction, run.start)
	if late != nil {
		return d.failed(&direction, run.start, result{failure: late})
	}
	return d.follow(&direction, run.start)
}

// decideLater asks for the decision that needs time. Whatever ends the exchange
// meanwhile ends the asking; late says what it was.
func (d *conn) decideLater(dir *exchange.Direction, start time.Duration) (_ exchange.Direction, late *refusal.Error) {
	if dir.Upstream != nil || dir.Reply != nil {
		return exchange.Direction{ID: dir.ID}, internal("a Direction with Later and more")
	}
	if dir.Timeout > 0 {
		d.until = start + dir.Timeout
		d.watch.set(waiting, d.until)
	}
	ctx, done := d.interruptible()
	defer done()
	d.untilFIN.Store(dir.UntilFIN)
	direction := dir.Later(ctx)
	d.untilFIN.Store(false)
	if direction.ID == 0 {
		direction.ID = dir.ID
	}
	d.until = 0
	d.begun = d.server.now()
	switch {
	case d.gone.Load():
		late = refusal.New(refusal.ClientGone, "")
	case d.ended():
		late = refusal.New(refusal.Withdrawn, "")
	case !d.watch.set(waiting, d.begun+d.server.limits.AnswerTimeout):
		late = refusal.New(refusal.DecisionTimeout, "")
	case direction.Later != nil:
		late = internal("a Direction with Later from a Later")
	}
	return direction, late
}

// interruptible returns a context that ends with the connection, its client, or
// the deadline of what it is doing.
func (d *conn) interruptible() (ctx context.Context, done func()) {
	ctx, cancel := context.WithCancel(d.ctx)
	d.wait.mu.Lock()
	d.wait.cancel = cancel
	d.wait.mu.Unlock()
	if d.interrupted() {
		cancel()
	}
	return ctx, func() {
		d.wait.mu.Lock()
		d.wait.cancel = nil
		d.wait.mu.Unlock()
		cancel()
	}
}

// internal says what of a direction cannot be followed.
func internal(fault string) *refusal.Error {
	return &refusal.Error{Reason: refusal.Internal, Err: publicText(fault)}
}

// unsendableTarget says what is wrong with the target that a direction sets, or "".
func (d *conn) unsendableTarget(dir *exchange.Direction) string {
	switch set := dir.SetTarget; {
	case dir.CutTarget < 0 || dir.CutTarget > len(d.x.Target):
		return "a CutTarget beyond the target"
	case set == "" || set[0] != '/' || !all([]byte(set), targetByte):
		return "a SetTarget that is not a path"
	case len(set) > exchange.MaxTargetBytes:
		return "a SetTarget of more than 4 KiB"
	}
	return ""
}

// unfollowable says what is wrong with a direction to an upstream, or "".
func (d *conn) unfollowable(dir *exchange.Direction) string {
	if dir.SetTarget != "" || dir.CutTarget != 0 {
		if fault := d.unsendableTarget(dir); fault != "" {
			return fault
		}
	}
	switch {
	case dir.Upstream == nil:
		return "a Direction without Upstream, Reply and Later"
	case dir.Reply != nil:
		return "a Direction with Upstream and Reply"
	case dir.SetHost != "" && !httpfield.IsAuthority(dir.SetHost):
		return "a SetHost that is not an authority"
	}
	for _, name := range dir.Remove {
		if !exchange.Editable(name) {
			return fmt.Sprintf("Remove of the field %q", name)
		}
	}
	if len(dir.Set)+len(dir.Append) > 0 {
		if fault := unaddable(dir.Set, dir.Append); fault != "" {
			return fault
		}
	}
	if dir.Answer != nil {
		return unaddable(dir.Answer.Set, dir.Answer.Append)
	}
	return ""
}

// unaddable says what is wrong with fields to add to one head, or "".
func unaddable(set, appended []exchange.Field) string {
	size := 0
	for _, list := range [...][]exchange.Field{set, appended} {
		for i := range list {
			f := &list[i]
			size += len(f.Name) + len(f.Value)
			if !exchange.Editable(f.Name) || !all([]byte(f.Name), tokenByte) {
				return fmt.Sprintf("Set or Append of the field %q", f.Name)
			}
			if !isValue([]byte(f.Value)) {
				return fmt.Sprintf("a value of the field %q with a control byte", f.Name)
			}
		}
	}
	if size > exchange.MaxFieldBytes {
		return "fields to add of more than 8 KiB"
	}
	return ""
}
