package proof

import (
	"fmt"

	"sluice.dev/sluice/internal/refusal"
)

// failed says why a server did not prove itself. Besides CertificateFail and
// EncryptedHello the reason is UpstreamConnect where no connection to the address
// could be opened, or UpstreamTLS where the server did not come to prove anything:
// it speaks no TLS 1.2 or newer, or took none of what the workload offers.
func failed(key Key, reason refusal.Reason, err error) *refusal.Error {
	e := &refusal.Error{Reason: reason, Err: err}
	switch reason {
	case refusal.CertificateFail:
		e.Text = fmt.Sprintf("the server at %s did not prove to be %s", key.Addr, key.verify())
	case refusal.EncryptedHello:
		e.Text = fmt.Sprintf("the server at %s takes encrypted ClientHellos, so the name %s that was seen proves nothing", key.Addr, key.Name)
	case refusal.UpstreamConnect:
		e.Text = fmt.Sprintf("connect to %s for %s", key.Addr, key.Name)
	default:
		e.Text = fmt.Sprintf("TLS handshake with %s for %s", key.Addr, key.Name)
	}
	return e
}

// verify is the name that the certificate must hold.
func (k Key) verify() string {
	if !k.Verify.IsZero() {
		return k.Verify.String()
	}
	return k.Name.String()
}
