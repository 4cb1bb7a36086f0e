package route

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// Bounds of regular expressions. RE2 runs in time linear in the text, but its programs
// grow with the expression, and "x{1000}" is a short one.
const (
	MaxRegex            = 1024   // bytes of one
	MaxRegexSize        = 2000   // instructions of one, as RegexSize counts them
	MaxRegexOfNamespace = 20_000 // instructions of all RouteRules of a namespace
)

// RegexSize returns how many instructions an expression comes to.
func RegexSize(expression string) (int, error) {
	if len(expression) > MaxRegex {
		return 0, fmt.Errorf("regular expression of %d bytes: at most %d", len(expression), MaxRegex)
	}
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return 0, fmt.Errorf("regular expression: %w", err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return 0, fmt.Errorf("regular expression: %w", err)
	}
	if size := len(program.Inst); size > MaxRegexSize {
		return size, fmt.Errorf("regular expression %.40q comes to %d instructions: at most %d", expression, size, MaxRegexSize)
	}
	return len(program.Inst), nil
}

// RegexSize returns how many instructions the expressions of a match come to.
func (m *Match) RegexSize() (sum int, err error) {
	add := func(one StringMatch) {
		if one.Regex == "" || err != nil {
			return
		}
		size := 0
		size, err = RegexSize(one.Regex)
		sum += size
	}
	for _, one := range m.Headers {
		add(one)
	}
	if m.URI != nil {
		add(*m.URI)
	}
	return sum, err
}

// field is one thing that a rule looks at, and how.
type field struct {
	name     string // lower-case header, a pseudo one, "" for the URI
	pathOnly bool   // compare without the query
	exact    string
	prefix   string
	regex    *regexp.Regexp
	how      how
}

type how uint8

const (
	byExact how = iota
	byPrefix
	byRegex
)

var (
	errNoMatcher   = errors.New("none of exact, prefix and regex is set")
	errTwoMatchers = errors.New("more than one of exact, prefix and regex is set")
)

// compileField compiles one matcher; name "" is the URI. An exact URI is compared
// with the path without its query (a path, in Istio 0.5), a prefix and a regular
// expression with all of it.
func compileField(name string, m StringMatch) (field, error) {
	f := field{name: name, exact: m.Exact, prefix: m.Prefix}
	set := 0
	if m.Exact != "" {
		set++
		f.how = byExact
		f.pathOnly = name == "" && !strings.Contains(m.Exact, "?")
	}
	if m.Prefix != "" {
		set++
		f.how = byPrefix
	}
	if m.Regex != "" {
		set++
		f.how = byRegex
		// Checked alone first: "a)(b" is none, although the anchored form would be.
		if _, err := RegexSize(m.Regex); err != nil {
			return field{}, err
		}
		regex, err := regexp.Compile(`\A(?:` + m.Regex + `)\z`)
		if err != nil {
			return field{}, fmt.Errorf("regular expression: %w", err)
		}
		f.regex = regex
	}
	switch set {
	case 0:
		return field{}, errNoMatcher
	case 1:
		return f, nil
	default:
		return field{}, errTwoMatchers
	}
}

// matches reports whether the request has what the matcher wants. A field that is
// repeated matches where one of its values does, or all of them as one list (RFC
// 9110 section 5.3; cookies are joined as RFC 9113 section 8.2.3 joins them): a
// rule must not be missed because a client sends a second line first.
func (f *field) matches(request *Request) bool {
	switch f.name {
	case "":
		if f.pathOnly {
			path, _, _ := strings.Cut(request.Path, "?")
			return f.takes(path)
		}
		return f.takes(request.Path)
	case ":method":
		return f.takes(request.Method)
	case ":authority":
		return f.takes(request.Authority)
	case ":scheme":
		if request.HTTPS {
			return f.takes("https")
		}
		return f.takes("http") // what a proxy reads is plain
	}
	if request.Fields == nil {
		return false
	}
	look := request.Look
	if look == nil {
		look = new(Look)
	}
	found, count := look.one(f, request.Fields)
	return found || count > 1 && f.takes(f.joined(request.Fields))
}

// Look is what looking at header fields needs, to be used again from one request to the
// next: without it each look is an allocation. It must not be copied once it is used. The
// zero Look is ready.
type Look struct {
	yield func(value string) bool
	at    *field
	found bool
	count int
}

// one looks for one value that a matcher takes, and counts those that it looked at.
func (l *Look) one(f *field, fields Fields) (found bool, count int) {
	if l.yield == nil {
		l.yield = func(value string) bool {
			l.count++
			l.found = value != "" && l.at.takes(value)
			return !l.found
		}
	}
	l.at, l.found, l.count = f, false, 0
	fields.Values(f.name, l.yield)
	return l.found, l.count
}

// joined returns all values of the field as one.
func (f *field) joined(fields Fields) string {
	between := ", "
	if f.name == "cookie" {
		between = "; "
	}
	var values []string
	fields.Values(f.name, func(value string) bool {
		values = append(values, value)
		return true
	})
	return strings.Join(values, between)
}

// takes reports whether the matcher takes one value.
func (f *field) takes(value string) bool {
	switch f.how {
	case byExact:
		return value == f.exact
	case byPrefix:
		return strings.HasPrefix(value, f.prefix)
	default:
		return f.regex.MatchString(value)
	}
}
