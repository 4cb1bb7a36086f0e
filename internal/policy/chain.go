package policy

import (
	"net/netip"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/refusal"
)

// Sniffed is what the first bytes of a connection turned out to be.
type Sniffed uint8

const (
	Unseen      Sniffed = iota // nothing was read yet
	HTTP                       // an HTTP/1.x request head
	ClientHello                // a TLS ClientHello
	Opaque                     // anything else, or silence
)

// Transport is what carries a connection. Ports of different transports have
// nothing to do with each other: udp/443 is not tcp/443.
type Transport uint8

const (
	TCP Transport = iota
	UDP
)

// Source is the workload that a connection comes from. What it says of itself
// counts no more than how it was attested.
type Source struct {
	Namespace string
	Account   string            // service account; "" where none was given
	Labels    map[string]string // not to be changed
	Attested  Attestation
}

// Attestation is how what a Source says of itself was made sure of.
type Attestation uint8

// SelfDeclared: by the workload's own word alone, which is all there is until
// identities are supported.
const SelfDeclared Attestation = 0

// Fields looks up the header fields of a request.
type Fields interface {
	// Values calls yield with the value of each field of that name, which is given
	// in lower case, in the order in which they came, until yield returns false. The
	// strings are views: whoever keeps one clones it.
	Values(lower string, yield func(value string) bool)
}

// Chain is every link of the name chain that could be seen for one connection or
// one request on it.
type Chain struct {
	Source    *Source // nil where nobody needs to know
	Transport Transport
	Port      uint16     // of the original destination
	Dialled   names.Name // the name behind the synthetic address; zero when the address was no synthetic one
	Addr      netip.Addr // the address dialled when it was no synthetic one
	Sniffed   Sniffed

	SNI    names.Name // of a ClientHello; zero when absent
	SNIBad bool       // an SNI was there but is not a host name
	ECH    bool       // the ClientHello carries encrypted_client_hello

	Host    names.Host // of an HTTP request; zero when absent
	HostBad bool       // a Host was there but is not an authority
	HTTPS   bool       // the request's target is an https URL (absolute form, RFC 9112 section 3.2.2)
	Method  string     // not retained by Decide
	Path    string     // path without query, not retained by Decide
	Upgrade string     // the protocol that the request asks to change to; "" for none; not retained
	Fields  Fields     // the request's header fields; nil when there are none; not retained
}

// destination returns what the chain's links say the connection is for: a name,
// or an address where no link holds a name, or neither. Links that differ are a
// reason to deny. Where a name was seen, the address that was dialled says
// nothing: we dial our own resolution.
func (c *Chain) destination() (name names.Name, addr netip.Addr, reason refusal.Reason) {
	if c.SNIBad || c.HostBad {
		return name, addr, refusal.BadHost
	}
	name = c.Dialled
	for _, link := range [...]names.Name{c.SNI, c.Host.Name} {
		switch {
		case link.IsZero():
		case name.IsZero():
			name = link
		case name != link:
			return name, addr, refusal.NameMismatch
		}
	}
	if literal := c.Host.Addr; literal.IsValid() {
		if !name.IsZero() || c.Addr.IsValid() && c.Addr.Unmap() != literal {
			return name, literal, refusal.NameMismatch
		}
		addr = literal
	} else if name.IsZero() {
		addr = c.Addr.Unmap()
	}
	if c.Host.Port != 0 && c.Host.Port != c.Port {
		return name, addr, refusal.PortMismatch
	}
	return name, addr, ""
}
