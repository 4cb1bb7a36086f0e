package http1

import (
	"bytes"
	"unsafe"
)

// maxHeaderFields bounds the fields of one head, and of one trailer section.
const maxHeaderFields = 128

// maxHeadBytes is the largest Limits.MaxHeaderBytes: offsets have 16 bits.
const maxHeadBytes = 60 << 10

// span is a piece of a head, as offsets, so that it survives a move.
type span struct{ from, to uint16 }

// field is one header line: name, value, and the line with its CRLF.
type field struct {
	line, value span
	nameEnd     uint16
	kind        fieldKind
	drop        bool
}

// head is one parsed head. Its strings and slices are views into the
// connection's buffer.
type head struct {
	raw    []byte // the head with its last CRLF
	fields [maxHeaderFields]field
	count  int
	first  uint16 // where the first field begins

	method, target, host span
	query                uint16 // where the "?" is in target, or its end
	https                bool   // target was an https URL
	status               int
	reason               span  // of an answer: what follows the status
	length               int64 // Content-Length, -1 without
	chunked              bool
	http10               bool
	closes               bool // Connection: close
	keepAlive            bool // Connection: keep-alive
	wantsUpgrade         bool // Connection: upgrade
	upgrade              span // the protocol asked for or chosen
	upgrades             int  // Upgrade fields
	hostSeen             bool
	hostAnew             bool // host is not what the Host field says to the letter
	expects              bool // Expect: 100-continue
	expectsOther         bool // any other expectation
	lists                bool // Connection names fields that are to be dropped
	signsIn              bool // to the connection: see signsIn
	dropped              int
}

func (h *head) reset() {
	h.raw = nil
	h.count, h.first, h.dropped, h.upgrades = 0, 0, 0, 0
	h.method, h.target, h.host, h.reason, h.upgrade = span{}, span{}, span{}, span{}, span{}
	h.status, h.length, h.query, h.https = 0, -1, 0, false
	h.chunked, h.http10, h.closes, h.keepAlive, h.wantsUpgrade = false, false, false, false, false
	h.hostSeen, h.hostAnew, h.expects, h.expectsOther, h.lists = false, false, false, false, false
	h.signsIn = false
}

func (h *head) bytes(s span) []byte { return h.raw[s.from:s.to] }

// text is a view: valid as long as the connection's buffer is.
func (h *head) text(s span) string {
	b := h.raw[s.from:s.to]
	return unsafe.String(unsafe.SliceData(b), len(b))
}

func (f *field) name(raw []byte) []byte { return raw[f.line.from:f.nameEnd] }

// parseFields reads the header lines that begin at b[at], up to the empty line.
// It returns where the head ends, or 0 where b does not hold all of it.
func (h *head) parseFields(b []byte, at, max int, answer bool) (int, cause) {
	h.first = uint16(at)
	for {
		end := bytes.IndexByte(b[at:], '\n')
		if end < 0 {
			if len(b) >= max {
				return 0, longHead
			}
			return 0, fine
		}
		next := at + end + 1
		if next > max {
			return 0, longHead
		}
		if end == 1 && b[at] == '\r' {
			return next, fine
		}
		if end < 2 || b[next-2] != '\r' {
			return 0, bareLF
		}
		if h.count == maxHeaderFields {
			return 0, manyFields
		}
		f := &h.fields[h.count]
		if !f.parse(b, at, next) {
			return 0, fieldFault(b[at : next-2])
		}
		h.count++
		if f.kind != otherField {
			if bad := h.note(f, b, answer); bad != fine {
				return 0, bad
			}
		}
		if f.drop {
			h.dropped++
		}
		at = next
	}
}

// parse reads "name: value CRLF" in b[at:next].
func (f *field) parse(b []byte, at, next int) bool {
	line := b[at : next-2]
	colon := 0
	for colon < len(line) && class[line[colon]]&tokenByte != 0 {
		colon++
	}
	if colon == 0 || colon == len(line) || line[colon] != ':' {
		return false
	}
	from, to := colon+1, len(line)
	for from < to && (line[from] == ' ' || line[from] == '\t') {
		from++
	}
	for to > from && (line[to-1] == ' ' || line[to-1] == '\t') {
		to--
	}
	if !isValue(line[from:to]) {
		return false
	}
	f.line = span{uint16(at), uint16(next)}
	f.value = span{uint16(at + from), uint16(at + to)}
	f.nameEnd = uint16(at + colon)
	f.kind = kindOf(line[:colon])
	f.drop = false
	return true
}

// fieldFault says why a line without its CRLF is not a field.
func fieldFault(line []byte) cause {
	colon := 0
	for colon < len(line) && class[line[colon]]&tokenByte != 0 {
		colon++
	}
	switch {
	case line[0] == ' ' || line[0] == '\t':
		return foldedField
	case line[0] == ':':
		return noFieldName
	case colon == len(line) || bytes.IndexByte(line, ':') < 0:
		return noColon
	case line[colon] == ' ' || line[colon] == '\t':
		if rest := bytes.TrimLeft(line[colon:], " \t"); rest[0] == ':' {
			return spaceBeforeColon
		}
		return byteInName
	case line[colon] != ':':
		return byteInName
	}
	return byteInValue
}

// note notes a field that this engine acts on. It returns why the
// field makes the head ambiguous, where it does.
func (h *head) note(f *field, b []byte, answer bool) cause {
	value := b[f.value.from:f.value.to]
	switch f.kind {
	case hostField:
		if answer {
			return fine
		}
		if h.hostSeen {
			return twoHosts
		}
		h.hostSeen = true
		h.host = f.value
	case contentLengthField:
		switch {
		case h.length >= 0:
			return twoLengths
		case h.chunked:
			return lengthAndCoding
		}
		if h.length = parseLength(value); h.length < 0 {
			return badLength
		}
	case transferEncodingField:
		switch {
		case h.length >= 0:
			return lengthAndCoding
		case h.chunked:
			return twoCodings
		case !equalFold(value, "chunked"):
			return otherCoding
		}
		h.chunked = true
		f.drop = true // written anew where the body is
	case connectionField:
		f.drop = true
		return h.noteConnection(value)
	case expectField:
		if answer {
			return fine
		}
		f.drop = true
		if equalFold(value, "100-continue") {
			h.expects = true
		} else {
			h.expectsOther = true
		}
	case upgradeField:
		f.drop = true
		h.upgrade = f.value
		h.upgrades++
	case trailerField:
		if !mayAllBeTrailers(value) {
			return trailerNamesFraming
		}
	case mistakableField:
		return mistakableName
	case perHopField, ownField:
		f.drop = true
	case serverField:
		f.drop = answer && isOwnServer(value)
	case signInField:
		h.signsIn = h.signsIn || signsIn(value)
	}
	return fine
}

// parseLength reads 1 to 18 digits and nothing else, or returns -1. A zero that
// leads others is octal to some readers.
func parseLength(b []byte) int64 {
	if len(b) == 0 || len(b) > 18 || b[0] == '0' && len(b) > 1 {
		return -1
	}
	var n int64
	for _, c := range b {
		if class[c]&digitByte == 0 {
			return -1
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// appendFields appends the header lines that are kept, in whole runs.
func (h *head) appendFields(out []byte) []byte {
	end := len(h.raw) - 2
	if h.dropped == 0 {
		return append(out, h.raw[h.first:end]...)
	}
	run := int(h.first)
	for i := range h.fields[:h.count] {
		f := &h.fields[i]
		if f.drop {
			out = append(out, h.raw[run:f.line.from]...)
			run = int(f.line.to)
		}
	}
	return append(out, h.raw[run:end]...)
}
