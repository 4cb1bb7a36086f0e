package http1

import (
	"bytes"
	"math"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

// What is different for a call of gRPC: how long it may take by its client's word, and when it
// may be sent again.

// maxTimeoutDigits is the protocol's bound ("at most 8 digits").
const maxTimeoutDigits = 8

// parseCallTimeout reads the value of grpc-timeout; 0 where it is none, or so much that nobody
// waits for it.
func parseCallTimeout(value []byte) time.Duration {
	last := len(value) - 1
	if last < 1 || last > maxTimeoutDigits {
		return 0
	}
	var n time.Duration
	for _, c := range value[:last] {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + time.Duration(c-'0')
	}
	var unit time.Duration
	switch value[last] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0
	}
	if n > math.MaxInt64/2/unit {
		return 0
	}
	return n * unit
}

var (
	grpcTimeoutName = []byte("grpc-timeout")
	grpcStatusName  = []byte("grpc-status")
	unavailable     = []byte("14")
)

// only returns the value of a field that is there once; nil where it is not.
func (h *head) only(lower []byte) (value []byte) {
	for i := range h.fields[:h.count] {
		f := &h.fields[i]
		if !bytes.EqualFold(f.name(h.raw), lower) {
			continue
		}
		if value != nil {
			return nil
		}
		value = h.bytes(f.value)
	}
	return value
}

// boundCall bounds a call by its client's word, which can make its time shorter alone. The field
// itself goes on as it is: its server counts too. late says that nothing is left.
func (d *conn) boundCall(dir *exchange.Direction, start time.Duration) (late *refusal.Error) {
	if !d.x.GRPC {
		return nil
	}
	timeout := parseCallTimeout(d.head.only(grpcTimeoutName))
	if timeout == 0 {
		return nil
	}
	left := start + timeout - d.server.now()
	if left <= 0 {
		return refusal.New(refusal.UpstreamTimeout, "")
	}
	if dir.HeadTimeout == 0 || left < dir.HeadTimeout {
		dir.HeadTimeout = left
	}
	if until := start + timeout; d.until == 0 || until < d.until {
		d.until = until
	}
	d.watch.set(waiting, d.deadline(d.server.limits.AnswerTimeout)) // the alarm is of a whole request alone
	return nil
}

// saysUnavailable reports whether an answer is one of gRPC that says UNAVAILABLE and nothing
// more: its server has done nothing with the call.
func (h *head) saysUnavailable() bool {
	return h.status == 200 && !h.chunked && h.length == 0 && bytes.Equal(h.only(grpcStatusName), unavailable)
}

// gather waits a moment for the rest of a call that may be sent again, for only what is held
// whole can be: clients send a short one in one go, but in frames of their own. It reports
// whether all of it is in the buffer; bad is why it is refused.
func (d *conn) gather() (whole bool, bad cause) {
	q, chunks, limit := &d.request, &d.scratch.chunks, d.server.limits.MaxBodyBytes
	if d.stream == nil || !d.head.chunked {
		return false, fine
	}
	d.tcp.SetReadDeadline(time.Now().Add(d.server.limits.GatherTimeout))
	for !q.complete {
		if d.w == len(d.scratch.in) && (len(d.scratch.in) >= inSize || !d.growIn(inSize, true)) {
			break
		}
		n, err := d.tcp.Read(d.scratch.in[d.w:])
		if err != nil {
			break // it will say so again, unless it was our deadline
		}
		data, used, bad := chunks.decode(d.scratch.in[d.w : d.w+n])
		if bad == fine && limit > 0 && int64(q.body+data) > limit {
			bad = longBody
		}
		if bad != fine {
			d.tcp.SetReadDeadline(time.Time{})
			return false, bad
		}
		copy(d.scratch.in[d.r+q.head+q.body:], d.scratch.in[d.w:d.w+data])
		d.w += n
		q.body, q.size, q.complete = q.body+data, q.size+used, chunks.done()
	}
	d.tcp.SetReadDeadline(time.Time{})
	return q.complete && !d.interrupted(), fine // which set the deadline that was just taken back
}
