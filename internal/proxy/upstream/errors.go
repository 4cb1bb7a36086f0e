package upstream

import (
	"crypto/tls"
	"errors"
)

// Errors on which callers decide.
var (
	// ErrOverflow: the pool has MaxConns connections and none is idle.
	ErrOverflow = errors.New("all connections to the upstream are busy")
	// ErrWithdrawn: the pool was closed; what allowed it is no longer so.
	ErrWithdrawn = errors.New("the way to the upstream was withdrawn")
)

// ConnectError says that no connection could be opened.
type ConnectError struct{ Err error }

func (e *ConnectError) Error() string { return "connect: " + e.Err.Error() }

// Unwrap returns what the dialer said.
func (e *ConnectError) Unwrap() error { return e.Err }

// TLSError says that the TLS handshake failed, or that the server chose a
// protocol that this pool does not speak.
type TLSError struct{ Err error }

func (e *TLSError) Error() string { return "handshake: " + e.Err.Error() }

// Reason is the code that passed-through TLS has for the same fault: a server
// without a certificate for the name is told from a handshake that broke.
func (e *TLSError) Reason() string {
	var certificate *tls.CertificateVerificationError
	if errors.As(e.Err, &certificate) {
		return "upstream-certificate"
	}
	return "upstream-tls"
}

// Status is what a client is answered.
func (e *TLSError) Status() int { return 502 }

// Unwrap returns what crypto/tls said.
func (e *TLSError) Unwrap() error { return e.Err }
