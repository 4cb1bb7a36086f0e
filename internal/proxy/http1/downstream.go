package http1

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/rawio"
	"sluice.dev/sluice/internal/refusal"
)

// next is what a connection does after a piece of work.
type next uint8

const (
	readMore   next = iota // wait for bytes, inside the callback
	serveNext              // there may be another request in the buffer
	leaveLong              // serve the pending request outside the callback
	parkNow                // wait for the next request without a goroutine
	lingerThen             // end, but let the client read its last answer
	endNow
)

// conn is one client connection. All of it belongs to the goroutine that serves it,
// but watch, wait and the atomic flags; to nobody while it is parked.
type conn struct {
	server   *Server
	tcp      client
	raw      syscall.RawConn
	stream   Stream // tcp, where that is one; raw is nil then
	stepFunc func(uintptr) bool
	ctx      context.Context
	director exchange.Director
	x        exchange.Request
	head     *head // of the request at r; nil: it could not be read

	fd     uintptr
	inside bool // the callback: raw system calls are allowed
	then   next // what to do when the callback returned true

	scratch *scratch
	held    int      // of the server's memory
	r, w    int      // in scratch.in: what is not served yet
	scanned int      // bytes after r in which there is no line end to look for
	request request  // at r, as far as it was read
	skipped bool     // an empty line was, before it
	patient bool     // a read deadline runs, for the rest of a short body
	long    *longRun // leaveLong: what Direct said

	bound []exchange.Upstream // see bound.go
	kept  []exchange.Stream   // one for each of bound
	binds bool                // the exchange's stream is for this client alone

	asked    string // the change of protocol that was passed on, a view; "" none
	received int64  // bytes sent to the client in this exchange
	until    time.Duration

	begun      time.Duration         // when the exchange was decided about
	headBy     time.Duration         // when the answer's head must be there, attempts included; 0: whenever
	patienceOf time.Duration         // the time-out of the attempt under way, for its error
	retry      exchange.Retrier      // of the request under way, where all of it is in the buffer
	attempts   int                   // at an answer to it
	edits      *exchange.AnswerEdits // of its answer; nil: none
	waits      exchange.Waits        // for connections to send it on
	first      time.Duration         // when the first byte of its answer came; 0: none has

	watch   watch
	wait    waits
	alarm   alarm
	aborted atomic.Bool
	gone    atomic.Bool

	untilFIN atomic.Bool // what is waited for ends with the client's side

	life    Life        // nil: it is not to be parked
	unwatch func() bool // ends the watch on ctx
	place   parkingPlace
	turned  *turn // to HTTP/2; nil: it is not
	later   bool  // a request was served

	newer, older *conn // in Server.newest, under its mutex
	seenWaiting  int64 // the sweeper's
	seenAt       time.Duration
}

// request is where a parsed request lies in the buffer, from conn.r.
type request struct {
	parsed   bool
	timed    bool  // its deadline runs
	halting  bool  // the rest of its short body is not waited for any more
	head     int   // size of the head
	body     int   // bytes of body in the buffer, as data
	size     int   // of head and body as they came
	complete bool  // the body is all there
	pumped   int64 // bytes that came later and passed by the buffer
}

func newConn(s *Server, tcp *net.TCPConn, director exchange.Director) (*conn, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	d := &conn{server: s, tcp: tcp, raw: raw, director: director}
	d.stepFunc = d.step
	return d, nil
}

// takePrefix puts what was read before into the buffer.
func (d *conn) takePrefix(prefix []byte) {
	if len(prefix) == 0 {
		return
	}
	d.takeScratch()
	if len(prefix) > len(d.scratch.in) {
		d.growIn(len(prefix), false)
	}
	d.w = copy(d.scratch.in, prefix)
}

// serve is the life of the connection while it is awake: it lives inside one wait of the
// poller, and leaves it for what takes long. It reports whether the connection was parked;
// then it is another's. Else it has ended.
func (d *conn) serve() (parked bool) {
	for {
		err := d.read()
		d.inside = false
		then := d.then
		switch {
		case err == nil:
		case d.losesPatience(err):
			then = serveNext
		case d.followsCall(err):
			then = parkNow
		default:
			d.timedOut()
			return false
		}
		for then == leaveLong || then == serveNext {
			if then == leaveLong {
				then = d.serveLong()
			} else {
				then = d.serveBuffered()
			}
		}
		switch then {
		case parkNow:
			if d.server.park(d) {
				return true
			}
		case lingerThen:
			d.linger()
			return false
		case endNow:
			return false
		}
	}
}

