// Package exchange is the contract for one HTTP request and its answer, whatever
// the version: what an engine (http1) shows, what a Director says about it, and
// what an Upstream is. The engines, the directors of gate, egress, mesh and
// ingress, and upstream import it. It holds no connection and decides nothing.
package exchange

import (
	"context"
	"net/netip"
	"time"

	"sluice.dev/sluice/internal/httpfield"
	"sluice.dev/sluice/internal/refusal"
)

// Director decides about the requests of one connection. Each connection is
// served with a Director of its own, so that what a Director knows of it (who
// dialled what, by which way) is a field of the Director. The methods are called
// on the connection's goroutine, never two at once. None may block: an answer
// that needs time is a Direction with Later.
type Director interface {
	// Direct decides about one request from its head.
	Direct(x *Request) Direction
	// Done closes what Direct opened, once for each call of Direct. x and its
	// strings are still what they were at Direct.
	Done(x *Request, o Outcome)
	// Refused says how a message ended that never came to Direct: malformed, too
	// large, too slow, or one connection too many. Its Failure is never nil.
	Refused(o Outcome)
}

// Multiplexed is a Director whose connection may carry requests side by side, as HTTP/2 does.
// Of itself it gets what Refused tells; each Branch directs one request after the other.
type Multiplexed interface {
	Director
	// Branch opens one; ok is false where no more may be served at once. It does not wait.
	Branch() (b Branch, ok bool)
}

// Branch is what one of the requests that a connection carries side by side is served with,
// and those after it. Leave ends it.
type Branch struct {
	Context  context.Context // ends with what lets the request live
	Director Director
	Leave    func()
}

// Request is the head of one request. It belongs to the engine, which uses one
// value for all requests of a connection: neither it nor a string in it may be
// kept after Done has returned (strings.Clone keeps one; a Later may use them).
// Its bytes are checked to be of the right kind; what they mean is not.
type Request struct {
	Method  string // as the client spelled it: methods are case-sensitive
	Target  string // path and query, percent-encoded as it came; or "*"
	Path    string // Target without the query
	Host    string // the authority; "" where an HTTP/1.0 request had none
	HTTPS   bool   // the target was an https URL (absolute form, RFC 9112 section 3.2.2)
	Upgrade string // the protocol that the client asks to change to and that may be passed on; ""
	Version Version
	// PriorKnowledge says that the client speaks HTTP/2, and by that that its server does.
	PriorKnowledge bool
	GRPC           bool   // it is a call of gRPC, in HTTP/2: no server of HTTP/1.1 can answer it
	Fields         Fields // the header fields; nil: none
	// Bound is where connections are held for this client alone, because it signed in
	// there or was asked to (NTLM, Negotiate): a Director that has a choice chooses one
	// of these; none of them is a Choice. Nil for nearly all.
	Bound []Upstream
}

// Values calls yield with the value of each field of that name, which is given in
// lower case, in the order in which they came, until yield returns false. It
// implements policy.Fields and route.Fields.
func (x *Request) Values(lower string, yield func(value string) bool) {
	if x.Fields != nil {
		x.Fields.Values(lower, yield)
	}
}

// Fields looks up header fields. The strings are views, as those of a Request.
type Fields interface {
	Values(lower string, yield func(value string) bool)
}

// Version is the version of HTTP that the client speaks.
type Version uint8

const (
	HTTP11 Version = iota
	HTTP10
	HTTP2
)

// String returns "HTTP/1.1", as logs have it.
func (v Version) String() string {
	switch v {
	case HTTP10:
		return "HTTP/1.0"
	case HTTP2:
		return "HTTP/2"
	}
	return "HTTP/1.1"
}

// Direction is what is to be done with one request: exactly one of Upstream, Reply
// and Later is set. What it points to is only read, and never after Done, so that
// one Reply, one list of fields, may serve many requests at once.
type Direction struct {
	Upstream Upstream // forward it there
	Reply    *Reply   // answer it ourselves
	// Later decides outside the event loop, for as long as it needs: an external
	// check, a quota. It runs on the connection's goroutine; ctx ends with the
	// client, the connection, or Timeout (0: the engine's time-out for answers). What
	// it returns may not have a Later again; where it has no ID, this one's counts.
	Later func(ctx context.Context) Direction
	// UntilFIN says that a client that ends its side ends Later too, as one that is gone: it
	// waits for something that nobody else waits for.
	UntilFIN bool

	ID uint64 // of the decision, 16 hex digits in x-sluice-id where we answer; 0: none

	// What is changed in the head, in this order. Names are in lower case and
	// Editable; all that Set and Append hold is at most MaxFieldBytes.
	SetTarget string // begins with "/", and stands in place of the first CutTarget bytes of Target, where not ""
	CutTarget int
	SetHost   string   // replaces the authority where not ""
	Remove    []string // fields that are not forwarded
	Boundary  bool     // the mesh ends here: nor are those that are its own affair, of traces and the like
	Set       []Field  // fields in place of all of their name
	Append    []Field  // fields beside those of their name

	// Answer is what is changed in the answer's head, ours or an upstream's; nil: nothing.
	Answer *AnswerEdits
	// Mirror gets what was sent to the Upstream; nil: nobody does.
	Mirror Mirror

	Timeout time.Duration // until the answer's last byte; 0: the engine's, until its head
	// HeadTimeout is from the request's end until the answer's head, all attempts
	// included; 0: the engine's. It is not for what may become a relay.
	HeadTimeout time.Duration
	// Retry is asked whether a request that failed is sent again, where all of it is
	// held; nil: it is not.
	Retry        Retrier
	AllowUpgrade bool // pass on a wish to change protocols, and become a relay
	Explain      bool // tell the client what an upstream's error said
}

