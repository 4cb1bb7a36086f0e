package httpproxy

import "bytes"

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
	if len(rest) > 0 && rest[0] != ' ' || !isValue(rest) {
		return false
	}
	h.reason = span{uint16(before + 3), uint16(last)}
	return true
}
