package upstream

import (
	"crypto/tls"
	"errors"
	"net/netip"

	"sluice.dev/sluice/internal/refusal"
)

// withdrawn says that the pool was closed: what allowed it is no longer so.
func withdrawn() error { return refusal.New(refusal.Withdrawn, "") }

// connectError says that no connection could be opened. What the dialer said of
// the reason stands.
func connectError(err error) error {
	var own *refusal.Error
	if errors.As(err, &own) {
		return err
	}
	return &refusal.Error{Reason: refusal.UpstreamConnect, Text: "connect", Err: err}
}

// tlsError says that the TLS handshake failed, or that the server chose a protocol
// that this pool does not speak. The reason is the one that passed-through TLS has
// for the same fault: a server without a certificate for the name is not a
// handshake that broke.
func tlsError(remote netip.AddrPort, err error) error {
	e := &refusal.Error{Reason: refusal.UpstreamTLS, Text: "TLS handshake failed", Err: err, Addr: remote}
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		e.Reason = refusal.CertificateFail
	}
	return e
}
