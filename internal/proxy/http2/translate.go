package http2

import (
	"strconv"
	"strings"
)

// request writes a request as HTTP/1.1 into m.text. ended says that no body follows.
func (s *section) request(m *message, ended bool) *fault {
	p, r, bad := s.check(false, false)
	if bad != nil {
		return bad
	}
	target, method, bad := p.target(&r)
	if bad != nil {
		return bad
	}
	m.method, m.protocol, m.key, m.grpc, m.announced = p.method, p.protocol, "", r.grpc, r.length
	out := append(m.text[:0], method...)
	out = append(out, ' ')
	if p.scheme == "https" {
		out = append(append(out, "https://"...), p.authority...) // the absolute form says the scheme
	}
	out = append(out, target...)
	out = append(out, " HTTP/1.1\r\n"...)
	if p.has&hasAuthority != 0 {
		out = appendLine(out, "host", p.authority)
	} else if r.hosts > 0 {
		out = appendLine(out, "host", r.host)
	}
	withoutLength := r.unbound() && !ended
	out = s.appendLines(out, &r, withoutLength)
	switch {
	case m.protocol != "" && r.length >= 0:
		return malformed("an extended CONNECT with a Content-Length")
	case m.protocol != "":
		out = appendLine(append(out, "connection: upgrade\r\n"...), "upgrade", m.protocol)
		if isWebSocket(m.protocol) {
			m.key = newKey()
			out = appendLine(out, "sec-websocket-key", m.key)
		}
		m.kind = rawBody
	case ended && r.length > 0:
		return malformed("a Content-Length without a body")
	case ended:
		m.kind = noBody
	case r.length >= 0 && !withoutLength:
		m.kind, m.length = lengthBody, r.length
	default:
		out = append(out, "transfer-encoding: chunked\r\n"...)
		m.kind = chunkedBody
	}
	m.text = append(out, "\r\n"...)
	return nil
}

// target checks the pseudo-fields of a request against one another, and returns the
// method and the target that HTTP/1.1 has for them.
func (p *pseudo) target(r *regular) (target, method string, bad *fault) {
	const needed = hasMethod | hasScheme | hasPath
	switch {
	case !isToken(p.method):
		return "", "", malformed("a :method that is not a token")
	case r.hosts > 1:
		return "", "", malformed("two Host fields")
	case r.hosts == 1 && p.has&hasAuthority != 0 && !strings.EqualFold(r.host, p.authority):
		return "", "", malformed("a Host field other than :authority")
	case p.has&hasAuthority != 0 && !isAuthority(p.authority), r.hosts == 1 && !isAuthority(r.host):
		return "", "", malformed("an :authority or Host that is not a host and port")
	case p.method == "CONNECT" && p.has&hasProtocol == 0:
		if p.has != hasMethod|hasAuthority {
			return "", "", malformed("a CONNECT with other pseudo-fields than :method and :authority")
		}
		return p.authority, "CONNECT", nil
	case p.has&needed != needed:
		return "", "", malformed("a request without :method, :scheme or :path")
	case p.scheme != "http" && p.scheme != "https":
		return "", "", malformed("a :scheme other than http and https")
	case p.has&hasProtocol != 0 && (p.method != "CONNECT" || p.has&hasAuthority == 0 || !isToken(p.protocol)):
		return "", "", malformed("a :protocol without CONNECT and :authority")
	case p.path == "*" && p.method == "OPTIONS":
		if p.scheme == "https" {
			return "", p.method, nil // as the absolute form has it: RFC 9112, section 3.2.4
		}
		return "*", p.method, nil
	case p.path == "" || p.path[0] != '/' || !isTarget(p.path):
		return "", "", malformed("a :path that is not a path")
	case p.scheme == "https" && p.has&hasAuthority == 0:
		return "", "", malformed("an https request without :authority")
	case p.has&hasProtocol != 0:
		return p.path, "GET", nil // RFC 8441 says what a GET with Upgrade says in HTTP/1.1
	}
	return p.path, p.method, nil
}

