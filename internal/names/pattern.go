package names

import (
	"fmt"
	"net/netip"
	"strings"
)

// Pattern is what a rule says of host names: "*" alone, or an optional "*" as the
// first character, then an optional "." or "-", then labels such as a Name has, at
// most 255 bytes. "*" stands for one or more characters, dots among them: matching
// is by characters. Patterns are comparable; the zero Pattern matches nothing.
type Pattern struct {
	text  string // as written
	exact Name   // what a pattern without "*" matches; zero where it cannot be a Name
}

// The three ways in which a pattern is refused. Their texts are Istio 0.5's.
type (
	// EmptyPatternError is the refusal of "".
	EmptyPatternError struct{}
	// LabelError is the refusal of one label.
	LabelError struct {
		Domain string // without the leading "*", "*." or "*-"
		Label  string
	}
	// PatternTooLongError is the refusal of more than 255 bytes.
	PatternTooLongError struct{ Domain string }
)

func (EmptyPatternError) Error() string { return "domain must not be empty string" }

func (e LabelError) Error() string {
	return fmt.Sprintf("domain name %q invalid (label %q invalid)", e.Domain, e.Label)
}

func (e PatternTooLongError) Error() string {
	return fmt.Sprintf("domain name %q too long (max %d)", e.Domain, maxPattern)
}

// maxPattern is the bound on a pattern without its wildcard, in bytes, as in Istio
// 0.5. One that is longer than any Name is legal and matches nothing.
const maxPattern = 255

// ParsePattern reads a pattern. It returns an EmptyPatternError, a LabelError or
// a PatternTooLongError. Legal patterns that can match no Name are kept as they
// are: an address ("10.0.0.100", see Addr), the end of one ("*.0.0.100").
func ParsePattern(s string) (Pattern, error) { return parsePattern(s, isPatternLabel) }

// ParseIstioPattern reads a pattern in the grammar of Istio 0.5's EgressRule, whose
// labels are those of RFC 1123: without underscores, and no hyphen at their end.
func ParseIstioPattern(s string) (Pattern, error) { return parsePattern(s, isDNS1123Label) }

func parsePattern(s string, isLabel func(string) bool) (Pattern, error) {
	if s == "" {
		return Pattern{}, EmptyPatternError{}
	}
	domain, wild := strings.CutPrefix(s, "*")
	if wild {
		if domain == "" {
			return Pattern{text: s}, nil
		}
		if domain[0] == '.' || domain[0] == '-' {
			domain = domain[1:]
		}
	}
	if len(domain) > maxPattern {
		return Pattern{}, PatternTooLongError{Domain: domain}
	}
	for label := range strings.SplitSeq(domain, ".") {
		if !isLabel(label) {
			return Pattern{}, LabelError{Domain: domain, Label: label}
		}
	}
	p := Pattern{text: s}
	if !wild {
		if n, err := Parse(s); err == nil && n.s == s {
			p.exact = n
		}
	}
	return p, nil
}

// MustParsePattern is ParsePattern for constants; it panics on what ParsePattern
// refuses.
func MustParsePattern(s string) Pattern {
	p, err := ParsePattern(s)
	if err != nil {
		panic(err)
	}
	return p
}

// ExactPattern returns the pattern that matches n alone. It fails for the zero Name
// only.
func ExactPattern(n Name) (Pattern, error) { return ParsePattern(n.s) }

// isPatternLabel reports whether a Name can have the label: lower-case letters,
// digits, hyphens and underscores, 1 to 63 of them, the first one no hyphen. DNS
// has no rule against underscores (RFC 2181 section 11), and names in use have them.
func isPatternLabel(label string) bool {
	if label == "" || len(label) > MaxLabel || label[0] == '-' {
		return false
	}
	for i := range len(label) {
		if c := label[i]; c != '_' && !isDNS1123(c) {
			return false
		}
	}
	return true
}

// isDNS1123Label reports whether label is lower-case letters, digits and inner
// hyphens, 1 to 63 of them (RFC 1123 section 2.1).
func isDNS1123Label(label string) bool {
	if label == "" || len(label) > MaxLabel || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for i := range len(label) {
		if !isDNS1123(label[i]) {
			return false
		}
	}
	return true
}

func isDNS1123(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' }

// String returns the pattern as it was written.
func (p Pattern) String() string { return p.text }

// IsZero reports whether p is the zero Pattern.
func (p Pattern) IsZero() bool { return p.text == "" }

// IsAny reports whether p is "*".
func (p Pattern) IsAny() bool { return p.text == "*" }

// Exact returns the one name that p matches; false for wildcards, and for
// addresses and others that are not valid names.
func (p Pattern) Exact() (Name, bool) { return p.exact, !p.exact.IsZero() }

// Addr returns the address when p is an address literal, which Istio 0.5's grammar
// allows: a rule on it is a rule on that address. It matches no Name.
func (p Pattern) Addr() (netip.Addr, bool) {
	if p.text == "" || p.text[0] == '*' || !endsInNumber(p.text) {
		return netip.Addr{}, false
	}
	return parseAddr4(p.text)
}

// Suffix returns what follows the leading "*", "" for "*"; false for patterns
// without one.
func (p Pattern) Suffix() (string, bool) {
	if p.text == "" || p.text[0] != '*' {
		return "", false
	}
	return p.text[1:], true
}

// Match reports whether p matches n. "*" is never empty: "*.foo.com" matches
// a.foo.com and a.b.foo.com, not foo.com.
func (p Pattern) Match(n Name) bool {
	if suffix, wild := p.Suffix(); wild {
		return len(n.s) > len(suffix) && strings.HasSuffix(n.s, suffix)
	}
	return !n.IsZero() && n == p.exact
}

// Specificity orders the patterns that match one name: the higher one wins. "*"
// is 0, a wildcard the length of its suffix, an exact name more than any.
func (p Pattern) Specificity() int {
	if suffix, wild := p.Suffix(); wild {
		return len(suffix)
	}
	return 2*maxPattern + len(p.text)
}

// MarshalText implements encoding.TextMarshaler.
func (p Pattern) MarshalText() ([]byte, error) { return []byte(p.text), nil }

// UnmarshalText implements encoding.TextUnmarshaler by ParsePattern.
func (p *Pattern) UnmarshalText(text []byte) error {
	parsed, err := ParsePattern(string(text))
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}
