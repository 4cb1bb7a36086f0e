package proof

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/refusal"
)

// handshake is one proof at work.
//
// A server has proved itself when it showed a chain that leads from a trusted
// root to a certificate of the name, and signed our own random bytes with that
// certificate's key. A certificate alone proves nothing: it is public.
type handshake struct {
	request Request
	now     func() time.Time
	reached func()    // called when the server took a connection
	expires time.Time // once verified: when a certificate of the chain expires
}

func (h *handshake) prove(ctx context.Context) error {
	if h.request.Hello.ECH {
		return h.proveNoECH(ctx)
	}
	_, err := h.plain(ctx)
	return err
}

// plain does a handshake without ECH and returns the version that was chosen.
func (h *handshake) plain(ctx context.Context) (version uint16, err error) {
	var refused error
	verified := false
	config := h.config()
	config.VerifyConnection = func(state tls.ConnectionState) error {
		refused = h.verify(state.PeerCertificates)
		verified = refused == nil
		return refused
	}
	conn, err := h.shake(ctx, config)
	switch {
	case conn == nil:
		return 0, h.unreached(err)
	case refused != nil:
		return 0, h.fail(refusal.CertificateFail, refused)
	case verified && (err == nil || signed(conn)):
		return conn.ConnectionState().Version, nil
	default:
		return 0, h.fail(refusal.UpstreamTLS, err)
	}
}

// signed reports whether a handshake that failed had come far enough for a proof:
// a server that then wants a certificate of the client's ends it. In TLS 1.3 our
// side is complete before the server can object, so it does not fail. In TLS 1.2
// the curve is known only once the ServerKeyExchange was there and its signature
// held (RFC 8422 §5.4), and the certificates were verified before that; only
// suites with such a signature are offered.
func signed(conn *tls.Conn) bool {
	state := conn.ConnectionState()
	return state.Version == tls.VersionTLS12 && state.CurveID != 0
}

// shake dials and shakes hands. The connection that it returns is closed; it is
// nil where there never was one.
func (h *handshake) shake(ctx context.Context, config *tls.Config) (*tls.Conn, error) {
	tcp, err := h.request.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer tcp.Close()
	h.reached()
	if deadline, ok := ctx.Deadline(); ok {
		tcp.SetDeadline(deadline)
	}
	conn := tls.Client(tcp, config)
	err = conn.HandshakeContext(ctx)
	if err == nil {
		// Say goodbye; an error here takes nothing back.
		tcp.SetDeadline(time.Now().Add(goodbyeTime))
		conn.CloseWrite()
	}
	return conn, err
}

// goodbyeTime bounds the sending of close_notify.
const goodbyeTime = time.Second

func (h *handshake) config() *tls.Config {
	config := &tls.Config{
		ServerName:             h.request.Key.called(),
		Time:                   h.now,
		MinVersion:             tls.VersionTLS12,
		CipherSuites:           signedSuites,
		NextProtos:             h.request.Hello.ALPN,
		CurvePreferences:       groupsOf(&h.request.Hello),
		SessionTicketsDisabled: true,
		// verify does it, for the name that the rule wants and by our own clock.
		InsecureSkipVerify: true,
	}
	if !offersTLS13(&h.request.Hello) {
		config.MaxVersion = tls.VersionTLS12
	}
	return config
}

// verify judges a chain (RFC 5280, RFC 9525: names and addresses in subjectAltName alone).
func (h *handshake) verify(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("it showed no certificate")
	}
	options := x509.VerifyOptions{
		Roots:         h.request.Roots,
		DNSName:       h.request.Key.verify(),
		CurrentTime:   h.now(),
		Intermediates: x509.NewCertPool(),
	}
	for _, intermediate := range chain[1:] {
		options.Intermediates.AddCert(intermediate)
	}
	chains, err := chain[0].Verify(options)
	if err == nil {
		h.expires = expiry(chains)
	}
	return err
}

// expiry is when the last of several chains ends; a chain ends with the first of
// its certificates.
func expiry(chains [][]*x509.Certificate) (last time.Time) {
	for _, chain := range chains {
		first := chain[0].NotAfter
		for _, certificate := range chain[1:] {
			if certificate.NotAfter.Before(first) {
				first = certificate.NotAfter
			}
		}
		if first.After(last) {
			last = first
		}
	}
	return last
}

func (h *handshake) fail(code refusal.Reason, err error) error {
	return failed(h.request.Key, code, err)
}

// unreached is the error of a server to which there was no connection: what the dial
// says of the reason stands.
func (h *handshake) unreached(err error) error {
	var own *refusal.Error
	if errors.As(err, &own) {
		return own
	}
	return h.fail(refusal.UpstreamConnect, err)
}

// offersTLS13 reports whether our handshake may offer TLS 1.3. It may where there
// was no hello to follow.
func offersTLS13(hello *sniff.Result) bool {
	return hello.MaxVersion >= tls.VersionTLS13 || hello.MaxVersion == 0
}

// signedSuites are the suites of TLS 1.2 in which the server signs the key
// exchange. Those of TLS 1.3 all do and are not configured.
var signedSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
	tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
	tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
}

// knownGroups are the groups that crypto/tls can offer. Its own order holds,
// whatever that of the hello.
var knownGroups = []tls.CurveID{
	tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024,
	tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521,
}

// groupsOf returns the groups of a hello that we can offer too. None of them
// known, it returns nil: then crypto/tls offers its own.
func groupsOf(hello *sniff.Result) []tls.CurveID {
	var groups []tls.CurveID
	for _, known := range knownGroups {
		if slices.Contains(hello.Groups, uint16(known)) {
			groups = append(groups, known)
		}
	}
	return groups
}
