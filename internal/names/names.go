// Package names is the one constructor of host names: nothing else in Sluice
// builds or compares one. It turns every spelling that reaches us (rules, DNS
// questions, SNI, Host, CONNECT) into one canonical form, and matches patterns
// against it. It never resolves anything.
package names

import "net/netip"

// Name is a canonical host name: lower case, A-labels (IDNA), without the
// trailing dot, 1 to 253 bytes, never an address literal in any spelling.
// Names are comparable; the zero Name is no name.
type Name struct{ s string }

// String returns the canonical form, "" for the zero Name.
func (n Name) String() string { return n.s }

// IsZero reports whether n is no name.
func (n Name) IsZero() bool { return n.s == "" }

// Host is what an authority says: a name or an address, and a port where one
// was given (0 otherwise). The zero Host is no host.
type Host struct {
	Name Name
	Addr netip.Addr // without zone, v4-mapped unmapped
	Port uint16
}

// IsZero reports whether h holds neither a name nor an address.
func (h Host) IsZero() bool { return h.Name.IsZero() && !h.Addr.IsValid() }
