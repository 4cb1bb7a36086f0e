package http1

import "bytes"

// parseResponse reads one answer's head at the start of b, as parseRequest does.
func (h *head) parseResponse(b []byte, max int) (int, cause) {
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
	if bad := h.parseStatusLine(b[:end]); bad != fine {
		return 0, bad
	}
	size, bad := h.parseFields(b, end+1, max, true)
	if size == 0 || bad != fine {
		return 0, bad
	}
	h.raw = b[:size]
	if h.chunked && h.http10 {
		return 0, codingInHTTP10
	}
	if bad := h.dropListed(); bad != fine {
		return 0, bad
	}
	return size, fine
}

// parseStatusLine reads "HTTP/1.1 SP 200 [SP reason] CR", RFC 9112 §4.
func (h *head) parseStatusLine(line []byte) cause {
	const before = len("HTTP/1.1 ")
	last := len(line) - 1
	if last < 0 || line[last] != '\r' {
		return bareLF
	}
	if last < before+3 {
		return notAStatusLine
	}
	line = line[:last]
	switch string(line[:before]) {
	case "HTTP/1.1 ":
	case "HTTP/1.0 ":
		h.http10 = true
	default:
		return notAStatusLine
	}
	code := line[before : before+3]
	if !all(code, digitByte) || code[0] == '0' {
		return badStatus
	}
	h.status = int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	rest := line[before+3:]
	if len(rest) > 0 && rest[0] != ' ' {
		return badStatus // a fourth digit, or the like
	}
	if !isValue(rest) {
		return byteInPhrase
	}
	h.reason = span{uint16(before + 3), uint16(last)}
	return fine
}
