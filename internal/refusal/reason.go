package refusal

import "slices"

// Reason is why, as a stable word: it stands in response headers, records, logs
// and metrics. The zero Reason is none.
type Reason string

// The rules, or the lack of them, forbid it.
const (
	NoRule           Reason = "no-rule"
	NameMismatch     Reason = "name-mismatch"
	PortMismatch     Reason = "port-mismatch"
	NoServerName     Reason = "no-server-name"
	NoHost           Reason = "no-host"
	BadHost          Reason = "bad-host"
	AddressLiteral   Reason = "address-literal"
	MethodOrPath     Reason = "request-not-allowed"
	UpgradeForbidden Reason = "upgrade-not-allowed"
	ProtocolMismatch Reason = "protocol-mismatch"
	SchemeMismatch   Reason = "scheme-mismatch"
	EncryptedHello   Reason = "encrypted-client-hello"
	MeshName         Reason = "mesh-name"
	PrivateAddress   Reason = "private-address"
	OutsideCIDR      Reason = "outside-cidr"
	CertificateFail  Reason = "upstream-certificate"
	NoSnapshot       Reason = "no-snapshot"
	StaleSnapshot    Reason = "stale-snapshot"
	NoRoute          Reason = "no-route"
	NoCertificate    Reason = "no-certificate"
	Misdirected      Reason = "misdirected-request"
	NoClientProof    Reason = "client-certificate"

	// ObligationUnknown: a proxy that is older than the rules does not know what one asks for.
	ObligationUnknown Reason = "obligation-unknown"
)

// It is allowed, and the destination was not reached.
const (
	NoSuchName        Reason = "no-such-name"
	NoAddress         Reason = "no-address"
	ResolveFailed     Reason = "resolve-failed"
	TooManyNames      Reason = "too-many-names"
	DNSType           Reason = "dns-type-not-supported"
	ConnectRefused    Reason = "connect-refused"
	ConnectTimeout    Reason = "connect-timeout"
	ConnectFailed     Reason = "connect-failed"
	UpstreamConnect   Reason = "upstream-connect"
	UpstreamTLS       Reason = "upstream-tls"
	UpstreamReset     Reason = "upstream-reset"
	UpstreamTimeout   Reason = "upstream-timeout"
	UpstreamProtocol  Reason = "upstream-protocol"
	NoHealthyUpstream Reason = "no-healthy-upstream"
	NoSuchPort        Reason = "no-such-port"
	DecisionTimeout   Reason = "decision-timeout"
	FaultInjected     Reason = "fault-injected"
	Overflow          Reason = "overflow"
	CircuitBreaker    Reason = "circuit-breaker"
	Withdrawn         Reason = "withdrawn"
	Stopping          Reason = "stopping"
	Internal          Reason = "internal"

	// Of the proxy of --via-proxy.
	ViaProxyUnreachable    Reason = "via-proxy-unreachable"
	ViaProxyRefused        Reason = "via-proxy-refused"
	ViaProxyAuthentication Reason = "via-proxy-authentication"
	ViaProxyFailed         Reason = "via-proxy-failed"
	ViaProxyAnswer         Reason = "via-proxy-answer"
)

// The client's message is refused, or the client is gone.
const (
	RequestMalformed    Reason = "request-malformed"
	RequestTimeout      Reason = "request-timeout"
	RequestTooLarge     Reason = "request-too-large"
	HeadersTooLarge     Reason = "headers-too-large"
	ExpectationUnknown  Reason = "expectation-unknown"
	ConnectNotSupported Reason = "connect-not-supported"
	TraceRefused        Reason = "trace-refused"
	VersionNotSupported Reason = "version-not-supported"
	HTTP2NotSupported   Reason = "http2-not-supported"
	ClientTLS           Reason = "client-tls"
	ClientGone          Reason = "client-gone"
	ClientStalled       Reason = "client-stalled"
)

// Group says whose doing a Reason is.
type Group uint8

const (
	Unknown      Group = iota
	ByRule             // the rules forbid it: a denial
	ByMessage          // the client's message is not taken: a denial
	NotReached         // allowed, and the destination was not reached
	ClientsDoing       // the client went away
)