// end gives back all that the connection holds, and closes it.
func (d *conn) end() {
	d.release()
	d.endBound()
	d.endAlarm()
	if d.unwatch != nil {
		d.unwatch()
	}
	d.server.parking.forget(d)
	d.server.remove(d)
	d.tcp.Close()
	if d.place.stays {
		d.life.Leave()
	}
}

// step serves what has come. It returns false to wait for more, inside the
// callback, and true to leave it with then set.
func (d *conn) step(fd uintptr) bool {
	d.inside, d.fd = d.stream == nil, fd
	for {
		if d.scratch == nil {
			d.takeScratch()
			d.r, d.w = 0, 0
		}
		if d.w > d.r {
			if d.then = d.serveBuffered(); d.then != readMore {
				return true
			}
		}
		if !d.makeRoom() {
			d.then = d.refuse(d.server.limits.request(longHead))
			return true
		}
		n, errno := d.readNow(d.scratch.in[d.w:])
		switch {
		case errno == syscall.EAGAIN:
			// Reading until here, and not until a short read: data and FIN
			// that arrive together give one edge.
			if d.w == 0 {
				d.release()
				if d.maySleep() {
					d.then = parkNow
					return true
				}
			}
			d.bePatient()
			d.inside = false
			return false
		case errno != 0 || n == 0:
			if d.w > 0 {
				d.director.Refused(exchange.Outcome{Failure: refusal.New(refusal.ClientGone, ""), Sent: int64(d.w - d.r)})
			}
			d.then = endNow
			return true
		}
		d.w += n
		if d.stream != nil {
			d.readAhead()
		}
	}
}

// readAhead reads more of a stream whose buffer is full: what is there already is looked at in
// one, for a body that is all there can be sent again.
func (d *conn) readAhead() {
	for d.w == len(d.scratch.in) && len(d.scratch.in) < inSize && d.growIn(inSize, true) {
		n, errno := d.readNow(d.scratch.in[d.w:])
		if errno != 0 {
			return // it will say so again
		}
		d.w += n
	}
}

// release gives the scratch back.
func (d *conn) release() {
	if d.scratch != nil {
		d.scratch.giveBack()
		d.scratch = nil
		d.server.memory.give(d.held)
		d.held = 0
	}
	d.head, d.x, d.asked = nil, exchange.Request{}, ""
	d.r, d.w, d.scanned = 0, 0, 0
	d.request = request{}
}

// makeRoom leaves room to read into: the rest of a request moves to the front,
// and a head that fills the buffer gets a larger one.
func (d *conn) makeRoom() bool {
	if d.r > 0 {
		d.w = copy(d.scratch.in, d.scratch.in[d.r:d.w])
		d.r = 0
	}
	if d.w < len(d.scratch.in) {
		return true
	}
	if len(d.scratch.in) > d.server.limits.MaxHeaderBytes {
		return false
	}
	return d.growIn(d.server.limits.MaxHeaderBytes+inSize, false)
}

// serveBuffered serves the complete requests in the buffer, one after the
// other. It returns readMore when it needs bytes.
func (d *conn) serveBuffered() next {
	for d.w > d.r {
		if d.skipEmptyLine() {
			continue
		}
		ready, bad := d.ready()
		if bad == http2Preface && d.turns() {
			return endNow
		}
		if bad != fine {
			return d.refuse(d.server.limits.request(bad))
		}
		if !ready {
			if !d.timeRequest() {
				return endNow
			}
			return readMore
		}
		if then := d.exchange(); then != serveNext {
			return then
		}
	}
	return readMore
}

// timeRequest runs the deadline of a request that is not all there: one for
// its head, and one that each piece of its body starts anew.
func (d *conn) timeRequest() bool {
	l := &d.server.limits
	switch {
	case d.request.parsed:
		return d.awake(reading, d.server.now()+l.TransferTimeout)
	case !d.request.timed:
		d.request.timed = true
		return d.awake(reading, d.server.now()+l.HeaderTimeout)
	}
	return true
}

