package policy

import (
	"slices"
	"strings"
	"unicode/utf8"

	"sluice.dev/sluice/internal/refusal"
)

// NeedsRequest reports whether the rule allows only some requests, so that it
// can carry nothing whose method and path are hidden.
func (r *Rule) NeedsRequest() bool {
	return len(r.HTTP) > 0 && !slices.ContainsFunc(r.HTTP, func(m HTTPMatch) bool {
		return len(m.Methods) == 0 && len(m.Paths) == 0 && len(m.Upgrades) == 0
	})
}

// allowsRequest returns "" where one alternative of the rule holds, else why none
// does. The method is compared byte by byte (RFC 9110 section 9.1: methods are
// case-sensitive), the path without its query as it will be sent. A rule that
// names paths allows no path that IsNormalPath refuses: what we compare must be
// what every server in the world understands. What a request asks to change to is
// no longer read by anybody, so an alternative on some requests lists what it may
// be.
func (r *Rule) allowsRequest(c *Chain) refusal.Reason {
	if len(r.HTTP) == 0 {
		return ""
	}
	reason := refusal.MethodOrPath
	normal := IsNormalPath(c.Path)
	for i := range r.HTTP {
		m := &r.HTTP[i]
		if len(m.Methods) > 0 && !slices.Contains(m.Methods, c.Method) {
			continue
		}
		if len(m.Paths) > 0 && !(normal && matchesPath(m.Paths, c.Path)) {
			continue
		}
		if m.allowsUpgrade(c.Upgrade) {
			return ""
		}
		reason = refusal.UpgradeForbidden
	}
	return reason
}

// allowsUpgrade reports whether a request may ask to change to a protocol, whose
// names are compared without case (RFC 9110 section 7.8).
func (m *HTTPMatch) allowsUpgrade(protocol string) bool {
	if protocol == "" || len(m.Methods) == 0 && len(m.Paths) == 0 && len(m.Upgrades) == 0 {
		return true
	}
	return slices.ContainsFunc(m.Upgrades, func(listed string) bool { return strings.EqualFold(listed, protocol) })
}

func matchesPath(patterns []string, path string) bool {
	for _, pattern := range patterns {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
			if strings.HasPrefix(path, prefix) {
				return true
			}
		} else if path == pattern {
			return true
		}
	}
	return false
}

// IsNormalPath reports whether a path can be read in one way only. It starts
// with "/" (the absolute form and "*" do not), holds printable ASCII, no empty
// segment but the last, no "." or ".." segment, no backslash, ";" (path
// parameters, which some servers cut off), "?" or "#"; and percent-encodes
// neither a character that need not be (RFC 3986 section 2.3, another spelling
// of the same path), nor a slash, backslash, ";", "%", "?", "#", nor a control
// character, nor bytes that are not valid UTF-8 (an overlong %c0%ae is a "." to
// some servers).
func IsNormalPath(path string) bool {
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
