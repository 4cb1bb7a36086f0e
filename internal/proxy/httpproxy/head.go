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
	hasTrailer           bool
	dropped              int
}

func (h *head) reset() {
	h.raw = nil
	h.count, h.first, h.dropped, h.upgrades = 0, 0, 0, 0
	h.method, h.target, h.host, h.reason, h.upgrade = span{}, span{}, span{}, span{}, span{}
	h.status, h.length = 0, -1
	h.chunked, h.http10, h.closes, h.keepAlive, h.wantsUpgrade = false, false, false, false, false
	h.hostSeen, h.expects, h.expectsOther, h.lists, h.hasTrailer = false, false, false, false, false
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

// parseRequest reads one request head at the start of b. It returns its size,
// or 0 where b does not hold all of it, or why it is refused.
func (h *head) parseRequest(b []byte, max int) (int, Failure) {
	h.reset()
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if len(b) >= max {
			return 0, HeadersTooLarge
		}
		return 0, None
	}
	if end >= max {
		return 0, HeadersTooLarge
	}
	if f := h.parseRequestLine(b[:end]); f != None {
		return 0, f
	}
	size, f := h.parseFields(b, end+1, max, false)
	if size == 0 || f != None {
		return 0, f
	}
	h.raw = b[:size]
	return size, h.checkRequest()
}

// parseRequestLine reads "METHOD SP target SP HTTP/1.1 CR", RFC 9112 §3, with
// exactly one space in each place.
func (h *head) parseRequestLine(line []byte) Failure {
	last := len(line) - 1
	if last < 0 || line[last] != '\r' {
		return RequestMalformed
	}
	line = line[:last]
	methodEnd := bytes.IndexByte(line, ' ')
	if methodEnd <= 0 || !all(line[:methodEnd], tokenByte) {
		return RequestMalformed
	}
	versionStart := len(line) - len("HTTP/1.1")
	if versionStart < methodEnd+3 || line[versionStart-1] != ' ' {
		return RequestMalformed
	}
	switch version := line[versionStart:]; {
	case string(version) == "HTTP/1.1":
	case string(version) == "HTTP/1.0":
		h.http10 = true
	case string(line) == "PRI * HTTP/2.0":
		return HTTP2NotBuilt
	case string(version[:5]) == "HTTP/" && class[version[5]]&digitByte != 0 && version[6] == '.' && class[version[7]]&digitByte != 0:
		return VersionNotSupported
	default:
		return RequestMalformed
	}
	h.method = span{0, uint16(methodEnd)}
	h.target = span{uint16(methodEnd + 1), uint16(versionStart - 1)}
	if !all(line[methodEnd+1:versionStart-1], targetByte) {
		return RequestMalformed
	}
	return None
}

// checkRequest holds the rules that need the whole head.
func (h *head) checkRequest() Failure {
	switch h.text(h.method) {
	case "CONNECT":
		return ConnectNotBuilt
	case "TRACE":
		return TraceRefused
	}
	if h.chunked && h.http10 {
		return RequestMalformed // RFC 9112 §6.1
	}
	if h.hostSeen && (h.host.from == h.host.to || !all(h.bytes(h.host), hostByte)) {
		return RequestMalformed
	}
	if !h.hostSeen && !h.http10 {
		return RequestMalformed // RFC 9112 §3.2
	}
	if f := h.normaliseTarget(); f != None {
		return f
	}
	if h.expectsOther && !h.http10 {
		return ExpectationUnknown
	}
	return h.dropListed()
}

// normaliseTarget brings absolute-form to origin-form, RFC 9112 §3.2.2: its
// authority must be what Host says.
func (h *head) normaliseTarget() Failure {
	target := h.bytes(h.target)
	if target[0] == '/' {
		return checkEscapes(target)
	}
	if string(target) == "*" {
		if h.text(h.method) == "OPTIONS" {
			return None
		}
		return RequestMalformed
	}
	skip := 0
	switch {
	case len(target) > 7 && equalFold(target[:7], "http://"):
		skip = 7
	case len(target) > 8 && equalFold(target[:8], "https://"):
		skip = 8
	default:
		return RequestMalformed
	}
	authority := target[skip:]
	end := bytes.IndexAny(authority, "/?")
	if end < 0 {
		end = len(authority)
	}
	if !h.hostSeen || !equalFoldBytes(authority[:end], h.bytes(h.host)) {
		return RequestMalformed
	}
	h.target.from += uint16(skip + end)
	return checkEscapes(h.bytes(h.target))
}

// checkEscapes refuses a path whose percent-encoding is broken: servers read
// it in different ways.
func checkEscapes(target []byte) Failure {
	for i, c := range target {
		if c == '?' {
			break
		}
		if c == '%' && (i+2 >= len(target) || class[target[i+1]]&hexByte == 0 || class[target[i+2]]&hexByte == 0) {
			return RequestMalformed
		}
	}
	return None
}

