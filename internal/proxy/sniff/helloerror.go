package sniff

// HelloError is why a ClientHello is refused, and the alert that tells its
// sender. The values are constants to compare with: nothing of the hello is in
// them.
type HelloError struct {
	text  string
	alert AlertCode
}

func (e *HelloError) Error() string { return e.text }

// Alert returns the alert that fits the error (RFC 8446 §6.2).
func (e *HelloError) Alert() AlertCode { return e.alert }

// The reasons for which a ClientHello is refused.
var (
	ErrHelloTooLong       = &HelloError{"ClientHello is longer than 64 KiB", AlertDecodeError}
	ErrHelloLength        = &HelloError{"lengths in the ClientHello do not add up", AlertDecodeError}
	ErrHelloEnded         = &HelloError{"the connection ended inside the ClientHello", AlertDecodeError}
	ErrHelloSlow          = &HelloError{"the ClientHello did not come in time", AlertUserCanceled}
	ErrHelloRecord        = &HelloError{"a record that is no TLS handshake interrupts the ClientHello", AlertUnexpectedMessage}
	ErrHelloOdd           = &HelloError{"the ClientHello comes behind an empty record or a warning, or in a record of an unknown version", AlertUnexpectedMessage}
	ErrHelloTrailing      = &HelloError{"the ClientHello is followed by another message in its record", AlertUnexpectedMessage}
	ErrDuplicateExtension = &HelloError{"an extension of the ClientHello stands there twice", AlertIllegalParameter}
	ErrTooManyExtensions  = &HelloError{"ClientHello has more than 128 extensions or more than 64 entries in one", AlertIllegalParameter}
	ErrServerNames        = &HelloError{"server_name is not exactly one host name", AlertIllegalParameter}
	ErrOldHello           = &HelloError{"ClientHello of SSL 2 or SSL 3", AlertProtocolVersion}
)
