package policy

import (
	"slices"
	"strings"
)

// needsRequest reports whether the rule allows only some requests, so that it
// can carry nothing whose method and path are hidden.
func (r *Rule) needsRequest() bool {
	return len(r.HTTP) > 0 && !slices.ContainsFunc(r.HTTP, func(m HTTPMatch) bool { return len(m.Methods) == 0 && len(m.Paths) == 0 })
}

// allowsRequest reports whether one alternative of the rule holds. The method is
// compared byte by byte (RFC 9110 section 9.1: methods are case-sensitive), the
// path without its query as it will be sent. A rule that names paths allows no
// path that IsNormalPath refuses: what we compare must be what every server in
// the world understands.
func (r *Rule) allowsRequest(method, path string) bool {
	if len(r.HTTP) == 0 {
		return true
	}
	normal := IsNormalPath(path)
	for i := range r.HTTP {
		m := &r.HTTP[i]
		if len(m.Methods) > 0 && !slices.Contains(m.Methods, method) {
			continue
		}
		if len(m.Paths) == 0 || normal && matchesPath(m.Paths, path) {
			return true
		}
	}
	return false
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
// character.
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
			if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) || !mayBeEncoded(unhex(path[i+1])<<4|unhex(path[i+2])) {
				return false
			}
			i += 2
		}
	}
	return true
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
