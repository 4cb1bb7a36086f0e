package sniff

import (
	"bytes"

	"sluice.dev/sluice/internal/policy"
)

// preface is how HTTP/2 begins with prior knowledge (RFC 9113 §3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// maxLineEnds bounds the empty lines before the request (RFC 9112 §2.2), in bytes.
const maxLineEnds = 4

// parseHTTP recognises the first line of an HTTP request (RFC 9112 §3) by its
// method and the HTTP version at its end: other protocols of text begin with a
// word too. It is no judge of the line. What tries to be HTTP is HTTP, and the
// strict engine behind refuses it.
func parseHTTP(b []byte) (Result, Need) {
	if len(b) < len(preface) && preface[:len(b)] == string(b) {
		return Result{Kind: policy.HTTP, HTTP2: len(b) > len("PRI * HTTP/2")}, Need(len(preface))
	}
	if len(b) >= len(preface) && string(b[:len(preface)]) == preface {
		return Result{Kind: policy.HTTP, HTTP2: true}, 0
	}
	line := bytes.TrimLeft(b[:min(len(b), maxLineEnds)], "\r\n")
	line = b[min(len(b), maxLineEnds)-len(line):]
	more := Need(len(b) + 1)
	if len(line) == 0 {
		return Result{Kind: policy.Opaque}, more
	}
	if line[0] == '\r' || line[0] == '\n' {
		return Result{Kind: policy.HTTP}, 0 // many servers skip any number of them; the engine refuses it
	}

	method := 0
	for method < len(line) && isToken(line[method]) {
		method++
	}
	switch {
	case method == 0:
		return opaque()
	case method >= MaxRequestLine:
		return Result{Kind: policy.HTTP}, 0 // servers take a method of any length; the engine refuses it
	case method == len(line):
		return Result{Kind: policy.Opaque}, more
	}
	if line[method] != ' ' && line[method] != '\t' {
		return opaque()
	}
	end := bytes.IndexByte(line[:min(len(line), MaxRequestLine)], '\n')
	known := isKnownMethod(line[:method])
	rest := line[method:]
	if end >= 0 {
		rest = line[method:end]
	}
	switch {
	case !known && hasControl(rest): // the same for half a line as for a whole one; a known method is the engine's to refuse
		return opaque()
	case end >= 0 && hasVersion(rest):
		return Result{Kind: policy.HTTP}, 0
	case end >= 0:
		return opaque()
	case len(line) >= MaxRequestLine:
		return Result{Kind: policy.HTTP}, 0
	}
	kind := policy.Opaque
	if known {
		kind = policy.HTTP
	}
	return Result{Kind: kind}, more
}

// hasVersion reports whether the rest of a line names a version of HTTP, in any case:
// Jetty minds none.
func hasVersion(line []byte) bool {
	const version = "HTTP/"
	for at := len(line) - len(version); at > 0; at-- {
		if (line[at-1] == ' ' || line[at-1] == '\t') && line[at]|0x20 == 'h' && bytes.EqualFold(line[at:at+len(version)], []byte(version)) {
			return true
		}
	}
	return false
}

// hasControl reports whether a line holds a control character that no text does. A carriage return may wait for its line feed.
func hasControl(line []byte) bool {
	for i, c := range line {
		if c < ' ' && c != '\t' && (c != '\r' || i != len(line)-1) || c == 0x7f {
			return true
		}
	}
	return false
}

// isKnownMethod reports whether a request that never came to its line's end was
// one all the same (RFC 9110 §9, RFC 5789).
func isKnownMethod(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH":
		return true
	}
	return false
}

// isToken reports whether c may stand in a method (RFC 9110 §5.6.2).
func isToken(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return c != 0 && bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0
}