// facts is what is known of a Reason.
type facts struct {
	reason Reason
	group  Group
	status int // of HTTP; 499 is never sent, for nobody is there to read it
	text   string
}

// table is every Reason, in the order of the reference.
var table = [...]facts{
	{NoRule, ByRule, 403, "No rule allows this destination on this port."},
	{NameMismatch, ByRule, 403, "The names of one connection differ: what was dialled, the SNI and the Host must be the same."},
	{PortMismatch, ByRule, 403, "The Host names another port than the one that was dialled."},
	{NoServerName, ByRule, 403, "The TLS handshake names no server (no SNI), and no tcp rule allows the destination."},
	{NoHost, ByRule, 403, "The request has no Host, and the destination was not dialled by a name."},
	{BadHost, ByRule, 403, "The SNI or Host is not a valid host name."},
	{AddressLiteral, ByRule, 403, "The destination is an address; rules on names, \"*\" among them, never allow one."},
	{MethodOrPath, ByRule, 403, "A rule allows the host, but not this method and path."},
	{UpgradeForbidden, ByRule, 403, "A rule allows the request, but not the change of protocol that it asks for (http[].upgrades)."},
	{ProtocolMismatch, ByRule, 403, "A rule allows the host on this port, but not with this protocol."},
	{SchemeMismatch, ByRule, 403, "The request's target is an https URL, but the rule forwards plain HTTP."},
	{EncryptedHello, ByRule, 403, "The TLS handshake hides its server name (Encrypted Client Hello)."},
	{MeshName, ByRule, 403, "The name belongs to the mesh's domain, which is never resolved outside the mesh."},
	{PrivateAddress, ByRule, 403, "The destination is a private, local or reserved address, and no rule consents to that address."},
	{OutsideCIDR, ByRule, 403, "Only rules on addresses allow this port, and the name leads to none of their addresses."},
	{CertificateFail, ByRule, 502, "The server did not prove with its certificate that it is the one that was named."},
	{NoSnapshot, ByRule, 403, "The proxy has not received any rules yet; until then it denies."},
	{StaleSnapshot, ByRule, 403, "The proxy's rules are older than the mesh allows; until it reaches its server it denies."},
	{NoRoute, ByRule, 404, "The ingress has no rule for this host and path."},
	{NoCertificate, ByRule, 403, "The ingress has no certificate for the name that the TLS handshake asks for."},
	{Misdirected, ByRule, 421, "The request is for another host than the TLS handshake of its connection."},
	{NoClientProof, ByRule, 403, "The rule of the ingress asks for a client certificate, and the connection proved none to it."},
	{ObligationUnknown, ByRule, 403, "The rule that allows this asks for something that this proxy does not support yet."},

	{NoSuchName, NotReached, 502, "DNS says that the name does not exist."},
	{NoAddress, NotReached, 502, "The name exists in DNS and has no address."},
	{ResolveFailed, NotReached, 503, "No DNS server gave a usable answer."},
	{TooManyNames, NotReached, 503, "Too many new names were asked for under a wildcard in too short a time."},
	{DNSType, NotReached, 502, "DNS was asked for records that are not answered: their type is not supported, or no rule allows the host."},
	{ConnectRefused, NotReached, 502, "The server refused the connection."},
	{ConnectTimeout, NotReached, 504, "The server did not answer the connection in time."},
	{ConnectFailed, NotReached, 502, "The connection could not be opened."},
	{UpstreamConnect, NotReached, 502, "The upstream could not be reached."},
	{UpstreamTLS, NotReached, 502, "The TLS connection to the upstream failed."},
	{UpstreamReset, NotReached, 502, "The upstream closed the connection before its answer was complete."},
	{UpstreamTimeout, NotReached, 504, "The upstream did not answer in time."},
	{UpstreamProtocol, NotReached, 502, "The upstream's answer is not one unambiguous HTTP/1.1 answer."},
	{ViaProxyUnreachable, NotReached, 502, "The proxy of --via-proxy could not be reached."},
	{ViaProxyRefused, NotReached, 502, "The proxy of --via-proxy refused the destination."},
	{ViaProxyAuthentication, NotReached, 502, "The proxy of --via-proxy wants other credentials than it was given."},
	{ViaProxyFailed, NotReached, 502, "The proxy of --via-proxy did not reach the destination."},
	{ViaProxyAnswer, NotReached, 502, "The answer of the proxy of --via-proxy is not one of HTTP/1."},
	{NoHealthyUpstream, NotReached, 503, "The service has no healthy workload for this request."},
	{NoSuchPort, NotReached, 503, "The service does not serve this port."},
	{DecisionTimeout, NotReached, 504, "The decision about the request did not come in time."},
	{FaultInjected, NotReached, 503, "A route rule answers this request with a fault (httpFault.abort)."},
	{Overflow, NotReached, 503, "This workload has as many connections as it may, and none became free in time."},
	{CircuitBreaker, NotReached, 503, "This workload has as much under way to the service as a DestinationPolicy lets it (circuitBreaker)."},
	{Withdrawn, NotReached, 503, "What allowed this request was withdrawn while it was in progress."},
	{Stopping, NotReached, 503, "The proxy is shutting down."},
	{Internal, NotReached, 500, "The proxy could not follow its own decision."},

	{RequestMalformed, ByMessage, 400, "The request is not one unambiguous HTTP/1.1 request."},
	{RequestTimeout, ByMessage, 408, "The request was not finished in time."},
	{RequestTooLarge, ByMessage, 413, "The request's body is larger than this proxy allows."},
	{HeadersTooLarge, ByMessage, 431, "The request's head is larger than this proxy allows."},
	{ExpectationUnknown, ByMessage, 417, "The only expectation that can be met is 100-continue."},
	{ConnectNotSupported, ByMessage, 501, "CONNECT is not supported yet."},
	{TraceRefused, ByMessage, 405, "TRACE is refused."},
	{VersionNotSupported, ByMessage, 505, "This proxy speaks HTTP/1.1 and HTTP/1.0."},
	{HTTP2NotSupported, ByMessage, 505, "HTTP/2 is taken as the first thing on a connection alone, and not while the proxy is ending; use HTTP/1.1."},
	{ClientTLS, ByMessage, 400, "The TLS handshake with the client failed."},
	{ClientGone, ClientsDoing, 499, "The client went away."},
	{ClientStalled, ClientsDoing, 499, "The client stopped reading its answer."},
}

