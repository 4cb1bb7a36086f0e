package http2

import (
	"strings"

	"golang.org/x/net/http2/hpack"

	"sluice.dev/sluice/internal/httpfield"
)

// section is one field block while it is decoded. It keeps strings of the compression
// table, not copies of them, and no more than fit into a head: what a few bytes of indexed
// fields stand for is not written out past the bound.
type section struct {
	fields []hpack.HeaderField
	size   int // of what they are in HTTP/1.1
	most   int
	over   bool // there was more
}

func (s *section) reset(most int) {
	clear(s.fields)
	s.fields = s.fields[:0]
	s.size, s.most, s.over = 0, most, false
}

// add takes the next field of the block.
func (s *section) add(f hpack.HeaderField) {
	s.size += len(f.Name) + len(f.Value) + len(": \r\n")
	if s.over || s.size > s.most || len(s.fields) == maxFields {
		s.over = true
		return
	}
	s.fields = append(s.fields, f)
}

// bodyKind is how the end of a body is known on the side of HTTP/1.1.
type bodyKind uint8

const (
	noBody      bodyKind = iota
	lengthBody           // by Content-Length
	chunkedBody          // by the chunked coding
	rawBody              // by the end of the stream: what follows is another protocol, or ends with its connection
)

// message is what a head says, beside its text.
type message struct {
	text      []byte // the head in HTTP/1.1
	kind      bodyKind
	length    int64  // of lengthBody
	method    string // of a request
	protocol  string // of extended CONNECT (RFC 8441)
	key       string // of WebSocket's handshake in HTTP/1.1, where it is one
	announced int64  // what Content-Length says, whatever the kind; -1: nothing
	status    int    // of an answer
	grpc      bool   // its Content-Type is one of gRPC's
}

// final reports whether the head of an answer is the last one: 101 is made of what opens a
// tunnel (RFC 8441).
func (m *message) final() bool { return m.status >= 200 || m.status == 101 }

// pseudo is the pseudo-fields of a request or an answer.
type pseudo struct {
	method, scheme, authority, path, protocol, status string

	has uint8
}

const (
	hasMethod = 1 << iota
	hasScheme
	hasAuthority
	hasPath
	hasProtocol
	hasStatus
)

// take takes a pseudo-field; an answer has :status alone, and a request all others.
func (p *pseudo) take(f *hpack.HeaderField, answer bool) *fault {
	var bit uint8
	var into *string
	switch f.Name {
	case ":method":
		bit, into = hasMethod, &p.method
	case ":scheme":
		bit, into = hasScheme, &p.scheme
	case ":authority":
		bit, into = hasAuthority, &p.authority
	case ":path":
		bit, into = hasPath, &p.path
	case ":protocol":
		bit, into = hasProtocol, &p.protocol
	case ":status":
		bit, into = hasStatus, &p.status
	}
	switch {
	case bit == 0:
		return malformed("an unknown pseudo-field")
	case answer != (bit == hasStatus):
		return malformed("a pseudo-field of the other direction")
	case p.has&bit != 0:
		return malformed("a pseudo-field twice")
	}
	p.has |= bit
	*into = f.Value
	return nil
}

func malformed(text string) *fault { return broken(codeProtocol, text) }

// regular is what the fields behind the pseudo-fields say that this engine acts on.
type regular struct {
	host    string
	hosts   int
	length  int64 // -1: none
	cookies int
	grpc    bool
	trailer bool // trailers are announced
}

// unbound reports whether the length of a body is not to be told before it: trailers follow,
// for which HTTP/1.1 has a place in the chunked coding alone.
func (r *regular) unbound() bool { return r.grpc || r.trailer }

// check holds the rules of RFC 9113, section 8.2 and 8.3, for what needs no other field.
func (s *section) check(answer, trailers bool) (p pseudo, r regular, bad *fault) {
	r.length = -1
	seen := false
	for i := range s.fields {
		f := &s.fields[i]
		if strings.HasPrefix(f.Name, ":") {
			switch {
			case trailers:
				return p, r, malformed("a pseudo-field in trailers")
			case seen:
				return p, r, malformed("a pseudo-field after a field")
			case !isValue(f.Value):
				return p, r, malformed("a byte in a pseudo-field that no value has")
			}
			if bad := p.take(f, answer); bad != nil {
				return p, r, bad
			}
			continue
		}
		seen = true
		if bad := r.take(f); bad != nil {
			return p, r, bad
		}
	}
	return p, r, nil
}

func (r *regular) take(f *hpack.HeaderField) *fault {
	if !isName(f.Name) {
		return malformed("a field name that is not a token in lower case")
	}
	if !isValue(f.Value) {
		return malformed("a field value with a byte that no value has, or with a blank at its end")
	}
	switch f.Name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return malformed("a field that is for connections of HTTP/1.1 alone: " + f.Name)
	case "te":
		if f.Value != "trailers" {
			return malformed("a TE field other than trailers")
		}
	case "host":
		r.host = f.Value
		r.hosts++
	case "content-length":
		if r.length >= 0 {
			return malformed("two Content-Length fields")
		}
		if r.length = parseLength(f.Value); r.length < 0 {
			return malformed("a Content-Length that is not one decimal number")
		}
	case "content-type":
		r.grpc = isGRPC(f.Value)
	case "trailer":
		r.trailer = true
	case "cookie":
		r.cookies++
	}
	return nil
}

// isGRPC reports whether a Content-Type is gRPC's: gRPC-Web's is another protocol.
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// parseLength reads 1 to 18 digits, or returns -1.
func parseLength(s string) int64 {
	if len(s) == 0 || len(s) > 18 || s[0] == '0' && len(s) > 1 {
		return -1
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return -1
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n
}

// Classes of bytes.
const (
	tokenByte  = 1 << iota // RFC 9110, section 5.6.2
	upperByte              // of a token, and not of a field name
	targetByte             // in a path and a query
)

var class = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c >= 'A' && c <= 'Z':
			t[c] |= tokenByte | upperByte
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			t[c] |= tokenByte
		}
		if c > 0x20 && c < 0x7f && c != '#' {
			t[c] |= targetByte
		}
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~") {
		t[c] |= tokenByte
	}
	return t
}()

func all(s string, of uint8) bool {
	for i := range len(s) {
		if class[s[i]]&of == 0 {
			return false
		}
	}
	return s != ""
}

func isToken(s string) bool  { return all(s, tokenByte) }
func isTarget(s string) bool { return all(s, targetByte) }

// isAuthority reports whether s is a host and a port, which may be empty, as in HTTP/1.1.
func isAuthority(s string) bool { return httpfield.IsAuthority(strings.TrimSuffix(s, ":")) }

func isName(s string) bool {
	for i := range len(s) {
		if c := class[s[i]]; c&tokenByte == 0 || c&upperByte != 0 {
			return false
		}
	}
	return s != ""
}

// isValue reports whether s may be the value of a field (RFC 9113, section 8.2.1).
func isValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return s == "" || s[0] != ' ' && s[0] != '\t' && s[len(s)-1] != ' ' && s[len(s)-1] != '\t'
}
