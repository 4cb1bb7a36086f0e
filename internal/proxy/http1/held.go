package http1

import "time"

// holdTime is how long the head of a chunked answer waits for the first chunk. A
// server that has nothing to say yet, such as one of events, is not kept from its
// client for longer.
const holdTime = 100 * time.Millisecond

// heldHead is the head of an answer that is sent by itself where the first chunk does
// not come in time. Meanwhile the connection's goroutine reads from the upstream.
type heldHead struct {
	timer *time.Timer
	done  chan struct{} // closed once the head was sent, or could not be
	ok    bool          // it was sent
}

// hold begins to hold a head back. Nothing else may be sent before end was called.
func (d *conn) hold(head []byte) *heldHead {
	h := &heldHead{done: make(chan struct{})}
	h.timer = time.AfterFunc(d.server.holdTime, func() {
		h.ok = d.write(head)
		close(h.done)
	})
	return h
}

// end ends the holding, where it was begun. It returns the head if that still has to
// be sent, and whether the client is still there.
func (h *heldHead) end(head []byte) (unsent []byte, there bool) {
	if h == nil || h.timer.Stop() {
		return head, true
	}
	<-h.done
	return nil, h.ok
}
