package proof

import (
	"errors"
	"fmt"
	"net"

	"sluice.dev/sluice/internal/refusal"
)

// failed says why a server did not prove itself. Besides CertificateFail and
// EncryptedHello the reason is that of the dial, or UpstreamConnect where that gave
// none, where no connection to the address could be opened, or UpstreamTLS where the server did not come to prove anything:
// it speaks no TLS 1.2 or newer, or took none of what the workload offers.
func failed(key Key, reason refusal.Reason, err error) *refusal.Error {
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		err = errors.New("it did not answer in time")
	}
	e := &refusal.Error{Reason: reason, Err: err, Addr: key.Addr}
	switch reason {
	case refusal.CertificateFail:
		e.Text = fmt.Sprintf("the server at %s did not prove to be %s", key.Addr, key.verify())
	case refusal.EncryptedHello:
		e.Text = fmt.Sprintf("the server at %s takes encrypted ClientHellos, so that it was called %s proves nothing", key.Addr, key.called())
	case refusal.UpstreamConnect:
		e.Text = fmt.Sprintf("connect to %s for %s", key.Addr, key.called())
	default:
		e.Text = fmt.Sprintf("TLS handshake with %s for %s", key.Addr, key.called())
	}
	return e
}

// verify is the name or address that the certificate must hold.
func (k Key) verify() string {
	if !k.Verify.IsZero() {
		return k.Verify.String()
	}
	return k.called()
}

// called is what the server is called by: its name, or its address. crypto/tls sends no
// server name for an address.
func (k Key) called() string {
	if !k.Name.IsZero() {
		return k.Name.String()
	}
	return k.Addr.Addr().String()
}
