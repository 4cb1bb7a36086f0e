package policy

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

// Text returns the reason as a sentence for people, without the names of the
// case: Explain says those.
func (r Reason) Text() string {
	switch r {
	case "":
		return "It is allowed."
	case NoRule:
		return "No rule allows this destination on this port."
	case NameMismatch:
		return "The names of one connection differ: what was dialled, the SNI and the Host must be the same."
	case PortMismatch:
		return "The Host names another port than the one that was dialled."
	case NoServerName:
		return "The TLS handshake names no server (no SNI), and no tcp rule allows the destination."
	case NoHost:
		return "The request has no Host, and the destination was not dialled by a name."
	case BadHost:
		return "The SNI or Host is no valid host name."
	case AddressLiteral:
		return "The destination is an address; rules on names, \"*\" among them, never allow one."
	case MethodOrPath:
		return "A rule allows the host, but not this method and path."
	case ProtocolMismatch:
		return "A rule allows the host on this port, but not with this protocol."
	case EncryptedHello:
		return "The TLS handshake hides its server name (Encrypted Client Hello)."
	case NoSnapshot:
		return "The proxy has not received any rules yet; until then it denies."
	case StaleSnapshot:
		return "The proxy's rules are older than the mesh allows; until it reaches its server it denies."
	case PrivateAddress:
		return "The name leads to a private, local or reserved address, and the rule does not list it under privateAnswers."
	case OutsideCIDR:
		return "Only rules on addresses allow this port, and the name leads to none of their addresses."
	case CertificateFail:
		return "The server did not prove with its certificate that it is the one that was named."
	default:
		return unknown(r)
	}
}

// Known reports whether r is one of the reasons above: others are the HTTP
// engine's or the dial's own.
func (r Reason) Known() bool { return r.Text() != unknown(r) }

func unknown(r Reason) string { return "Denied: " + string(r) + "." }
