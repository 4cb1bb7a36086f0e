package upstream

import (
	"crypto/tls"
	"errors"

	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/refusal"
)

// withdrawn says that the pool was closed: what allowed it is no longer so.
func withdrawn() error { return refusal.New(refusal.Withdrawn, "") }

// overflow says that the workload has as many of something as it may, and that waiting
// for one was in vain. What ended the waiting otherwise stands.
func overflow(what string, err error) error {
	if !errors.Is(err, share.ErrQueue) && !errors.Is(err, share.ErrWait) {
		return connectError(err)
	}
	return &refusal.Error{Reason: refusal.Overflow, Text: "this workload has as many " + what + " as it may", Err: err}
}

// connectError says that no connection could be opened. What the dialer said of
// the reason stands.
func connectError(err error) error {
	var own *refusal.Error
	if errors.As(err, &own) {
		return err
	}
	return &refusal.Error{Reason: refusal.UpstreamConnect, Text: "connect", Err: err}
}

// tlsError says that the TLS handshake with a server failed, or that it chose a protocol
// that this pool does not speak. Reason and text are those that passed-through TLS has
// for the same fault: a server without a certificate for the name is not a handshake
// that broke.
func (c *Conn) tlsError(called string, err error) error {
	reason := refusal.UpstreamTLS
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		reason, err = refusal.CertificateFail, certificate.Err
	}
	if behind := c.pool.config.Behind; behind != "" {
		return refusal.ServerBehind(reason, behind, called, err)
	}
	return refusal.Server(reason, c.remote, called, err)
}
