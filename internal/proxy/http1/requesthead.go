package http1

import (
	"bytes"

	"sluice.dev/sluice/internal/httpfield"
)

// parseRequest reads one request head at the start of b. It returns its size,
// or 0 where b does not hold all of it, or why it is refused.
func (h *head) parseRequest(b []byte, max int) (int, cause) {
	h.reset()
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if len(b) >= max {
			return 0, longHead
		}
		return 0, fine
	}
	if end >= max {
		return 0, longHead
	}
	if bad := h.parseRequestLine(b[:end]); bad != fine {
		return 0, bad
	}
	size, bad := h.parseFields(b, end+1, max, false)
	if size == 0 || bad != fine {
		return 0, bad
	}
	h.raw = b[:size]
	return size, h.checkRequest()
}

// parseRequestLine reads "METHOD SP target SP HTTP/1.1 CR", RFC 9112 §3, with
// exactly one space in each place.
func (h *head) parseRequestLine(line []byte) cause {
	last := len(line) - 1
	if last < 0 || line[last] != '\r' {
		return bareLF
	}
	line = line[:last]
	methodEnd := bytes.IndexByte(line, ' ')
	if methodEnd <= 0 {
		return notARequestLine
	}
	if !all(line[:methodEnd], tokenByte) {
		return badMethod
	}
	versionStart := len(line) - len("HTTP/1.1")
	if versionStart < methodEnd+3 || line[versionStart-1] != ' ' {
		return notARequestLine
	}
	switch version := line[versionStart:]; {
	case string(version) == "HTTP/1.1":
	case string(version) == "HTTP/1.0":
		h.http10 = true
	case string(line) == "PRI * HTTP/2.0":
		return http2Preface
	case string(version[:5]) == "HTTP/" && class[version[5]]&digitByte != 0 && version[6] == '.' && class[version[7]]&digitByte != 0:
		return otherVersion
	default:
		return badVersion
	}
	h.method = span{0, uint16(methodEnd)}
	h.target = span{uint16(methodEnd + 1), uint16(versionStart - 1)}
	if target := line[methodEnd+1 : versionStart-1]; !all(target, targetByte) {
		return targetFault(target)
	}
	return fine
}

// targetFault says which byte a target may not hold.
func targetFault(target []byte) cause {
	for _, c := range target {
		switch {
		case c == ' ':
			return spaceInTarget
		case c == '#':
			return fragmentInTarget
		case class[c]&targetByte == 0:
			return byteInTarget
		}
	}
	return byteInTarget
}

// checkRequest holds the rules that need the whole head.
func (h *head) checkRequest() cause {
	switch h.text(h.method) {
	case "CONNECT":
		return methodConnect
	case "TRACE":
		return methodTrace
	}
	if h.chunked && h.http10 {
		return codingInHTTP10 // RFC 9112 §6.1
	}
	if !h.hostSeen && !h.http10 {
		return noHost // RFC 9112 §3.2
	}
	if h.hostSeen {
		host, bad := h.authority(h.host)
		if bad != fine {
			return bad
		}
		h.host, h.hostAnew = host, host != h.host
	}
	if bad := h.normaliseTarget(); bad != fine {
		return bad
	}
	if h.expectsOther && !h.http10 {
		return otherExpectation
	}
	return h.dropListed()
}

// authority returns the name and port at s, without a port that is empty, which is none
// (RFC 3986, section 3.2.3).
func (h *head) authority(s span) (span, cause) {
	if s.to > s.from && h.raw[s.to-1] == ':' {
		s.to--
	}
	switch text := h.bytes(s); {
	case len(text) == 0 || text[0] == ':':
		return s, emptyHost
	case !all(text, hostByte):
		return s, badHost
	case !httpfield.IsAuthority(h.text(s)):
		return s, badAuthority
	}
	return s, fine
}

// normaliseTarget brings absolute-form to origin-form, RFC 9112 §3.2.2: its
// authority must be what Host says, and takes its place where there is none (HTTP/1.0)
// or where it says the port.
func (h *head) normaliseTarget() cause {
	target := h.bytes(h.target)
	if target[0] == '/' {
		return h.checkPath()
	}
	if string(target) == "*" {
		h.query = h.target.to
		if h.text(h.method) == "OPTIONS" {
			return fine
		}
		return asteriskTarget
	}
	skip := 0
	switch {
	case len(target) > 7 && equalFold(target[:7], "http://"):
		skip = 7
	case len(target) > 8 && equalFold(target[:8], "https://"):
		skip = 8
		h.https = true
	default:
		return notATarget
	}
	authority := target[skip:]
	end := bytes.IndexAny(authority, "/?")
	if end < 0 {
		end = len(authority)
	}
	if bad := h.takeAuthority(span{h.target.from + uint16(skip), h.target.from + uint16(skip+end)}); bad != fine {
		return bad
	}
	h.target.from += uint16(skip + end)
	return h.checkPath()
}

// takeAuthority holds that the authority of an absolute-form and the Host field are
// equal, where a port that is left out is the scheme's.
func (h *head) takeAuthority(s span) cause {
	s, bad := h.authority(s)
	switch {
	case !h.hostSeen && bad != fine:
		return bad
	case !h.hostSeen:
		h.host, h.hostAnew = s, true
		return fine
	case bad != fine:
		return authorityDiffers
	}
	name, port := splitAuthority(h.bytes(s))
	seen, seenPort := splitAuthority(h.bytes(h.host))
	if !equalFoldBytes(name, seen) || h.portOf(port) != h.portOf(seenPort) {
		return authorityDiffers
	}
	if len(port) > 0 && len(seenPort) == 0 {
		h.host, h.hostAnew = s, true
	}
	return fine
}

// splitAuthority cuts the port off; a colon within brackets is the address's.
func splitAuthority(b []byte) (name, port []byte) {
	if at := bytes.LastIndexByte(b, ':'); at > bytes.LastIndexByte(b, ']') {
		return b[:at], b[at+1:]
	}
	return b, nil
}

// portOf returns a port, or the scheme's where there is none.
func (h *head) portOf(port []byte) string {
	switch {
	case len(port) > 0:
		return string(port)
	case h.https:
		return "443"
	}
	return "80"
}

// checkPath finds where the query begins, and refuses a path whose
// percent-encoding is broken: servers read it in different ways.
func (h *head) checkPath() cause {
	target := h.bytes(h.target)
	h.query = h.target.to
	for i, c := range target {
		if c == '?' {
			h.query = h.target.from + uint16(i)
			break
		}
		if c == '%' && (i+2 >= len(target) || class[target[i+1]]&hexByte == 0 || class[target[i+2]]&hexByte == 0) {
			return badEscape
		}
	}
	return fine
}
