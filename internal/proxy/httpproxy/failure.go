package httpproxy

// Failure says why an exchange did not end as the two sides meant it. The zero
// value is no failure.
type Failure uint8

// The failures of this engine. Each has a code, which is what the workload, the
// flow and the metrics see, and a status, with which the workload is answered
// as long as no byte of another answer was sent.
const (
	None Failure = iota

	RequestMalformed    // not one unambiguous HTTP/1.1 request (RFC 9112)
	RequestTimeout      // the client did not finish its request in time
	RequestTooLarge     // more body than Limits.MaxBodyBytes
	HeadersTooLarge     // more than Limits.MaxHeaderBytes or MaxHeaderFields
	ExpectationUnknown  // Expect with anything but 100-continue
	ConnectNotBuilt     // CONNECT
	TraceRefused        // TRACE would show a client the headers that we add
	VersionNotSupported // neither HTTP/1.0 nor HTTP/1.1
	HTTP2NotBuilt       // HTTP/2 by prior knowledge
	NoHost              // HTTP/1.0 without Host, and no name known otherwise
	ClientGone          // nobody is there to answer
	ClientStalled       // the client stopped reading its answer

	UpstreamConnect  // no connection could be opened
	UpstreamTLS      // the handshake or the verification failed
	UpstreamReset    // the connection ended before the answer did
	UpstreamTimeout  // no answer, or no more of it, in time
	UpstreamProtocol // not one unambiguous HTTP/1.1 answer
	Overflow         // all connections to the upstream are busy
	Withdrawn        // what allowed the exchange was withdrawn meanwhile
	Stopping         // the proxy is shutting down
	Internal         // the Director gave a direction that cannot be followed

	failures // how many there are
)

var failureTable = [failures]struct {
	code   string
	status int
	text   string
}{
	None:                {"", 200, ""},
	RequestMalformed:    {"request-malformed", 400, "The request is not one unambiguous HTTP/1.1 request."},
	RequestTimeout:      {"request-timeout", 408, "The request was not finished in time."},
	RequestTooLarge:     {"request-too-large", 413, "The request's body is larger than this proxy allows."},
	HeadersTooLarge:     {"headers-too-large", 431, "The request's head is larger than this proxy allows."},
	ExpectationUnknown:  {"expectation-unknown", 417, "The only expectation that can be met is 100-continue."},
	ConnectNotBuilt:     {"connect-not-built", 501, "CONNECT is not built yet."},
	TraceRefused:        {"trace-refused", 405, "TRACE is refused."},
	VersionNotSupported: {"version-not-supported", 505, "This proxy speaks HTTP/1.1 and HTTP/1.0."},
	HTTP2NotBuilt:       {"http2-not-built", 505, "HTTP/2 by prior knowledge is not built yet; use HTTP/1.1."},
	NoHost:              {"no-host", 400, "The request names no host."},
	ClientGone:          {"client-gone", 499, "The client went away."},
	ClientStalled:       {"client-stalled", 499, "The client stopped reading its answer."},
	UpstreamConnect:     {"upstream-connect", 502, "The upstream could not be reached."},
	UpstreamTLS:         {"upstream-tls", 502, "The TLS connection to the upstream failed."},
	UpstreamReset:       {"upstream-reset", 502, "The upstream closed the connection before its answer was complete."},
	UpstreamTimeout:     {"upstream-timeout", 504, "The upstream did not answer in time."},
	UpstreamProtocol:    {"upstream-protocol", 502, "The upstream's answer is not one unambiguous HTTP/1.1 answer."},
	Overflow:            {"overflow", 503, "All connections to the upstream are busy."},
	Withdrawn:           {"withdrawn", 503, "What allowed this request was withdrawn while it was under way."},
	Stopping:            {"stopping", 503, "The proxy is shutting down."},
	Internal:            {"internal", 500, "The proxy could not follow its own decision."},
}

// String returns the code: "upstream-reset".
func (f Failure) String() string { return failureTable[f].code }

// Status returns the HTTP status of the failure; 499 is never sent, for nobody
// is there to read it.
func (f Failure) Status() int { return failureTable[f].status }

// Text returns a sentence for people.
func (f Failure) Text() string { return failureTable[f].text }
