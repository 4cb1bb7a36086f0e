package httpproxy

import (
	"net/netip"
	"time"

	"sluice.dev/sluice/internal/proxy/upstream"
)

// Director decides about requests. Its methods are called on the connection's
// own goroutine, from many connections at once.
type Director interface {
	// Direct decides about one request from its head. It must not keep x, nor a
	// string that x returned (strings.Clone keeps one).
	Direct(x *Exchange) Direction
	// Done closes the account of a request for which Direct was called. The
	// strings of x are still valid.
	Done(x *Exchange, o Outcome)
	// Refused tells of a request that never came to Direct: malformed, too
	// large, too slow. The client was answered with f, if it was there.
	Refused(info any, f Failure)
}

// Exchange is one request as the Director sees it. One value serves all
// requests of a connection, one after the other.
type Exchange struct {
	Info    any // what Serve was given
	Account any // the Director's own; kept from one request to the next

	head *head
}

// Method returns the method, as the client spelled it.
func (x *Exchange) Method() string { return x.head.text(x.head.method) }

// Target returns the request's target in origin-form: path and query, or "*".
func (x *Exchange) Target() string {
	t := x.head.text(x.head.target)
	if t == "" {
		if x.Method() == "OPTIONS" {
			return "*"
		}
		return "/"
	}
	if t[0] == '?' {
		return "/" + t
	}
	return t
}

// Path returns the target without its query, still percent-encoded.
func (x *Exchange) Path() string {
	t := x.Target()
	for i := range len(t) {
		if t[i] == '?' {
			return t[:i]
		}
	}
	return t
}

// Host returns the Host field, "" where an HTTP/1.0 request had none. Its bytes
// are checked, its meaning is not.
func (x *Exchange) Host() string { return x.head.text(x.head.host) }

// Header returns the first field of that name, which is given in lower case.
func (x *Exchange) Header(lower string) (string, bool) { return x.head.lookup(lower) }

// Values calls yield with the value of each field of that name, which is given in
// lower case, in the order in which they came, until yield returns false.
func (x *Exchange) Values(lower string, yield func(value string) bool) {
	h := x.head
	for i := range h.fields[:h.count] {
		f := &h.fields[i]
		if equalFold(f.name(h.raw), lower) && !yield(h.text(f.value)) {
			return
		}
	}
}

// Upgrade returns the protocol that the client asks to change to, or "".
func (x *Exchange) Upgrade() string {
	p, _ := x.head.upgradesTo()
	return p
}

// HTTP10 says that the client speaks HTTP/1.0.
func (x *Exchange) HTTP10() bool { return x.head.http10 }

// Direction is what is to be done with one request: forward it to Upstream, or
// answer it with Reply.
type Direction struct {
	Upstream *upstream.Pool
	Reply    *Reply

	ID           uint64        // of the decision; 0: none. Told where we answer ourselves
	SetHost      string        // replaces Host where not ""
	DropHeader   []string      // names in lower case that are not forwarded
	AppendHeader []byte        // lines "name: value\r\n", at most 8 KiB
	Timeout      time.Duration // until the answer's last byte; 0: Limits.AnswerTimeout until its head
	AllowUpgrade bool          // pass on a wish to change protocols, and become a relay
	Explain      bool          // tell the client what an upstream's error said
}

// Reply is an answer of our own.
type Reply struct {
	Status int
	Reason string // code in x-sluice-reason
	Text   string // for people; told as text, or as JSON by Accept
	JSON   []byte // a whole JSON object in place of the one made of the above
	Header []byte // lines "name: value\r\n"
	Close  bool   // end the connection afterwards
}

// Outcome is how one exchange ended.
type Outcome struct {
	Status   int     // answered to the client; 0: nothing was
	Failure  Failure // None where the upstream's answer, or the Reply, was delivered whole
	Reason   string  // the failure's code, or the more exact one of a dial error
	Err      error   // what went wrong below
	Sent     int64   // bytes from the client, head and body as they came
	Received int64   // bytes to the client
	Duration time.Duration
	Upstream netip.AddrPort // the zero value where none was reached
	Reused   bool           // the upstream connection was not new
	Upgraded bool           // the connection became a relay
}
