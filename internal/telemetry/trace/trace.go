// Package trace reads and writes what requests say of the trace that they are part of: W3C
// trace context, and B3 as Istio 0.5 had it. The proxy asks it for each request while the
// mesh traces. It holds no span and sends nothing.
package trace

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
)

// ID is the id of a trace. The zero ID is none.
type ID [16]byte

// SpanID is the id of one span of it. The zero SpanID is none.
type SpanID [8]byte

// Context is where one request stands in its trace.
type Context struct {
	Trace   ID     `json:"trace,omitzero"`
	Span    SpanID `json:"span,omitzero"`     // of this request
	Parent  SpanID `json:"parent,omitzero"`   // that it was made in; zero: it is the first
	Sampled bool   `json:"sampled,omitempty"` // it is to be sent to whoever collects spans
}

// String returns 32 hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// String returns 16 hex digits.
func (id SpanID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// MarshalText implements encoding.TextMarshaler.
func (id SpanID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(text []byte) (err error) { *id, err = ParseID(string(text)); return err }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *SpanID) UnmarshalText(text []byte) error {
	if !digits(id[:], string(text)) {
		return errors.New("not a valid id of a span: 16 hex digits in lower case")
	}
	return nil
}

// ParseID reads what String printed.
func ParseID(text string) (id ID, err error) {
	if !digits(id[:], text) || id == (ID{}) {
		return ID{}, fmt.Errorf("%.40q is not a valid id of a trace: 32 hex digits in lower case", text)
	}
	return id, nil
}

// digits reads twice as many hex digits as there are bytes, in lower case.
func digits(to []byte, text string) bool {
	if len(text) != 2*len(to) {
		return false
	}
	for i := range to {
		high, low := digit(text[2*i]), digit(text[2*i+1])
		if high > 15 || low > 15 {
			return false
		}
		to[i] = high<<4 | low
	}
	return true
}

func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// newID returns a random id. Whoever knows one may do nothing with it.
func newID() (id ID) {
	for id == (ID{}) {
		binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
		binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	}
	return id
}

func newSpanID() (id SpanID) {
	for id == (SpanID{}) {
		binary.LittleEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}

// Share is the part of the traces that are sampled, in millionths.
type Share uint32

// All is the Share of all.
const All Share = 1_000_000

// samples decides about a trace that begins: by its id, so that it costs nothing.
func (s Share) samples(id ID) bool {
	return binary.LittleEndian.Uint64(id[8:])%uint64(All) < uint64(s)
}

// Begin returns the context of what begins a trace.
func Begin(share Share) Context {
	c := Context{Trace: newID(), Span: newSpanID()}
	c.Sampled = share.samples(c.Trace)
	return c
}

// Fields looks up header fields, as exchange.Fields does.
type Fields interface {
	Values(lower string, yield func(value string) bool)
}

// Names of the fields.
const (
	Parent = "traceparent"
	State  = "tracestate"
	B3     = "b3"

	b3Trace   = "x-b3-traceid"
	b3Span    = "x-b3-spanid"
	b3Parent  = "x-b3-parentspanid"
	b3Sampled = "x-b3-sampled"
	b3Flags   = "x-b3-flags"
)

// Replaced is the fields that Write may not write: whoever writes the others removes them.
var Replaced = []string{B3, b3Parent, b3Flags}

// Reader reads the fields of one request after the other without an allocation. It must
// not be copied once it is used.
type Reader struct {
	value string
	many  bool
	look  func(string) bool // made once, for a closure is an allocation
}

// one returns the value of a field that is there once.
func (r *Reader) one(of Fields, name string) string {
	if r.look == nil {
		r.look = func(value string) bool {
			r.many = r.value != ""
			r.value = value
			return !r.many
		}
	}
	r.value, r.many = "", false
	of.Values(name, r.look)
	if r.many {
		return ""
	}
	value := strings.TrimSpace(r.value)
	r.value = "" // a view
	return value
}

// Had is what a request has of a trace.
type Had struct {
	W3C bool // the trace is that of traceparent, of which tracestate speaks too
	B3  bool // the one field b3, which is to be set too
}

// Read returns the context of a request that goes on with the trace that its fields name:
// W3C's, or else B3's; and of one that begins a trace, where they name none that is valid.
// Where a trace leaves open whether it is sampled, share decides.
func (r *Reader) Read(of Fields, share Share) (c Context, had Had) {
	single := r.one(of, B3)
	had.B3 = single != ""
	if had.W3C = readW3C(&c, r.one(of, Parent)); had.W3C {
		c.Span = newSpanID()
		return c, had
	}
	decided := false
	switch {
	case single != "":
		decided = readSingle(&c, single)
	default:
		if text := r.one(of, b3Trace); text != "" {
			decided = r.readB3(&c, of, text)
		} else { // it names no trace, and may say whether the one that begins is sampled
			decided = r.readSampled(&c, of)
		}
	}
	if c.Trace == (ID{}) {
		sampled := c.Sampled
		c = Begin(share)
		if decided {
			c.Sampled = sampled
		}
		return c, had
	}
	c.Span = newSpanID()
	if !decided {
		c.Sampled = share.samples(c.Trace)
	}
	return c, had
}

// readW3C reads traceparent, W3C Trace Context section 3.2: of version 00, or of a later
// one what of it 00 has.
func readW3C(c *Context, text string) bool {
	const size = len("00-") + 32 + 1 + 16 + 1 + 2
	if len(text) < size || text[2] != '-' || text[35] != '-' || text[52] != '-' {
		return false
	}
	var version, flags [1]byte
	if !digits(version[:], text[:2]) || version[0] == 0xff || version[0] == 0 && len(text) != size || len(text) > size && text[size] != '-' {
		return false
	}
	var got Context
	if !digits(got.Trace[:], text[3:35]) || !digits(got.Parent[:], text[36:52]) || !digits(flags[:], text[53:55]) || got.Trace == (ID{}) || got.Parent == (SpanID{}) {
		return false
	}
	got.Sampled = flags[0]&1 != 0
	*c = got
	return true
}

// readSingle reads b3: TRACE-SPAN[-SAMPLED[-PARENT]], or the decision alone. It reports
// whether that is decided.
func readSingle(c *Context, text string) (decided bool) {
	parts := 0
	var part [4]string
	for rest := text; ; parts++ {
		if parts == len(part) {
			return false
		}
		one, after, more := strings.Cut(rest, "-")
		part[parts] = one
		if rest = after; !more {
			break
		}
	}
	if parts == 0 {
		return sampled(c, part[0])
	}
	if !b3IDs(c, part[0], part[1]) {
		return false
	}
	return sampled(c, part[2])
}

// readB3 reads the fields x-b3-….
func (r *Reader) readB3(c *Context, of Fields, traceID string) (decided bool) {
	if !b3IDs(c, traceID, r.one(of, b3Span)) {
		return false
	}
	return r.readSampled(c, of)
}

// readSampled reads the decision alone.
func (r *Reader) readSampled(c *Context, of Fields) (decided bool) {
	if r.one(of, b3Flags) == "1" {
		c.Sampled = true
		return true
	}
	return sampled(c, r.one(of, b3Sampled))
}

// b3IDs reads both ids; that of the trace may be of 64 bits.
func b3IDs(c *Context, traceID, span string) bool {
	var got Context
	whole := got.Trace[:]
	if len(traceID) == 16 {
		whole = whole[8:]
	}
	if !digits(whole, traceID) || !digits(got.Parent[:], span) || got.Trace == (ID{}) || got.Parent == (SpanID{}) {
		return false
	}
	c.Trace, c.Parent = got.Trace, got.Parent
	return true
}

func sampled(c *Context, text string) (decided bool) {
	switch text {
	case "1", "d", "true":
		c.Sampled = true
		return true
	case "0", "false":
		c.Sampled = false
		return true
	}
	return false
}
