package exchange

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"unsafe"
)

// Upstream is where requests can be sent: a pool of HTTP/1 connections, a
// connection of a later version, a hop inside the mesh, or a test. It is safe for
// concurrent use, but for one that is a Choice.
//
// What crosses it is HTTP/1.1, in the strict form that Message describes, whatever
// the other side of the Upstream speaks. HTTP/1 is the common case, and so it costs
// nothing there: the engine's one buffer is what is written, and the answer is
// edited where it was read. A version with other frames takes a request's parts
// from Message and writes its answer as HTTP/1.1 into the buffer that it is given,
// which is what an HTTP/1 client has to get anyway; trailers go in the chunked
// coding. A neutral form in between would be a copy of each head on the way that
// nearly all requests take.
type Upstream interface {
	// Take returns a Stream that is open and idle, or nil: its peer was there a moment
	// ago, and has said nothing that nobody asked for. It never blocks.
	Take() Stream
	// Dial opens a new Stream. Its error is a *refusal.Error.
	Dial(ctx context.Context) (Stream, error)
}

// ErrNotBegun is what a Stream fails with where its server has not begun with the exchange:
// it may be sent again, whatever it is.
var ErrNotBegun = errors.New("the server has not begun with the request")

// Choice is implemented by an Upstream that stands for the one that it has chosen. It is
// for the requests of one client connection, used by that one's goroutine alone, and what
// it has chosen changes from request to request, and with Dial: who keeps something of an
// Upstream keeps it under what was chosen.
type Choice interface {
	Upstream
	// Chosen returns the Upstream that the last Stream came from, or that the next one is
	// looked for at first. It is itself no Choice.
	Chosen() Upstream
}

// Chosen returns the Upstream that u stands for: u itself, unless it is a Choice.
func Chosen(u Upstream) Upstream {
	if c, ok := u.(Choice); ok {
		return c.Chosen()
	}
	return u
}

// Stream carries one exchange at a time to an upstream. It has one owner, who got
// it from an Upstream and hands it back with Release; only Abort may be called by
// others.
type Stream interface {
	// Exchange sends out, waits until the upstream says something and reads it once
	// into in. It returns at least one byte or an error; io.EOF is the end of the
	// stream. With out empty it only reads. Neither buffer is kept.
	Exchange(out Message, in []byte) (int, error)
	// Send begins an exchange whose body does not fit into one Message: its head and
	// what there is of the body. From here on Write may be called by another
	// goroutine than Exchange.
	Send(out Message) error
	// Write sends more of the body, framed as the head said, or bytes of the
	// protocol that was changed to.
	Write(b []byte) (int, error)
	// CloseWrite ends the direction towards the upstream; reading goes on.
	CloseWrite() error
	// Abort makes every call fail with an error whose Timeout method reports true,
	// from any goroutine and for good.
	Abort()
	// Release gives the Stream back. reuse says that the exchange was read to its
	// end, so that another may follow on it.
	Release(reuse bool)
	// Keep holds back a Stream, whose exchange was read to its end, for another one of
	// the same client: what its owner signed in to is nobody else's. It is not given
	// back, and the owner owns it still; but the Upstream may close it meanwhile, as it
	// does an idle one. Next comes Again, or Release(false).
	Keep()
	// Again says whether a Stream that was kept can carry another exchange, as one from
	// Take can. If not it has been released.
	Again() bool
	// Remote is the address that was reached.
	Remote() netip.AddrPort
	// Reused says that another exchange was served before this one, so that its
	// failure before the first byte of an answer may be a peer that closed an idle
	// connection.
	Reused() bool
}

// Message is one request as it leaves an engine, as HTTP/1.1 in the strict form that
// needs no judgement to read: one space between the parts of the request line, the
// target in origin form or "*", fields as "name: value" with CRLF, exactly one Host,
// framed by one Content-Length or by "transfer-encoding: chunked" alone, and nothing
// of one hop but a wish to upgrade that may pass. Behind the head follows what there
// is of the body. The parts are views into it.
type Message []byte

// Method returns the method.
func (m Message) Method() string {
	return text(m[:max(0, bytes.IndexByte(m, ' '))])
}

// Target returns the target: path and query, or "*".
func (m Message) Target() string {
	_, rest, _ := bytes.Cut(m, []byte(" "))
	return text(rest[:max(0, bytes.IndexByte(rest, ' '))])
}

// Fields calls yield with each field in order, until yield returns false. Names
// are as they were spelled.
func (m Message) Fields(yield func(name, value string) bool) {
	_, rest, _ := bytes.Cut(m, crlf)
	for {
		line, after, ok := bytes.Cut(rest, crlf)
		if !ok || len(line) == 0 {
			return
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if !yield(text(name), text(bytes.Trim(value, " \t"))) {
			return
		}
		rest = after
	}
}

// Body returns what follows the head, framed as the head says.
func (m Message) Body() []byte {
	_, body, _ := bytes.Cut(m, []byte("\r\n\r\n"))
	return body
}

var crlf = []byte("\r\n")

func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
