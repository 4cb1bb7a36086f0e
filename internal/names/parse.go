package names

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	// MaxName is the bound on a canonical name in bytes (RFC 1035 section 2.3.4,
	// without the wire form's length bytes).
	MaxName = 253
	// MaxLabel is the bound on one label in bytes.
	MaxLabel = 63
	// MaxSpelling is the bound on what Parse and ParseHost look at, in bytes:
	// names in UTF-8 are longer than their A-labels.
	MaxSpelling = 1024
)

// Parse returns the canonical form of a host name:
//
//   - ASCII letters in lower case, anything else mapped to A-labels by UTS 46,
//     non-transitional, with the rules on joiners and direction;
//   - one trailing dot removed, a second one refused;
//   - labels of 1 to 63 letters, digits, hyphens and underscores (names in use
//     have underscores and trailing hyphens; a leading hyphen is refused, as
//     TLS libraries do), at most 253 bytes in all;
//   - an A-label must be the one that its own text encodes to, so that no two
//     spellings of a name differ;
//   - percent-encoding is refused, not decoded: no client needs it (RFC 3986
//     section 3.2.2 allows it in URIs), and decoding twice is how names were
//     confused;
//   - a name whose last label is a number is an address to inet_aton and to a
//     browser, or else nothing: ErrAddress or ErrNumeric.
//
// Parse is idempotent, and does not allocate for a name that is canonical.
func Parse(s string) (Name, error) {
	if len(s) > MaxSpelling {
		return Name{}, refuse(s, ErrTooLong)
	}
	if strings.IndexByte(s, ':') >= 0 || strings.HasPrefix(s, "[") {
		if _, err := parseAddr6(s); err == nil {
			return Name{}, refuse(s, ErrAddress)
		}
		return Name{}, refuse(s, ErrByte)
	}
	text, err := canonical(s)
	if err != nil {
		return Name{}, refuse(s, err)
	}
	if endsInNumber(text) {
		if _, ok := parseAddr4(text); ok {
			return Name{}, refuse(s, ErrAddress)
		}
		return Name{}, refuse(s, ErrNumeric)
	}
	return Name{s: text}, nil
}

// MustParse is Parse for constants; it panics on what Parse refuses.
func MustParse(s string) Name {
	n, err := Parse(s)
	if err != nil {
		panic(err)
	}
	return n
}

// ParseHost reads an authority: a name or an address literal, and a port where
// there is one. An address comes out canonical whatever its spelling (127.1,
// 0x7f.1, 017700000001, 2130706433, [::ffff:127.0.0.1]), without its zone. An
// IPv6 address without brackets is read as an address without a port. User
// information, an empty port and a port with leading zeros are refused.
func ParseHost(s string) (Host, error) {
	if len(s) > MaxSpelling {
		return Host{}, refuse(s, ErrTooLong)
	}
	text, port, err := splitPort(s)
	if err != nil {
		return Host{}, refuse(s, err)
	}
	if strings.IndexByte(text, ':') >= 0 || strings.HasPrefix(text, "[") {
		addr, err := parseAddr6(text)
		if err != nil {
			return Host{}, refuse(s, err)
		}
		return Host{Addr: addr, Port: port}, nil
	}
	text, err = canonical(text)
	if err != nil {
		return Host{}, refuse(s, err)
	}
	if endsInNumber(text) {
		addr, ok := parseAddr4(text)
		if !ok {
			return Host{}, refuse(s, ErrNumeric)
		}
		return Host{Addr: addr, Port: port}, nil
	}
	return Host{Name: Name{s: text}, Port: port}, nil
}

// splitPort cuts the port off an authority. Two colons outside brackets are an
// IPv6 address without a port.
func splitPort(s string) (host string, port uint16, err error) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", 0, ErrBrackets
		}
		if end == len(s)-1 {
			return s, 0, nil
		}
		if s[end+1] != ':' {
			return "", 0, ErrBrackets
		}
		port, ok := ParsePort(s[end+2:])
		if !ok {
			return "", 0, ErrPort
		}
		return s[:end+1], port, nil
	}
	colon := strings.IndexByte(s, ':')
	if colon < 0 || strings.IndexByte(s[colon+1:], ':') >= 0 {
		return s, 0, nil
	}
	port, ok := ParsePort(s[colon+1:])
	if !ok {
		return "", 0, ErrPort
	}
	return s[:colon], port, nil
}

// ParsePort reads a port from 1 to 65535 in decimal digits, without leading zeros.
func ParsePort(s string) (uint16, bool) {
	if len(s) == 0 || len(s) > 5 || s[0] == '0' {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return uint16(n), n <= 65535
}

// canonical maps s to lower case and A-labels without the trailing dot and
// checks every byte. It does not look for addresses.
func canonical(s string) (string, error) {
	lower, wide, percent := scan(s)
	switch {
	case s == "":
		return "", ErrEmpty
	case percent:
		return "", ErrPercent
	case wide:
		mapped, err := mapIDNA(s)
		if err != nil {
			return "", err
		}
		s = mapped
	case !lower:
		s = strings.ToLower(s)
	}
	s = strings.TrimSuffix(s, ".")
	switch {
	case s == "":
		return "", ErrEmpty
	case len(s) > MaxName:
		return "", ErrTooLong
	}
	return s, checkLabels(s)
}

// scan reports whether s is free of upper-case letters, whether it needs UTS 46
// (a byte beyond ASCII, or an A-label to check), and whether it has a percent
// sign.
func scan(s string) (lower, wide, percent bool) {
	lower = true
	start := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			wide = true
		case c >= 'A' && c <= 'Z':
			lower = false
		case c == '%':
			percent = true
		case c == '.':
			start = i + 1
		case c == '-' && i == start+3 && hasACEPrefix(s[start:]):
			wide = true
		}
	}
	return lower, wide, percent
}

