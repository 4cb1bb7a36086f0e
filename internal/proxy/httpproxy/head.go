package httpproxy

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
	expects              bool // Expect: 100-continue
	expectsOther         bool // any other expectation
	lists                bool // Connection names fields that are to be dropped
	dropped              int
}

func (h *head) reset() {
	h.raw = nil
	h.count, h.first, h.dropped, h.upgrades = 0, 0, 0, 0
	h.method, h.target, h.host, h.reason, h.upgrade = span{}, span{}, span{}, span{}, span{}
	h.status, h.length = 0, -1
	h.chunked, h.http10, h.closes, h.keepAlive, h.wantsUpgrade = false, false, false, false, false
	h.hostSeen, h.expects, h.expectsOther, h.lists = false, false, false, false
}

func (h *head) bytes(s span) []byte { return h.raw[s.from:s.to] }

// text is a view: valid as long as the connection's buffer is.
func (h *head) text(s span) string {
	b := h.raw[s.from:s.to]
	return unsafe.String(unsafe.SliceData(b), len(b))
}

func (f *field) name(raw []byte) []byte { return raw[f.line.from:f.nameEnd] }

// lookup returns the first field of that name, given in lower case.
func (h *head) lookup(lower string) (string, bool) {
	for i := range h.fields[:h.count] {
		f := &h.fields[i]
		if equalFold(f.name(h.raw), lower) {
			return h.text(f.value), true
		}
	}
	return "", false
}

// parseFields reads the header lines that begin at b[at], up to the empty line.
// It returns where the head ends, or 0 where b does not hold all of it.
func (h *head) parseFields(b []byte, at, max int, answer bool) (int, Failure) {
	h.first = uint16(at)
	for {
		end := bytes.IndexByte(b[at:], '\n')
		if end < 0 {
			if len(b) >= max {
				return 0, HeadersTooLarge
			}
			return 0, None
		}
		next := at + end + 1
		if next > max {
			return 0, HeadersTooLarge
		}
		if end == 1 && b[at] == '\r' {
			return next, None
		}
		if end < 2 || b[next-2] != '\r' {
			return 0, RequestMalformed
		}
		if h.count == maxHeaderFields {
			return 0, HeadersTooLarge
		}
		f := &h.fields[h.count]
		if !f.parse(b, at, next) {
			return 0, RequestMalformed
		}
		h.count++
		if f.kind != otherField && !h.note(f, b, answer) {
			return 0, RequestMalformed
		}
		if f.drop {
			h.dropped++
		}
		at = next
	}
}

// parse reads "name: value CRLF" in b[at:next]. A space before the colon and
// the folded lines of old fail as bytes that are no token.
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

// note takes account of a field that this engine acts on. It returns false
// where the field makes the head ambiguous.
func (h *head) note(f *field, b []byte, answer bool) bool {
	value := b[f.value.from:f.value.to]
	switch f.kind {
	case hostField:
		if answer {
			return true
		}
		if h.hostSeen {
			return false
		}
		h.hostSeen = true
		h.host = f.value
	case contentLengthField:
		if h.length >= 0 || h.chunked {
			return false
		}
		h.length = parseLength(value)
		return h.length >= 0
	case transferEncodingField:
		if h.length >= 0 || h.chunked || !equalFold(value, "chunked") {
			return false
		}
		h.chunked = true
		f.drop = true // written anew where the body is
	case connectionField:
		f.drop = true
		return h.noteConnection(value)
	case expectField:
		if answer {
			return true
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
		return mayAllBeTrailers(value)
	case mistakableField:
		return false
	case perHopField:
		f.drop = true
	}
	return true
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
