package httpproxy

import "bytes"

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
