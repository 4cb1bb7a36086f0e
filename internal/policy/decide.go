// Package policy decides. It holds compiled rules and Decide, a pure function of
// rules and what one connection or request showed: no I/O, no clock, no logging.
// The proxy, `sluice why` and the tests call the same function, so what a denial
// says is what the gate did.
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

// Action is what a verdict comes to.
type Action uint8

const (
	Deny Action = iota // the zero Verdict denies
	Allow
)

// Treatment is how an allowed connection or request is carried.
type Treatment uint8

const (
	Refuse      Treatment = iota
	Forward               // plain HTTP to a plain HTTP upstream
	Originate             // plain HTTP in, TLS out, verified
	Passthrough           // TLS passed by SNI, undecrypted
	Relay                 // bytes of TCP
)

// Verdict is what Decide says. The zero value denies.
type Verdict struct {
	Action    Action
	Reason    Reason // why it was denied; "" when allowed
	Rule      *Rule  // the rule that allowed; on a denial the one that came closest, or nil
	Treatment Treatment
	Name      names.Name // the name that was decided on; zero when only an address was
	Addr      netip.Addr // the address, when no name was
	Port      uint16
	Protocol  Protocol       // of the rule's port that matched
	Within    []netip.Prefix // not nil: dial only answers inside (a name that only address rules allow)
}

// Reason names why a request was denied. Reasons are stable: they stand in
// response headers, logs and metrics.
type Reason string

const (
	NoRule           Reason = "no-rule"
	NameMismatch     Reason = "name-mismatch"
	PortMismatch     Reason = "port-mismatch"
	NoServerName     Reason = "no-server-name"
	NoHost           Reason = "no-host"
	BadHost          Reason = "bad-host"            // SNI or Host is no host name at all
	AddressLiteral   Reason = "address-literal"     // an address where only names are allowed
	MethodOrPath     Reason = "request-not-allowed" // the host is allowed, this method or path is not
	ProtocolMismatch Reason = "protocol-mismatch"   // e.g. plain HTTP where the rule passes TLS only
	EncryptedHello   Reason = "encrypted-client-hello"
	NoSnapshot       Reason = "no-snapshot"    // the proxy never had one
	StaleSnapshot    Reason = "stale-snapshot" // older than maxStale

	// Reasons that are found after the verdict, by the dial.
	PrivateAddress  Reason = "private-address"
	OutsideCIDR     Reason = "outside-cidr" // no answer lies within the CIDRs that allow the name
	CertificateFail Reason = "upstream-certificate"
)

// Protocol is a rule port's protocol.
type Protocol uint8

const (
	ProtocolNone Protocol = iota
	ProtocolHTTP
	ProtocolHTTPS
	ProtocolHTTP2
	ProtocolGRPC
	ProtocolTLS
	ProtocolTCP
	ProtocolMongo
	ProtocolUDP
	ProtocolQUIC
)
