package policy

import (
	"net/netip"

	"sluice.dev/sluice/internal/names"
)

// Sniffed is what the first bytes of a connection turned out to be.
type Sniffed uint8

const (
	Unseen      Sniffed = iota // nothing was read yet (ConnGate)
	HTTP                       // an HTTP/1.x request head
	ClientHello                // a TLS ClientHello
	Opaque                     // anything else, or silence
)

// Chain is every link of the name chain that could be seen for one connection or
// one request on it.
type Chain struct {
	Port    uint16     // of the original destination
	Dialled names.Name // the name behind the synthetic address; zero when the address was no synthetic one
	Addr    netip.Addr // the address dialled when it was no synthetic one
	Sniffed Sniffed

	SNI    names.Name // of a ClientHello; zero when absent
	SNIBad bool       // an SNI was there but is no host name
	ECH    bool       // the ClientHello carries encrypted_client_hello

	Host    names.Host // of an HTTP request; zero when absent
	HostBad bool       // a Host was there but is no authority
	Method  string     // not retained by Decide
	Path    string     // path without query, not retained by Decide
}

// destination returns what the chain's links say the connection is for: a name,
// or an address where no link holds a name, or neither. Links that differ are a
// reason to deny. Where a name was seen, the address that was dialled says
// nothing: we dial our own resolution.
func (c *Chain) destination() (name names.Name, addr netip.Addr, reason Reason) {
	if c.SNIBad || c.HostBad {
		return name, addr, BadHost
	}
	name = c.Dialled
	for _, link := range [...]names.Name{c.SNI, c.Host.Name} {
		switch {
		case link.IsZero():
		case name.IsZero():
			name = link
		case name != link:
			return name, addr, NameMismatch
		}
	}
	if literal := c.Host.Addr; literal.IsValid() {
		if !name.IsZero() || c.Addr.IsValid() && c.Addr.Unmap() != literal {
			return name, literal, NameMismatch
		}
		addr = literal
	} else if name.IsZero() {
		addr = c.Addr.Unmap()
	}
	if c.Host.Port != 0 && c.Host.Port != c.Port {
		return name, addr, PortMismatch
	}
	return name, addr, ""
}
