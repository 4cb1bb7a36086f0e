package proof

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"

	"sluice.dev/sluice/internal/refusal"
)

// proveNoECH proves a server for a workload whose ClientHello carries
// encrypted_client_hello. Nobody but the server can tell a real one from GREASE
// (RFC 9849 §6.2), so the server is asked: our handshake carries one under a key
// that nobody has. A server that takes ECH answers with retry_configs; what it
// was asked for inside the workload's hello could then be any name of its own,
// and the connection is denied. One that answers without has no use for it, and
// reads the name that we read.
//
// crypto/tls cannot send GREASE as such, but it encrypts to any configuration
// that it is given, verifies nothing by it, and tells when it was rejected.
func (h *handshake) proveNoECH(ctx context.Context) error {
	if !offersTLS13(&h.request.Hello) {
		return h.fail(refusal.EncryptedHello, errors.New("the ClientHello offers ECH without TLS 1.3"))
	}
	if h.request.Key.Name.IsZero() {
		return h.fail(refusal.EncryptedHello, errors.New("the ClientHello offers ECH to an address, which no server name can stand for"))
	}
	grease, err := greaseConfigs(h.request.Key.Name.String())
	if err != nil {
		return h.fail(refusal.EncryptedHello, err)
	}
	config := h.config()
	config.MinVersion = tls.VersionTLS13
	config.EncryptedClientHelloConfigList = grease
	// It is called before the certificates can be asked for; they are judged below.
	config.EncryptedClientHelloRejectionVerify = func(tls.ConnectionState) error { return nil }
	conn, err := h.shake(ctx, config)
	if conn == nil {
		return h.unreached(err)
	}
	var rejected *tls.ECHRejectionError
	if !errors.As(err, &rejected) {
		return h.proveOldServer(ctx, err)
	}
	// The handshake is complete but for its last word: the server signed it.
	if err := h.verify(conn.ConnectionState().PeerCertificates); err != nil {
		return h.fail(refusal.CertificateFail, err)
	}
	if len(rejected.RetryConfigList) > 0 {
		return h.fail(refusal.EncryptedHello, errors.New("it answered ours with keys of its own"))
	}
	return nil
}

// proveOldServer proves a server that did not take a hello of TLS 1.3 alone, as
// ECH needs it. It must prove itself, and choose TLS 1.2 although both were
// offered: there ECH does not exist. A downgrade by somebody between is noticed
// (RFC 8446 §4.1.3).
func (h *handshake) proveOldServer(ctx context.Context, first error) error {
	version, err := h.plain(ctx)
	if err != nil {
		return err
	}
	if version != tls.VersionTLS12 {
		return h.fail(refusal.EncryptedHello, fmt.Errorf("it speaks TLS 1.3 and did not answer ours: %w", first))
	}
	return nil
}

// Values of an ECHConfig (RFC 9849 §4, RFC 9180 §7).
const (
	echVersion        = 0xfe0d
	kemX25519         = 0x0020
	kdfHKDFSHA256     = 0x0001
	aeadAES128GCM     = 0x0001
	echKeyLength      = 32
	echMaxNameLength  = 64
	echRandomConfigID = 1 // byte
)

// greaseConfigs is a list of one configuration whose public name is the server
// name itself and whose key is random: any 32 bytes are a key of X25519.
func greaseConfigs(name string) ([]byte, error) {
	if len(name) > 255 {
		return nil, errors.New("the name is too long for ECH")
	}
	var random [echKeyLength + echRandomConfigID]byte
	rand.Read(random[:])

	config := []byte{random[echKeyLength]}
	config = binary.BigEndian.AppendUint16(config, kemX25519)
	config = binary.BigEndian.AppendUint16(config, echKeyLength)
	config = append(config, random[:echKeyLength]...)
	config = binary.BigEndian.AppendUint16(config, 4) // one cipher suite
	config = binary.BigEndian.AppendUint16(config, kdfHKDFSHA256)
	config = binary.BigEndian.AppendUint16(config, aeadAES128GCM)
	config = append(config, echMaxNameLength, byte(len(name)))
	config = append(config, name...)
	config = binary.BigEndian.AppendUint16(config, 0) // no extension

	var list []byte
	list = binary.BigEndian.AppendUint16(list, uint16(4+len(config)))
	list = binary.BigEndian.AppendUint16(list, echVersion)
	list = binary.BigEndian.AppendUint16(list, uint16(len(config)))
	return append(list, config...), nil
}
