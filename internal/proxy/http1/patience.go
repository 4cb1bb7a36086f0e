package http1

import "time"

// patience is how long the rest of a short body is waited for before its request is sent
// on without it: whole, it leaves in one write; but an upstream may have an answer to
// half of it.
const patience = 50 * time.Millisecond

// bePatient begins to wait, where a request is in the buffer but for the rest of its
// body. A deadline is set inside the callback, and ends the wait that follows.
func (d *conn) bePatient() {
	if q := &d.request; d.patient || d.w == 0 || !q.parsed || q.complete || q.halting {
		return
	}
	d.patient = true
	d.tcp.SetReadDeadline(time.Now().Add(d.server.patience))
	d.heedInterrupt()
}

// endPatience ends the wait: the request is served.
func (d *conn) endPatience() {
	if !d.patient {
		return
	}
	d.patient = false
	d.tcp.SetReadDeadline(time.Time{})
	d.heedInterrupt()
}

// losesPatience says whether err is the end of that wait, and not of the connection.
func (d *conn) losesPatience(err error) bool {
	if !d.patient || !isTimeout(err) || d.watch.fired() {
		return false
	}
	d.endPatience()
	d.request.halting = true
	return true
}

// heedInterrupt brings back the deadline of an interrupt that came while another was set.
func (d *conn) heedInterrupt() {
	if d.watch.fired() {
		d.tcp.SetDeadline(longAgo)
	}
}
