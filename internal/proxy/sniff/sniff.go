// Package sniff says what the first bytes of a connection are: a TLS ClientHello
// with its server name, the head of an HTTP request, or neither. The proxy calls
// it once a connection, before the gate decides. It never answers, except with
// the alert that a denied TLS client is owed, and it never decides.
package sniff

import (
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
)

// Bounds on what is read before a connection is known for what it is, in bytes.
const (
	// MaxHello bounds a ClientHello with its record headers. Past it the hello is
	// refused (ErrHelloTooLong). The largest that clients send, with post-quantum
	// key shares and session tickets, are below 20 KiB.
	MaxHello = 64 << 10
	// MaxRequestLine bounds the search for the end of an HTTP request line. A
	// longer line that has looked right so far is HTTP: that engine refuses it.
	MaxRequestLine = 8 << 10
)

// Result is what the first bytes of a connection turned out to be.
type Result struct {
	// Kind is policy.ClientHello, policy.HTTP or policy.Opaque. While more bytes
	// are needed it is what the connection would be taken for if none came.
	Kind policy.Sniffed
	// Err says why a ClientHello must be refused: it is malformed, ambiguous, too
	// long, too slow or too old. Kind is then ClientHello, SNIBad is set, and
	// nothing else that it says may be used. Where Kind is Opaque it only began like a
	// hello, and no TLS server could take it for one: it may pass as bytes, and Err is
	// for a client that is refused.
	Err *HelloError

	// Of a ClientHello.

	Name       names.Name // of the server_name extension; zero when absent or bad
	SNI        string     // as it was sent, cut at MaxSNIText bytes; "" when absent
	SNIBad     bool       // a server_name was there but is not a valid host name (an address, a NUL, …)
	ECH        bool       // encrypted_client_hello is there, real or GREASE
	ALPN       []string   // protocols offered, in the client's order
	Groups     []uint16   // supported_groups offered, in the client's order
	MaxVersion uint16     // the newest TLS version offered: 0x0304 for TLS 1.3
	HelloBytes int        // length of the ClientHello with its record headers

	// Of an HTTP request.

	HTTP2 bool // it is the preface of HTTP/2 with prior knowledge (RFC 9113 §3.4)

	// Set by Read alone.

	Silent bool // the client said nothing in time: it may be waiting for the server
	Cut    bool // the client fell silent or ended before it was known what it speaks
	Ended  bool // the client has sent its last byte (FIN)
}

// MaxSNIText bounds Result.SNI, in bytes. No host name is longer.
const MaxSNIText = 255

// Need is how many bytes the buffer must hold before Parse can say more: 0 when
// it has said all, else more than the buffer held.
type Need int

// Parse says what a connection that began with b is. It is called again with the
// same bytes and more of them for as long as it needs more; it keeps no state,
// retains nothing of b, and asks for at most MaxHello bytes.
func Parse(b []byte) (Result, Need) {
	switch {
	case len(b) == 0:
		return Result{Kind: policy.Opaque}, 1
	case b[0] == recordHandshake || b[0] == recordAlert:
		return parseTLS(b)
	case b[0]&0x80 != 0:
		return parseSSL2(b)
	case isToken(b[0]) || b[0] == '\r' || b[0] == '\n':
		return parseHTTP(b)
	default:
		return opaque()
	}
}

func opaque() (Result, Need) { return Result{Kind: policy.Opaque}, 0 }

// notTLS is what began like a hello and cannot become one for any server.
func notTLS(why *HelloError) (Result, Need) { return Result{Kind: policy.Opaque, Err: why}, 0 }

func refuse(why *HelloError) (Result, Need) {
	return Result{Kind: policy.ClientHello, Err: why, SNIBad: true}, 0
}