// AnswerEdits is what is changed in the head of an answer. Names are as those of a
// Direction's fields.
type AnswerEdits struct {
	Remove []string // fields of an upstream's that the client does not get
	Set    []Field  // in place of all of their name
	Append []Field  // beside those of their name
}

// Mirror gets a copy of a request.
type Mirror interface {
	// Mirror is called once with a request as it is sent upstream for the first time, once
	// all of it is there, unless it is larger than MaxMirrorBytes or asks for another
	// protocol. It may not block, and keeps nothing of what it is given. It is called on the
	// connection's goroutine or on the one that sends its request.
	Mirror(out Message)
}

// MaxMirrorBytes bounds a request that is copied, head and body.
const MaxMirrorBytes = 64 << 10

// Retrier decides whether a request is sent again.
type Retrier interface {
	// AttemptTimeout is of one attempt, until the answer's head; 0: none but the whole's.
	AttemptTimeout() time.Duration
	// Again is asked after each attempt that got an answer, or failed before there was
	// one. Where it says so, the request is sent again after wait, to what Take and Dial of
	// the Upstream then return, and nothing of the answer reaches the client.
	Again(a Attempt) (wait time.Duration, again bool)
}

// Attempt is how one attempt at a request ended.
type Attempt struct {
	Number int // from 1
	Status int // of the answer; 0: there was none
	// Unavailable: it is one of gRPC that says UNAVAILABLE and nothing more.
	Unavailable bool
	Failure     *refusal.Error // why there was none; it is only read
	Left        time.Duration  // until the whole request is late: no wait may last as long; 0: it never is
}

// Field is one header field.
type Field struct{ Name, Value string }

// MaxTargetBytes bounds SetTarget.
const MaxTargetBytes = 4 << 10

// MaxFieldBytes bounds the names and values that one Direction adds.
const MaxFieldBytes = 8 << 10

// Editable reports whether a Direction may remove, set or append the field of
// that name; SetHost names the destination.
func Editable(lower string) bool { return httpfield.Editable(lower) }

// Reply is an answer of our own: a refusal, whose body has the one form that
// denials and failures share, or another answer. The engine renders it, as text or
// as JSON by what the client accepts:
//
//	{"error": "denied", "status": 403, "reason": "no-rule", "id": "…", "message": "…",
//	 "closest": "…", "remedy": "…", "allow": "…", "rule": "…"}
//
// "error" is "denied" or "failed", by the Reason; where a part is "" it is left out.
type Reply struct {
	Status  int            // 0: the Reason's
	Reason  refusal.Reason // in x-sluice-reason; "" where this is not a refusal
	Message string         // a sentence for people; "": the Reason's
	Closest string         // the rule that came closest
	Remedy  string         // what to change, as a sentence
	Allow   string         // for --allow
	Rule    string         // YAML, ready to paste
	Header  []Field        // more fields, as a Location
	Close   bool           // end the connection afterwards
}

// Outcome is how one exchange ended.
type Outcome struct {
	Status   int            // answered to the client; 0: nothing was
	Failure  *refusal.Error // nil where the upstream's answer, or the Reply, was delivered whole
	Sent     int64          // bytes from the client, head and body as they came
	Received int64          // bytes to the client
	Duration time.Duration
	Upstream netip.AddrPort // that was reached; the zero value where none was
	Reused   bool           // the upstream connection was not new
	Upgraded bool           // the connection became a relay
	Attempts int            // at an upstream; 0: there was none
	Waits    Waits          // of all attempts
	// FirstByte is from the start to the first byte of the answer that was carried; 0: none came.
	FirstByte time.Duration
}

// Waits is how long Upstream.Dial waited for what.
type Waits struct {
	Queue   time.Duration // for a connection that may be opened
	Connect time.Duration // for addresses and the connection
	TLS     time.Duration // for the handshake
}

type waitsKey struct{}

// WithWaits returns a context in which who dials adds to w what it waits for.
func WithWaits(ctx context.Context, w *Waits) context.Context {
	return context.WithValue(ctx, waitsKey{}, w)
}

// WaitsOf returns where to add what is waited for: nobody looks at it where nobody asked.
func WaitsOf(ctx context.Context) *Waits {
	if w, ok := ctx.Value(waitsKey{}).(*Waits); ok {
		return w
	}
	return new(Waits)
}
