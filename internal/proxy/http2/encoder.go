package http2

import (
	"bytes"
	"errors"
	"strings"
	"unsafe"

	"golang.org/x/net/http2/hpack"
)

// encoder compresses the fields of one connection. What it puts into the table are values
// of names that are no secret, and that it has copied: a text that it is given is a view.
// Everything else is written as never to be indexed, for whoever said it may have said so
// (RFC 7541, section 6.2.3).
type encoder struct {
	hpack *hpack.Encoder
	block []byte // that was encoded last
	name  []byte // in lower case
	known [len(indexed)]values
}

// values are the last ones of a name, the newest first.
type values [4]string

// indexed are the names whose values go into the table.
var indexed = [...]string{
	":method", ":scheme", ":authority", ":path", ":status", ":protocol", "te", "date", "server", "accept", "user-agent",
	"content-type", "accept-encoding", "grpc-encoding", "grpc-accept-encoding", "grpc-status", "vary", "cache-control", "content-encoding",
}

func newEncoder() *encoder {
	e := new(encoder)
	e.hpack = hpack.NewEncoder(e)
	e.hpack.SetMaxDynamicTableSizeLimit(tableBytes)
	return e
}

// Write implements io.Writer for the hpack.Encoder.
func (e *encoder) Write(b []byte) (int, error) {
	e.block = append(e.block, b...)
	return len(b), nil
}

// field encodes one field. Both are views.
func (e *encoder) field(name, value string) {
	for i := range indexed {
		if indexed[i] == name && len(value) <= mostIndexed {
			e.hpack.WriteField(hpack.HeaderField{Name: indexed[i], Value: e.known[i].keep(value)})
			return
		}
	}
	e.hpack.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: true})
}

// keep returns a copy of the value that lives on.
func (v *values) keep(value string) string {
	for i := range v {
		if v[i] == value {
			return v[i]
		}
	}
	copy(v[1:], v[:len(v)-1])
	v[0] = strings.Clone(value)
	return v[0]
}

var (
	errHead      = errors.New("http2: a message that is not HTTP/1.1 in the strict form")
	errNoConnect = errors.New("the server does not take extended CONNECT (RFC 8441), without which a connection of HTTP/2 does not change to another protocol")
	errNoSwitch  = errors.New("an answer of success to a wish to change protocols, without the change")
	errHandshake = errors.New("a switch to WebSocket whose Sec-WebSocket-Accept does not answer the key")
	crlf         = []byte("\r\n")
	get          = []byte("GET ")
)

// request encodes the head of a request that is written as HTTP/1.1.
func (e *encoder) request(head []byte, secure bool) error {
	line, fields, ok := bytes.Cut(head, crlf)
	method, rest, _ := bytes.Cut(line, []byte(" "))
	target, version, _ := bytes.Cut(rest, []byte(" "))
	if !ok || string(version) != "HTTP/1.1" || len(target) == 0 {
		return errHead
	}
	e.block = e.block[:0]
	protocol, host := upgradeOf(head), fieldOf(fields, "host")
	switch {
	case protocol != "":
		e.field(":method", "CONNECT")
		e.field(":protocol", protocol)
	default:
		e.field(":method", text(method))
	}
	scheme := "http"
	if secure {
		scheme = "https"
	}
	e.field(":scheme", scheme)
	e.field(":authority", host)
	e.field(":path", text(target))
	e.lines(fields, protocol != "")
	if protocol == "" {
		e.field("te", "trailers")
	}
	return nil
}

// answer encodes the head of an answer that is written as HTTP/1.1; switched says that another
// protocol follows.
func (e *encoder) answer(head []byte, status string, switched bool) error {
	_, fields, ok := bytes.Cut(head, crlf)
	if !ok {
		return errHead
	}
	e.block = e.block[:0]
	e.field(":status", status)
	e.lines(fields, switched)
	return nil
}

// trailers encodes a trailer section.
func (e *encoder) trailers(fields []byte) {
	e.block = e.block[:0]
	e.lines(fields, false)
}

// lines encodes fields, but what is for a connection of HTTP/1.1, and Host.
func (e *encoder) lines(fields []byte, connect bool) {
	for name, value := range eachField(fields) {
		e.name = e.name[:0]
		for i := range len(name) {
			c := name[i]
			if c >= 'A' && c <= 'Z' {
				c |= 0x20
			}
			e.name = append(e.name, c)
		}
		lower := text(e.name)
		switch lower {
		case "connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection", "host", "te", "http2-settings":
			continue
		case "sec-websocket-key", "sec-websocket-accept", "content-length": // RFC 8441, section 5: they are for HTTP/1.1
			if connect {
				continue
			}
		}
		e.field(lower, value)
	}
}

// eachField calls yield with each field of lines that end in CRLF.
func eachField(lines []byte) func(yield func(name, value string) bool) {
	return func(yield func(name, value string) bool) {
		for len(lines) > 0 {
			line, rest, ok := bytes.Cut(lines, crlf)
			if !ok || len(line) == 0 {
				return
			}
			name, value, _ := bytes.Cut(line, []byte(":"))
			if !yield(text(name), text(bytes.Trim(value, " \t"))) {
				return
			}
			lines = rest
		}
	}
}

// fieldOf returns the value of the first field of that name.
func fieldOf(lines []byte, lower string) string {
	for name, value := range eachField(lines) {
		if strings.EqualFold(name, lower) {
			return value
		}
	}
	return ""
}

// upgradeOf returns the protocol that a request asks to change to, where HTTP/2 can say so: its
// extended CONNECT says what a GET without a body says, and no server has to heed the wish of
// another request (RFC 9110, section 7.8).
func upgradeOf(head []byte) string {
	_, fields, _ := bytes.Cut(head, crlf)
	if !bytes.HasPrefix(head, get) || !strings.EqualFold(fieldOf(fields, "connection"), "upgrade") {
		return ""
	}
	if kind, _ := framingOf(fields); kind != noBody {
		return ""
	}
	return fieldOf(fields, "upgrade")
}

func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
