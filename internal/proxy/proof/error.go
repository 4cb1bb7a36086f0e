package proof

import (
	"fmt"

	"sluice.dev/sluice/internal/refusal"
)

// failed says why a server did not prove itself. Besides CertificateFail and
// EncryptedHello the reason is that of the dial, or UpstreamConnect where that gave
// none, where no connection to the address could be opened, or UpstreamTLS where the server did not come to prove anything:
// it speaks no TLS 1.2 or newer, or took none of what the workload offers.
func failed(key Key, reason refusal.Reason, err error) *refusal.Error {
	called := key.called()
	if reason == refusal.CertificateFail {
		called = key.verify()
	}
	e, where := refusal.Server(reason, key.Addr, called, err), "at "+key.Addr.String()
	if key.Behind != "" {
		e, where = refusal.ServerBehind(reason, key.Behind, called, err), "behind "+key.Behind
	}
	switch reason {
	case refusal.EncryptedHello:
		e.Text = fmt.Sprintf("the server %s takes encrypted ClientHellos, so that it was called %s proves nothing", where, called)
	case refusal.UpstreamConnect:
		e.Text = fmt.Sprintf("connect to the server %s for %s", where, called)
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
