package httppath

import (
	"fmt"
	"strings"
)

// MaxPattern bounds a pattern, in bytes.
const MaxPattern = 4096

// Matches reports whether one of the patterns, each a path or a prefix that ends in
// "*", matches a path, byte by byte. The path is to be normal: a caller that did not
// ask compares what servers may read in another way.
func Matches(patterns []string, path string) bool {
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

// CheckPattern returns what is wrong with a pattern: it is not one, or no normal
// path matches it.
func CheckPattern(pattern string) error {
	switch {
	case !strings.HasPrefix(pattern, "/"):
		return fmt.Errorf("%q does not begin with /", pattern)
	case len(pattern) > MaxPattern:
		return fmt.Errorf("longer than %d bytes", MaxPattern)
	case strings.ContainsAny(pattern, "?#"):
		return fmt.Errorf("%q holds a query or fragment: paths are matched without them", pattern)
	case strings.Contains(strings.TrimSuffix(pattern, "*"), "*"):
		return fmt.Errorf("%q holds * before its end: it stands for the rest of the path, at the end only", pattern)
	}
	for i := range len(pattern) {
		if pattern[i] <= ' ' || pattern[i] >= 0x7f {
			return fmt.Errorf("%q holds a byte that no path has: write it percent-encoded", pattern)
		}
	}
	sample, isPrefix := strings.CutSuffix(pattern, "*")
	if isPrefix {
		// What follows may complete an encoded character, or a segment.
		sample = strings.TrimSuffix(cutEncoded(sample), "%") + "x"
	}
	for segment := range strings.SplitSeq(sample, "/") {
		if segment == "." || segment == ".." {
			return fmt.Errorf("%q holds the segment %q, which no request that reaches a server keeps", pattern, segment)
		}
	}
	if !IsNormal(sample) {
		return fmt.Errorf("%q matches no request: a path with an empty segment, a backslash, \";\", or an encoding that servers read in different ways "+
			"(of a letter, a slash, or not of UTF-8) is never allowed", pattern)
	}
	return nil
}

// cutEncoded cuts off the percent-encoded characters at the end of s, of which the
// last may not be whole.
func cutEncoded(s string) string {
	for {
		switch n := len(s); {
		case n >= 3 && s[n-3] == '%' && isHex(s[n-2]) && isHex(s[n-1]):
			s = s[:n-3]
		case n >= 2 && s[n-2] == '%' && isHex(s[n-1]):
			s = s[:n-2]
		default:
			return s
		}
	}
}