// appendLines writes the fields behind the pseudo-fields as lines, all cookies in one (RFC
// 9113, section 8.2.3).
func (s *section) appendLines(out []byte, r *regular, withoutLength bool) []byte {
	for i := range s.fields {
		f := &s.fields[i]
		switch {
		case f.Name[0] == ':', f.Name == "te", f.Name == "host", f.Name == "sec-websocket-key", f.Name == "cookie" && r.cookies > 1, withoutLength && f.Name == "content-length":
			continue
		}
		out = appendLine(out, f.Name, f.Value)
	}
	if r.cookies < 2 {
		return out
	}
	out = append(out, "cookie: "...)
	between := ""
	for i := range s.fields {
		// An empty one says nothing, and as the last would leave a blank at the end, which is no part of a value.
		if f := &s.fields[i]; f.Name == "cookie" && f.Value != "" {
			out = append(append(out, between...), f.Value...)
			between = "; "
		}
	}
	return append(out, "\r\n"...)
}

// answer writes an answer's head as HTTP/1.1 into m.text. method is the request's, and
// protocol that of its extended CONNECT; ended says that no body follows.
func (s *section) answer(m *message, method, protocol string, ended bool) *fault {
	p, r, bad := s.check(true, false)
	switch {
	case bad != nil:
		return bad
	case len(p.status) != 3 || p.status[0] < '1' || p.status[0] > '9' || parseLength(p.status) < 0:
		return malformed("an answer without a :status of three digits")
	case p.status == "101":
		return malformed("status 101, which HTTP/2 does not have")
	}
	m.status, _ = strconv.Atoi(p.status)
	m.grpc, m.announced = r.grpc, r.length
	out := append(m.text[:0], "HTTP/1.1 "...)
	switches := protocol != "" && m.status/100 == 2
	if switches { // RFC 8441, section 4
		m.status = 101
		out = appendLine(append(out, "101 Switching Protocols\r\nconnection: upgrade\r\n"...), "upgrade", protocol)
		if isWebSocket(protocol) {
			out = appendLine(out, "sec-websocket-accept", acceptOf(m.key))
		}
	} else {
		out = append(append(out, p.status...), " \r\n"...)
	}
	bodiless := m.status < 200 || m.status == 204 || m.status == 304 || method == "HEAD"
	if m.status < 200 && ended && !switches {
		return malformed("an interim answer that ends its stream")
	}
	withoutLength := r.unbound() && !ended && !bodiless
	for i := range s.fields {
		f := &s.fields[i]
		switch {
		case f.Name[0] == ':', f.Name == "te", withoutLength && f.Name == "content-length":
			continue
		}
		out = appendLine(out, f.Name, f.Value)
	}
	switch {
	case switches:
		m.kind = rawBody
	case bodiless:
		m.kind = noBody
	case ended && r.length > 0:
		return malformed("a Content-Length without a body")
	case ended:
		m.kind = noBody
		if r.length < 0 {
			out = append(out, "content-length: 0\r\n"...)
		}
	case r.length >= 0 && !withoutLength:
		m.kind, m.length = lengthBody, r.length
	default:
		m.kind = chunkedBody
		out = append(out, "transfer-encoding: chunked\r\n"...)
	}
	m.text = append(out, "\r\n"...)
	return nil
}

// trailers writes a trailer section as lines.
func (s *section) trailers(out []byte) ([]byte, *fault) {
	_, r, bad := s.check(false, true)
	if bad != nil {
		return out, bad
	}
	if r.length >= 0 || r.hosts > 0 {
		return out, malformed("a trailer that cannot come after the body")
	}
	for i := range s.fields {
		if f := &s.fields[i]; f.Name != "te" {
			out = appendLine(out, f.Name, f.Value)
		}
	}
	return out, nil
}

func appendLine(out []byte, name, value string) []byte {
	out = append(append(out, name...), ": "...)
	return append(append(out, value...), "\r\n"...)
}
