package proof

import (
	"fmt"

	"sluice.dev/sluice/internal/policy"
)

// Reasons of an Error beside policy.CertificateFail and policy.EncryptedHello.
const (
	// Unreachable: no connection to the address could be opened.
	Unreachable policy.Reason = "upstream-connect"
	// HandshakeFailed: the server did not come to prove anything: it speaks no
	// TLS 1.2 or newer, or took none of what the workload offers.
	HandshakeFailed policy.Reason = "upstream-tls"
)

// Error says why a server did not prove itself.
type Error struct {
	Key  Key
	Code policy.Reason
	Err  error
}

// Reason returns the code of the failure.
func (e *Error) Reason() string { return string(e.Code) }

func (e *Error) Error() string {
	switch e.Code {
	case policy.CertificateFail:
		return fmt.Sprintf("the server at %s did not prove to be %s: %v", e.Key.Addr, e.Key.verify(), e.Err)
	case policy.EncryptedHello:
		return fmt.Sprintf("the server at %s takes encrypted ClientHellos, so the name %s that was seen proves nothing: %v", e.Key.Addr, e.Key.Name, e.Err)
	case Unreachable:
		return fmt.Sprintf("connect to %s for %s: %v", e.Key.Addr, e.Key.Name, e.Err)
	default:
		return fmt.Sprintf("TLS handshake with %s for %s: %v", e.Key.Addr, e.Key.Name, e.Err)
	}
}

// Unwrap returns what the dialer, crypto/tls or crypto/x509 said.
func (e *Error) Unwrap() error { return e.Err }

// verify is the name that the certificate must hold.
func (k Key) verify() string {
	if !k.Verify.IsZero() {
		return k.Verify.String()
	}
	return k.Name.String()
}
