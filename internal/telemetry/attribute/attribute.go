// Package attribute is the one table of what is known of a connection or request, under
// the names of Istio 0.5 where it had one: logs take their fields from it, metrics their
// labels, and the reference is written out of it. It never decides, and never keeps a
// record.
package attribute

import (
	"strconv"
	"time"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/word"
)

// Type is what a value of an attribute is.
type Type uint8

const (
	None Type = iota // there is no value
	String
	Int64
	Timestamp
	Duration
	ID      // 16 hex digits
	TraceID // 32 hex digits
)

var typeWords = word.List{"", "string", "int64", "timestamp", "duration", "string", "string"}

// String returns the type's word in the reference.
func (t Type) String() string { return typeWords.Of(uint8(t)) }

// Known is since when an attribute has a value.
type Known uint8

const (
	AtConnect Known = iota // when the connection was accepted
	AtRequest              // when the client said what it wants: the request's head, the ClientHello
	AtVerdict              // when it was decided
	AtAnswer               // when the upstream was reached, or answered
	AtEnd                  // when the connection or request has ended
)

var knownWords = word.List{"at connect", "with the request", "with the verdict", "with the answer", "at the end"}

// String returns the reference's words for it.
func (k Known) String() string { return knownWords.Of(uint8(k)) }

// Cardinality is how many values an attribute can have, and so where it may be used: an
// attribute that strangers choose is never a label of a metric.
type Cardinality uint8

const (
	Few       Cardinality = iota // a list that the program holds
	Mesh                         // as many as there are rules and workloads
	Unbounded                    // whatever strangers choose, or each time another
)

var cardinalityWords = word.List{"few", "mesh", "unbounded"}

// String returns the reference's word for it.
func (c Cardinality) String() string { return cardinalityWords.Of(uint8(c)) }

// Attribute is one line of the table.
type Attribute struct {
	Name        string
	Type        Type
	Known       Known
	Cardinality Cardinality
	Meaning     string

	// Of returns the value in a record; the zero Value where it has none. It allocates
	// nothing.
	Of func(r *record.Record) Value
}

// Secret reports whether a value may hold a credential: see Value.Redacted.
func (a *Attribute) Secret() bool { return a.Name == "request.path" }

// Value is the value of an attribute in one record.
type Value struct {
	Type   Type
	text   string
	number int64
	high   int64 // of 128 bits the first half
	time   time.Time
}

func text(s string) Value {
	if s == "" {
		return Value{}
	}
	return Value{Type: String, text: s}
}

func number(n int64) Value { return Value{Type: Int64, number: n} }

// positive is a number that is unknown while it is 0.
func positive(n int64) Value {
	if n == 0 {
		return Value{}
	}
	return number(n)
}

func moment(t time.Time) Value {
	if t.IsZero() {
		return Value{}
	}
	return Value{Type: Timestamp, time: t}
}

func duration(d time.Duration) Value { return Value{Type: Duration, number: int64(d)} }

// Text returns a string's text, "" for any other.
func (v Value) Text() string { return v.text }

// Number returns a number, or a duration in nanoseconds; 0 for any other.
func (v Value) Number() int64 { return v.number }

// Append appends the value as text for people: a duration in Go's form, a time as RFC
// 3339 has it.
func (v Value) Append(b []byte) []byte {
	switch v.Type {
	case String:
		return append(b, v.text...)
	case Int64:
		return strconv.AppendInt(b, v.number, 10)
	case TraceID:
		return record.ID(v.number).Append(record.ID(v.high).Append(b))
	case ID:
		return record.ID(v.number).Append(b)
	case Timestamp:
		return v.time.UTC().AppendFormat(b, timeFormat)
	case Duration:
		return append(b, time.Duration(v.number).String()...)
	}
	return b
}

// AppendEscaped appends the value as Append does, with what would end a line, a quotation or steer
// a terminal escaped as in JSON.
func (v Value) AppendEscaped(b []byte) []byte {
	if v.Type != String {
		return v.Append(b)
	}
	start := len(b)
	b = appendQuoted(b, v.text)
	copy(b[start:], b[start+1:])
	return b[:len(b)-2]
}

// AppendJSON appends the value as JSON: a duration in seconds, null where there is none.
func (v Value) AppendJSON(b []byte) []byte {
	switch v.Type {
	case String:
		return appendQuoted(b, v.text)
	case Int64:
		return strconv.AppendInt(b, v.number, 10)
	case ID, TraceID:
		return append(v.Append(append(b, '"')), '"')
	case Timestamp:
		b = append(b, '"')
		return append(v.time.UTC().AppendFormat(b, timeFormat), '"')
	case Duration:
		return strconv.AppendFloat(b, time.Duration(v.number).Seconds(), 'f', -1, 64)
	}
	return append(b, "null"...)
}

const timeFormat = "2006-01-02T15:04:05.000000Z07:00"