// hasACEPrefix reports whether label starts with "xn--", in any case.
func hasACEPrefix(label string) bool {
	return len(label) >= 4 && label[0]|0x20 == 'x' && label[1]|0x20 == 'n' && label[2] == '-' && label[3] == '-'
}

// uts46 maps for lookups. STD3 rules are off because names in use have
// underscores: checkLabels is stricter than they are about the rest.
var uts46 = idna.New(idna.MapForLookup(), idna.StrictDomainName(false), idna.CheckHyphens(false),
	idna.BidiRule(), idna.Transitional(false))

// mapIDNA applies UTS 46.
func mapIDNA(s string) (string, error) {
	if !utf8.ValidString(s) || mixesACE(s) {
		return "", ErrIDNA
	}
	ascii, err := uts46.ToASCII(s)
	if err != nil {
		return "", ErrIDNA
	}
	// The mapping can put together what decodes to something else; what comes
	// out must be its own form.
	again, err := uts46.ToASCII(ascii)
	if err != nil || again != ascii {
		return "", ErrIDNA
	}
	return ascii, nil
}

// mixesACE reports whether a label is an A-label and holds characters beyond
// ASCII as well, which is neither of the two (UTS 46 section 4, step 4).
func mixesACE(s string) bool {
	for label := range strings.FieldsFuncSeq(s, isDot) {
		if hasACEPrefix(label) && strings.IndexFunc(label, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0 {
			return true
		}
	}
	return false
}

// isDot reports whether UTS 46 takes r for the dot between labels.
func isDot(r rune) bool { return r == '.' || r == '。' || r == '．' || r == '｡' }

// checkLabels checks each label of a lower-case name without its trailing dot.
func checkLabels(s string) error {
	start := 0
	for i := 0; ; i++ {
		if i == len(s) || s[i] == '.' {
			if length := i - start; length == 0 || length > MaxLabel || s[start] == '-' {
				return ErrLabel
			}
			if i == len(s) {
				return nil
			}
			start = i + 1
			continue
		}
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return ErrByte
		}
	}
}

// endsInNumber reports whether the last label is one that inet_aton or a browser
// reads as a number: digits, or "0x" and hexadecimal digits (WHATWG URL, "ends
// in a number checker"). s is canonical.
func endsInNumber(s string) bool {
	label := s[strings.LastIndexByte(s, '.')+1:]
	digits, hex := true, strings.HasPrefix(label, "0x")
	for i := range len(label) {
		c := label[i]
		if c < '0' || c > '9' {
			digits = false
		}
		if i >= 2 && !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			hex = false
		}
	}
	return digits || hex
}

// parseAddr4 reads an IPv4 address as inet_aton and browsers do: one to four
// parts, each decimal, octal (leading 0) or hexadecimal (leading 0x), the last
// one filling what the others leave. s is canonical.
func parseAddr4(s string) (netip.Addr, bool) {
	var value uint64
	for parts := 1; ; parts++ {
		label, rest, more := strings.Cut(s, ".")
		n, ok := parseNumber(label)
		if !ok || parts > 4 {
			return netip.Addr{}, false
		}
		if !more {
			limit := uint64(1) << (8 * (5 - parts))
			if n >= limit {
				return netip.Addr{}, false
			}
			value = value*limit + n
			break
		}
		if n > 255 {
			return netip.Addr{}, false
		}
		value, s = value<<8|n, rest
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}), true
}

// parseNumber reads one part of an address, at most 32 bits. A lone "0x" is 0,
// as it is to a browser.
func parseNumber(s string) (uint64, bool) {
	base := uint64(10)
	switch {
	case s == "":
		return 0, false
	case strings.HasPrefix(s, "0x"):
		base, s = 16, s[2:]
	case len(s) > 1 && s[0] == '0':
		base, s = 8, s[1:]
	}
	var n uint64
	for i := range len(s) {
		c := s[i]
		digit := uint64(c - '0')
		if c >= 'a' && c <= 'f' {
			digit = uint64(c-'a') + 10
		}
		if digit >= base {
			return 0, false
		}
		if n = n*base + digit; n > 1<<32-1 {
			return 0, false
		}
	}
	return n, true
}

// parseAddr6 reads an IPv6 address with or without brackets. A zone is dropped
// (a Host holds none) after it was checked to be one; a v4-mapped address becomes
// the IPv4 one.
func parseAddr6(s string) (netip.Addr, error) {
	if strings.HasPrefix(s, "[") {
		if !strings.HasSuffix(s, "]") {
			return netip.Addr{}, ErrBrackets
		}
		s = s[1 : len(s)-1]
	}
	s, zone, hasZone := strings.Cut(s, "%")
	if hasZone && !isZone(zone) {
		return netip.Addr{}, ErrBrackets
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || !addr.Is6() {
		return netip.Addr{}, ErrBrackets
	}
	return addr.Unmap(), nil
}

// isZone reports whether s is a zone of unreserved characters (RFC 6874 section
// 2): an interface's name or number. Anything else is there to be misread.
func isZone(s string) bool {
	for i := range len(s) {
		if c := s[i]; !(c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