// ready says whether the request at r can be served: its head is there, and its
// body too where that fits into the buffer.
func (d *conn) ready() (bool, cause) {
	in := d.scratch.in[d.r:d.w]
	q := &d.request
	if !q.parsed {
		limit := d.server.limits.MaxHeaderBytes
		if d.scanned > 0 && len(in) < limit && bytes.IndexByte(in[d.scanned:], '\n') < 0 {
			d.scanned = len(in)
			return false, fine
		}
		size, bad := d.scratch.req.parseRequest(in, limit)
		if bad != fine {
			return false, bad
		}
		if size == 0 {
			d.scanned = len(in)
			return false, fine
		}
		d.scanned = 0
		q.parsed, q.head, q.size = true, size, size
		d.head = &d.scratch.req
	}
	h := &d.scratch.req
	if whole := int64(q.head) + h.length; whole > int64(len(d.scratch.in)) && whole <= inSize && len(d.scratch.in) < inSize && d.growIn(inSize, true) {
		in = d.scratch.in[d.r:d.w]
	}
	h.raw = in[:q.head] // it may have moved
	limit := d.server.limits.MaxBodyBytes
	switch {
	case h.chunked:
		return true, d.decodeBuffered(in[q.head:])
	case h.length <= 0:
		q.complete = true
	case limit > 0 && h.length > limit:
		return false, longBody
	case int64(q.head)+h.length <= int64(len(in)):
		q.complete = true
		q.body = int(h.length)
		q.size = q.head + q.body
	case !h.expects && !q.halting && int64(q.head)+h.length <= int64(len(d.scratch.in)):
		return false, fine // the rest of a short body is on its way
	default:
		q.body = len(in) - q.head
		q.size = len(in)
	}
	return true, fine
}

// decodeBuffered decodes what is there of a chunked body, in place.
func (d *conn) decodeBuffered(b []byte) cause {
	chunks := &d.scratch.chunks
	chunks.reset(false)
	data, used, bad := chunks.decode(b)
	if bad != fine {
		return bad
	}
	if limit := d.server.limits.MaxBodyBytes; limit > 0 && int64(data) > limit {
		return longBody
	}
	q := &d.request
	q.body, q.size, q.complete = data, q.head+used, chunks.done()
	return fine
}

// requestServed moves on to what follows the request in the buffer.
func (d *conn) requestServed() {
	d.r += d.request.size
	d.request, d.skipped = request{}, false
}

// skipEmptyLine skips one before a request line (RFC 9112, section 2.2). Another one is
// refused as what it is, no request line.
func (d *conn) skipEmptyLine() bool {
	in := d.scratch.in[d.r:d.w]
	if d.skipped || d.request.parsed || len(in) < 2 || in[0] != '\r' || in[1] != '\n' {
		return false
	}
	d.r, d.scanned, d.skipped = d.r+2, 0, true
	return true
}

// write sends b to the client. Where the client reads slower than we write it
// parks, until the sweeper finds that nothing moved for too long.
func (d *conn) write(b []byte) bool {
	d.received += int64(len(b))
	if d.inside {
		n, errno := rawio.Write(d.fd, b)
		if errno == 0 && n == len(b) {
			return true
		}
		if errno != 0 && errno != syscall.EAGAIN {
			return false
		}
		b = b[n:]
	}
	if !d.watch.set(moving, d.deadline(d.server.limits.TransferTimeout)) {
		d.tcp.SetWriteDeadline(time.Now().Add(stallTime))
		if d.aborted.Load() { // after the deadline, as in linger
			return false
		}
	}
	_, err := d.tcp.Write(b)
	return err == nil
}

// deadline is d from now, or the exchange's own time-out where that is sooner.
func (d *conn) deadline(wait time.Duration) time.Duration {
	at := d.server.now() + wait
	if d.until > 0 && d.until < at {
		return d.until
	}
	return at
}

// timedOut ends a connection whose wait for a request was ended: with an answer
// if there is half a request.
func (d *conn) timedOut() {
	if d.w == d.r || d.aborted.Load() || !d.watch.fired() {
		return
	}
	if d.refuse(refusal.New(refusal.RequestTimeout, "")) == lingerThen {
		d.linger()
	}
}

// abort ends the connection and its exchange, from any goroutine.
func (d *conn) abort() {
	d.aborted.Store(true)
	d.watch.word.Store(fired)
	d.interrupt()
}

// linger lets the client read the last answer: closing a socket that holds
// unread bytes would reset it, and the answer with it.
func (d *conn) linger() {
	if d.tcp.CloseWrite() != nil {
		return
	}
	if d.scratch == nil {
		d.takeScratch()
	}
	d.awake(lingering, d.server.now()+2*lingerTime)
	d.tcp.SetReadDeadline(time.Now().Add(lingerTime))
	// Looked at after the deadline was set: an abort sets its own the other way
	// round, so that one of the two sees the other.
	for total := 0; total < lingerBytes && !d.aborted.Load(); {
		n, err := d.tcp.Read(d.scratch.in)
		if err != nil {
			return
		}
		total += n
	}
}
