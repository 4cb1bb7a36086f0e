// Package httppath says which paths of HTTP requests can be read in one way only, and
// what rules list of them. Validation, decisions and the ingress ask it. It never
// decodes or repairs a path: what is not normal is not compared.
package httppath

import (
	"strings"
	"unicode/utf8"
)

// IsNormal reports whether a path can be read in one way only. It starts
// with "/" (the absolute form and "*" do not), holds printable ASCII, no empty
// segment but the last, no "." or ".." segment, no backslash, ";" (path
// parameters, which some servers cut off), "?" or "#"; and percent-encodes
// neither a character that need not be (RFC 3986 section 2.3, another spelling
// of the same path), nor a slash, backslash, ";", "%", "?", "#", nor a control
// character, nor bytes that are not valid UTF-8 (an overlong %c0%ae is a "." to
// some servers).
func IsNormal(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	start := 1 // of the segment
	for i := 1; i <= len(path); i++ {
		if i == len(path) || path[i] == '/' {
			segment := path[start:i]
			if segment == "." || segment == ".." || segment == "" && i < len(path) {
				return false
			}
			start = i + 1
			continue
		}
		switch c := path[i]; {
		case c <= ' ' || c >= 0x7f, c == '\\', c == ';', c == '?', c == '#':
			return false
		case c == '%':
			size := encodedRune(path[i:])
			if size == 0 {
				return false
			}
			i += size - 1
		}
	}
	return true
}

// encodedRune returns how many bytes of s, which begins with "%", encode its first
// character, and 0 where that has not one reading only.
func encodedRune(s string) int {
	var decoded [utf8.UTFMax]byte
	n := 0
	for n < len(decoded) && 3*n+2 < len(s) && s[3*n] == '%' && isHex(s[3*n+1]) && isHex(s[3*n+2]) {
		decoded[n] = unhex(s[3*n+1])<<4 | unhex(s[3*n+2])
		n++
	}
	r, size := utf8.DecodeRune(decoded[:n])
	switch {
	case r == utf8.RuneError && size <= 1: // nothing, or not UTF-8
		return 0
	case r < utf8.RuneSelf && !mayBeEncoded(byte(r)):
		return 0
	}
	return 3 * size
}

// mayBeEncoded reports whether a percent-encoded c has one reading only.
func mayBeEncoded(c byte) bool {
	switch {
	case c < ' ', c == 0x7f:
		return false
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return false
	}
	return strings.IndexByte(`-._~/\;%?#`, c) < 0
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}
