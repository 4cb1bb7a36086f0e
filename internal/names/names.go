// Package names is the one constructor of host names: nothing else in Sluice
// builds or compares one. It turns every spelling that reaches us (rules, DNS
// questions, SNI, Host, CONNECT) into one canonical form, and matches patterns
// against it. It never resolves anything.
package names

import (
	"net/netip"
	"strings"
)

// Name is a canonical host name: lower case, A-labels (IDNA), without the
// trailing dot, 1 to 253 bytes, never an address literal in any spelling.
// Names are comparable; the zero Name is empty.
type Name struct{ s string }

// String returns the canonical form, "" for the zero Name.
func (n Name) String() string { return n.s }

// IsZero reports whether n is the zero Name.
func (n Name) IsZero() bool { return n.s == "" }

// Within reports whether n is suffix or stands below it. Nothing is within the
// zero Name.
func (n Name) Within(suffix Name) bool {
	cut := len(n.s) - len(suffix.s)
	if cut < 0 || suffix.s == "" || n.s[cut:] != suffix.s {
		return false
	}
	return cut == 0 || n.s[cut-1] == '.'
}

// Beginnings yields the names of two labels or more that n begins with, the longest first:
// what a resolver may have been asked for that put a search suffix behind it.
func (n Name) Beginnings(yield func(Name) bool) {
	for s := n.s; ; {
		dot := strings.LastIndexByte(s, '.')
		if dot < 0 {
			return
		}
		s = s[:dot]
		if strings.IndexByte(s, '.') >= 0 && !endsInNumber(s) && !yield(Name{s}) {
			return
		}
	}
}

// IsSingleLabel reports whether n has no dot, such as "details".
func (n Name) IsSingleLabel() bool {
	for i := range len(n.s) {
		if n.s[i] == '.' {
			return false
		}
	}
	return n.s != ""
}

// MarshalText implements encoding.TextMarshaler; the zero Name is empty text.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.s), nil }

// UnmarshalText implements encoding.TextUnmarshaler by Parse; empty text is the
// zero Name.
func (n *Name) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*n = Name{}
		return nil
	}
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*n = parsed
	return nil
}

// Host is what an authority says: a name or an address, and a port where one
// was given (0 otherwise). The zero Host is empty.
type Host struct {
	Name Name
	Addr netip.Addr // without zone, v4-mapped unmapped
	Port uint16
}

// IsZero reports whether h holds neither a name nor an address.
func (h Host) IsZero() bool { return h.Name.IsZero() && !h.Addr.IsValid() }

// String returns the canonical authority: "www.example.com:443", "[::1]:80",
// "192.0.2.1", "" for the zero Host.
func (h Host) String() string {
	text := h.Name.s
	if h.Addr.IsValid() {
		if text = h.Addr.String(); h.Addr.Is6() {
			text = "[" + text + "]"
		}
	}
	if text != "" && h.Port != 0 {
		text += ":" + decimal(h.Port)
	}
	return text
}