// All returns every Reason, in the order of the reference.
func All() []Reason {
	all := make([]Reason, len(table))
	for i := range table {
		all[i] = table[i].reason
	}
	return all
}

func (r Reason) facts() facts {
	if i := slices.IndexFunc(table[:], func(f facts) bool { return f.reason == r }); i >= 0 {
		return table[i]
	}
	return facts{reason: r, status: 500, text: "Refused: " + string(r) + "."}
}

// Text returns the reason as a sentence for people, without the names of the
// case.
func (r Reason) Text() string { return r.facts().text }

// Status returns the HTTP status that tells a client of it.
func (r Reason) Status() int { return r.facts().status }

// Group says whose doing it is.
func (r Reason) Group() Group { return r.facts().group }

// Denied reports whether it is a denial: the rules forbid it, or the message is
// not taken. An unknown Reason is one: what is not known is not let pass for an
// accident.
func (r Reason) Denied() bool {
	g := r.Group()
	return r != "" && g != NotReached && g != ClientsDoing
}

// Known reports whether r is one of the table's.
func (r Reason) Known() bool { return r.Group() != Unknown }

// Alerts that tell a TLS client of a Reason (RFC 8446 section 6; RFC 6066 section 3).
const (
	AlertAccessDenied     = 49
	AlertInternalError    = 80
	AlertUnrecognizedName = 112
)

// Alert returns the code of the alert that tells a TLS client of it.
func (r Reason) Alert() uint8 {
	switch {
	case r == NoServerName, r == NameMismatch, r == BadHost, r == NoCertificate:
		return AlertUnrecognizedName
	case r.Denied():
		return AlertAccessDenied
	}
	return AlertInternalError
}
