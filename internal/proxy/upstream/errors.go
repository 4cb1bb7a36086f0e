package upstream

import "errors"

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

func (e *TLSError) Error() string { return "tls: " + e.Err.Error() }

// Unwrap returns what crypto/tls said.
func (e *TLSError) Unwrap() error { return e.Err }