// parseResponse reads one answer's head at the start of b, as parseRequest does.
func (h *head) parseResponse(b []byte, max int) (int, Failure) {
	h.reset()
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if len(b) >= max {
			return 0, UpstreamProtocol
		}
		return 0, None
	}
	if end >= max || !h.parseStatusLine(b[:end]) {
		return 0, UpstreamProtocol
	}
	size, f := h.parseFields(b, end+1, max, true)
	if f != None {
		return 0, UpstreamProtocol
	}
	if size == 0 {
		return 0, None
	}
	h.raw = b[:size]
	if h.chunked && h.http10 || h.dropListed() != None {
		return 0, UpstreamProtocol
	}
	return size, None
}

// parseStatusLine reads "HTTP/1.1 SP 200 [SP reason] CR", RFC 9112 §4.
func (h *head) parseStatusLine(line []byte) bool {
	const before = len("HTTP/1.1 ")
	last := len(line) - 1
	if last < before+3 || line[last] != '\r' {
		return false
	}
	line = line[:last]
	switch string(line[:before]) {
	case "HTTP/1.1 ":
	case "HTTP/1.0 ":
		h.http10 = true
	default:
		return false
	}
	code := line[before : before+3]
	if !all(code, digitByte) || code[0] == '0' {
		return false
	}
	h.status = int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	rest := line[before+3:]
	if len(rest) > 0 && rest[0] != ' ' || !all(rest, valueByte) {
		return false
	}
	h.reason = span{uint16(before + 3), uint16(last)}
	return true
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
	if !all(line[from:to], valueByte) {
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
		return h.noteConnection(f, value)
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
		h.hasTrailer = true
	case http2SettingsField, perHopField:
		f.drop = true
	}
	return true
}

// noteConnection reads the options of one Connection field, RFC 9110 §7.6.1.
func (h *head) noteConnection(f *field, value []byte) bool {
	for more := true; more; {
		var option []byte
		option, value, more = nextInList(value)
		switch {
		case len(option) == 0:
		case !all(option, tokenByte):
			return false
		case equalFold(option, "close"):
			h.closes = true
		case equalFold(option, "keep-alive"):
			h.keepAlive = true
		case equalFold(option, "upgrade"):
			h.wantsUpgrade = true
		default:
			h.lists = true
		}
	}
	return true
}

// dropListed drops the fields that a Connection field names. One that names
// what every recipient needs would make two readers of one head.
func (h *head) dropListed() Failure {
	if !h.lists {
		return None
	}
	for i := range h.fields[:h.count] {
		if h.fields[i].kind != connectionField {
			continue
		}
		value := h.bytes(h.fields[i].value)
		for more := true; more; {
			var option []byte
			option, value, more = nextInList(value)
			if !mayBeListed(option) {
				return RequestMalformed
			}
			h.dropNamed(option)
		}
	}
	return None
}

func (h *head) dropNamed(name []byte) {
	for i := range h.fields[:h.count] {
		f := &h.fields[i]
		if !f.drop && equalFoldBytes(f.name(h.raw), name) {
			f.drop = true
			h.dropped++
		}
	}
}

// mayBeListed says whether a Connection field may name the field.
func mayBeListed(name []byte) bool {
	switch kindOf(name) {
	case hostField, contentLengthField, transferEncodingField, expectField, bodyField:
		return false
	case otherField:
		return !equalFold(name, "authorization") && !equalFold(name, "cookie") && !equalFold(name, "set-cookie") &&
			!equalFold(name, "cache-control") && !equalFold(name, "location")
	}
	return true
}

// parseLength reads 1 to 18 digits and nothing else, or returns -1.
func parseLength(b []byte) int64 {
	if len(b) == 0 || len(b) > 18 {
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

// upgradesTo says whether the head asks for, or grants, another protocol.
// h2c is never one of them: its frames would pass unread.
func (h *head) upgradesTo() (string, bool) {
	if !h.wantsUpgrade || h.upgrades != 1 || h.http10 || h.upgrade.from == h.upgrade.to {
		return "", false
	}
	protocol := h.bytes(h.upgrade)
	for _, c := range protocol {
		if class[c]&tokenByte == 0 && c != '/' {
			return "", false // several, or none
		}
	}
	if equalFold(protocol, "h2c") {
		return "", false
	}
	return h.text(h.upgrade), true
}

// dropOther drops the fields of that name, given in lower case, unless it is
// one that this engine acts on.
func (h *head) dropOther(lower string) {
	for i := range h.fields[:h.count] {
		f := &h.fields[i]
		if !f.drop && f.kind == otherField && equalFold(f.name(h.raw), lower) {
			f.drop = true
			h.dropped++
		}
	}
}
