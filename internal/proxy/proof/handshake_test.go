package proof

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/refusal"
)

func TestWhoProvesItself(t *testing.T) {
	ours, strangers := newAuthority(t), newAuthority(t)
	good := ours.issue(t, host, nil)
	thief := tls.Certificate{Certificate: good.Certificate, PrivateKey: forged{good.PrivateKey.(crypto.Signer).Public(), newKey(t)}}
	cases := map[string]struct {
		config *tls.Config
		reason refusal.Reason // "" when it does
	}{
		"the right server":                           {config: &tls.Config{Certificates: []tls.Certificate{good}}},
		"the right server, with TLS 1.2 alone":       {config: &tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS12}},
		"one that wants a client certificate":        {config: &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert}},
		"one that wants one in TLS 1.2":              {config: &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}},
		"one that asks for one in TLS 1.2":           {config: &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequestClientCert, MaxVersion: tls.VersionTLS12}},
		"one that speaks a protocol of the client's": {config: &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: []string{"h2"}}},
		"one with a group that we must retry for":    {config: &tls.Config{Certificates: []tls.Certificate{good}, CurvePreferences: []tls.CurveID{tls.X25519}}},

		"a stranger with a certificate of its own":   {config: &tls.Config{Certificates: []tls.Certificate{strangers.issue(t, host, nil)}}, reason: refusal.CertificateFail},
		"a stranger that wants a client certificate": {config: &tls.Config{Certificates: []tls.Certificate{strangers.issue(t, host, nil)}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}, reason: refusal.CertificateFail},
		"a certificate of another name":              {config: &tls.Config{Certificates: []tls.Certificate{ours.issue(t, "www.example.org", nil)}}, reason: refusal.CertificateFail},
		"a certificate of another name, TLS 1.2":     {config: &tls.Config{Certificates: []tls.Certificate{ours.issue(t, "www.example.org", nil)}, MaxVersion: tls.VersionTLS12}, reason: refusal.CertificateFail},
		"a name in the common name alone":            {config: &tls.Config{Certificates: []tls.Certificate{ours.issue(t, host, func(c *x509.Certificate) { c.DNSNames = nil })}}, reason: refusal.CertificateFail},
		"an expired certificate":                     {config: &tls.Config{Certificates: []tls.Certificate{ours.issue(t, host, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}}, reason: refusal.CertificateFail},
		"a certificate of tomorrow":                  {config: &tls.Config{Certificates: []tls.Certificate{ours.issue(t, host, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })}}, reason: refusal.CertificateFail},
		"a certificate for clients":                  {config: &tls.Config{Certificates: []tls.Certificate{ours.issue(t, host, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })}}, reason: refusal.CertificateFail},
		"the right certificate without its key":      {config: &tls.Config{Certificates: []tls.Certificate{thief}}, reason: refusal.UpstreamTLS},
		"the same in TLS 1.2":                        {config: &tls.Config{Certificates: []tls.Certificate{thief}, MaxVersion: tls.VersionTLS12}, reason: refusal.UpstreamTLS},
		"the same, wanting a client certificate":     {config: &tls.Config{Certificates: []tls.Certificate{thief}, MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert}, reason: refusal.UpstreamTLS},
		"one that speaks no protocol of the client":  {config: &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: []string{"x"}}, reason: refusal.UpstreamTLS},
		"one that speaks TLS 1.1 at most":            {config: &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, reason: refusal.UpstreamTLS},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := serve(t, c.config)
			err := newProver(t, Config{}).Prove(t.Context(), s.request(ours))
			wantReason(t, err, c.reason)
		})
	}
}

// forged claims to be the owner of a public key, and signs with another.
type forged struct {
	public crypto.PublicKey
	crypto.Signer
}

func (f forged) Public() crypto.PublicKey { return f.public }

func wantReason(t *testing.T, err error, want refusal.Reason) {
	t.Helper()
	var failed *refusal.Error
	switch {
	case want == "" && err != nil:
		t.Errorf("it was refused: %v", err)
	case want != "" && !errors.As(err, &failed):
		t.Errorf("got %v, want the reason %s", err, want)
	case want != "" && failed.Reason != want:
		t.Errorf("got %s (%v), want %s", failed.Reason, err, want)
	}
}

// TestACertificateWithoutASignatureProvesNothing is the attack on servers that
// end the handshake early: a stranger shows the public certificate of the name,
// leaves out the message that its key would have to sign, and asks for a client
// certificate.
func TestACertificateWithoutASignatureProvesNothing(t *testing.T) {
	ours := newAuthority(t)
	stolen := ours.issue(t, host, nil).Certificate[0]
	for name, exchange := range map[string][]byte{
		"no key exchange":                  nil,
		"a key exchange without signature": keyExchange(t, nil),
		"one with a signature of nothing":  keyExchange(t, []byte{4, 3, 0, 2, 0, 0}),
	} {
		t.Run(name, func(t *testing.T) {
			s := serveRaw(t, func(c net.Conn) {
				c.Read(make([]byte, 4096)) // the ClientHello
				hello := append([]byte{3, 3}, make([]byte, 32)...)
				hello = append(hello, 0, 0xc0, 0x2b, 0) // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
				chain := append(uint24(len(stolen)), stolen...)
				flight := slices.Concat(
					handshakeMessage(2, hello),
					handshakeMessage(11, append(uint24(len(chain)), chain...)),
					exchange,
					handshakeMessage(13, []byte{1, 64, 0, 2, 4, 3, 0, 0}), // CertificateRequest
					handshakeMessage(14, nil),                             // ServerHelloDone
				)
				record := binary.BigEndian.AppendUint16([]byte{22, 3, 3}, uint16(len(flight)))
				c.Write(append(record, flight...))
				io.Copy(io.Discard, c)
			})
			wantReason(t, newProver(t, Config{}).Prove(t.Context(), s.request(ours)), refusal.UpstreamTLS)
		})
	}
}

func keyExchange(t *testing.T, signature []byte) []byte {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	params := append([]byte{3, 0, 29, 32}, key.PublicKey().Bytes()...)
	return handshakeMessage(12, append(params, signature...))
}

func handshakeMessage(kind byte, body []byte) []byte {
	return append(append([]byte{kind}, uint24(len(body))...), body...)
}

func uint24(n int) []byte { return []byte{byte(n >> 16), byte(n >> 8), byte(n)} }

func TestTheHandshakeOffersWhatTheWorkloadDoes(t *testing.T) {
	ours := newAuthority(t)
	seen := make(chan *tls.ClientHelloInfo, 1)
	s := serve(t, &tls.Config{
		Certificates:       []tls.Certificate{ours.issue(t, host, nil)},
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) { seen <- info; return nil, nil },
	})
	p := newProver(t, Config{})
	r := s.request(ours)
	wantReason(t, p.Prove(t.Context(), r), "")
	info := <-seen
	if info.ServerName != host || !slices.Equal(info.SupportedProtos, r.Hello.ALPN) ||
		!slices.Equal(info.SupportedCurves, []tls.CurveID{tls.X25519MLKEM768, tls.X25519}) || info.SupportedVersions[0] != tls.VersionTLS13 {
		t.Errorf("the server saw %q, %q, %v, %x", info.ServerName, info.SupportedProtos, info.SupportedCurves, info.SupportedVersions)
	}

	r.Key.RootsID = "another, so that it is proved anew"
	r.Hello.MaxVersion, r.Hello.ALPN, r.Hello.Groups = tls.VersionTLS12, nil, []uint16{0x1a1a}
	wantReason(t, p.Prove(t.Context(), r), "")
	info = <-seen
	if info.SupportedProtos != nil || info.SupportedVersions[0] != tls.VersionTLS12 || len(info.SupportedCurves) == 0 {
		t.Errorf("the server saw %q, %v, %x", info.SupportedProtos, info.SupportedCurves, info.SupportedVersions)
	}
}

func TestARuleMayWantAnotherName(t *testing.T) {
	ours := newAuthority(t)
	s := serve(t, &tls.Config{Certificates: []tls.Certificate{ours.issue(t, "internal.example.com", nil)}})
	r := s.request(ours)
	r.Key.Verify = names.MustParse("internal.example.com")
	p := newProver(t, Config{})
	wantReason(t, p.Prove(t.Context(), r), "")
	r.Key.Verify = names.Name{}
	wantReason(t, p.Prove(t.Context(), r), refusal.CertificateFail)
}

// No server name exists for an address: its certificate must hold it, as an address.
func TestAServerWithoutANameProvesItsAddress(t *testing.T) {
	ours := newAuthority(t)
	loopback := net.IPv4(127, 0, 0, 1)
	for what, c := range map[string]struct {
		change func(*x509.Certificate)
		reason refusal.Reason
	}{
		"the address":                     {func(c *x509.Certificate) { c.IPAddresses = []net.IP{loopback} }, ""},
		"another address":                 {func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} }, refusal.CertificateFail},
		"a name alone":                    {func(*x509.Certificate) {}, refusal.CertificateFail},
		"the address as if it was a name": {func(c *x509.Certificate) { c.DNSNames = []string{"127.0.0.1"} }, refusal.CertificateFail},
	} {
		t.Run(what, func(t *testing.T) {
			var sent []string
			certificate := ours.issue(t, host, c.change)
			s := serve(t, &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				sent = append(sent, hello.ServerName)
				return &certificate, nil
			}})
			r := s.request(ours)
			r.Key.Name = names.Name{}
			err := newProver(t, Config{}).Prove(t.Context(), r)
			wantReason(t, err, c.reason)
			if err != nil && !strings.Contains(err.Error(), "127.0.0.1") {
				t.Errorf("the error says %q", err)
			}
			if len(sent) != 1 || sent[0] != "" {
				t.Errorf("the server names sent are %q", sent)
			}
			r.Hello.ECH = true
			wantReason(t, newProver(t, Config{}).Prove(t.Context(), r), refusal.EncryptedHello)
		})
	}
}

func TestAServerThatIsNotThereIsToldFromAStranger(t *testing.T) {
	ours := newAuthority(t)
	s := serveRaw(t, func(c net.Conn) { io.WriteString(c, "220 this is no TLS\r\n") })
	wantReason(t, newProver(t, Config{}).Prove(t.Context(), s.request(ours)), refusal.UpstreamTLS)
	r := s.request(ours)
	refused := errors.New("refused")
	r.Dial = func(context.Context) (*net.TCPConn, error) { return nil, refused }
	err := newProver(t, Config{}).Prove(t.Context(), r)
	wantReason(t, err, refusal.UpstreamConnect)
	if !errors.Is(err, refused) || !strings.Contains(err.Error(), s.addr.String()) || !strings.Contains(err.Error(), host) {
		t.Errorf("the error says %q", err)
	}
}

// What the dial knew of the reason is not made vaguer.
func TestTheReasonOfTheDialStands(t *testing.T) {
	ours := newAuthority(t)
	s := serveRaw(t, func(net.Conn) {})
	for _, ech := range []bool{false, true} {
		r := s.request(ours)
		r.Hello.ECH = ech
		private := refusal.New(refusal.PrivateAddress, "www.example.com leads to 10.0.0.1")
		r.Dial = func(context.Context) (*net.TCPConn, error) { return nil, fmt.Errorf("dial: %w", private) }
		if err := newProver(t, Config{}).Prove(t.Context(), r); refusal.Of(err) != private {
			t.Errorf("with ECH %v: %v", ech, err)
		}
	}
}

func TestEncryptedClientHelloNeedsAServerWithoutUseForIt(t *testing.T) {
	ours, strangers := newAuthority(t), newAuthority(t)
	good := []tls.Certificate{ours.issue(t, host, nil)}
	for name, c := range map[string]struct {
		config  *tls.Config
		version uint16
		reason  refusal.Reason
	}{
		"a server without ECH":                      {config: &tls.Config{Certificates: good}},
		"one without, that wants a certificate":     {config: &tls.Config{Certificates: good, ClientAuth: tls.RequireAnyClientCert}},
		"one without, after a retry":                {config: &tls.Config{Certificates: good, CurvePreferences: []tls.CurveID{tls.CurveP384}}},
		"one of TLS 1.2":                            {config: &tls.Config{Certificates: good, MaxVersion: tls.VersionTLS12}},
		"one that takes ECH":                        {config: &tls.Config{Certificates: good, EncryptedClientHelloKeys: echKeys(t)}, reason: refusal.EncryptedHello},
		"a stranger":                                {config: &tls.Config{Certificates: []tls.Certificate{strangers.issue(t, host, nil)}}, reason: refusal.CertificateFail},
		"a stranger that takes ECH":                 {config: &tls.Config{Certificates: []tls.Certificate{strangers.issue(t, host, nil)}, EncryptedClientHelloKeys: echKeys(t)}, reason: refusal.CertificateFail},
		"a stranger of TLS 1.2":                     {config: &tls.Config{Certificates: []tls.Certificate{strangers.issue(t, host, nil)}, MaxVersion: tls.VersionTLS12}, reason: refusal.CertificateFail},
		"a hello that cannot mean ECH":              {config: &tls.Config{Certificates: good}, version: tls.VersionTLS12, reason: refusal.EncryptedHello},
		"a server of TLS 1.3 that dislikes our way": {config: &tls.Config{Certificates: good, GetConfigForClient: refuseECH}, reason: refusal.EncryptedHello},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, c.config)
			r := s.request(ours)
			r.Hello.ECH = true
			r.Hello.Groups = append(r.Hello.Groups, uint16(tls.CurveP384))
			if c.version != 0 {
				r.Hello.MaxVersion = c.version
			}
			p := newProver(t, Config{})
			wantReason(t, p.Prove(t.Context(), r), c.reason)
			if c.reason != "" {
				return
			}
			dialled := s.connections.Load()
			r.Hello.ECH = false
			wantReason(t, p.Prove(t.Context(), r), "")
			if s.connections.Load() != dialled {
				t.Error("a proof without ECH does not count for a hello without")
			}
		})
	}
}

// refuseECH fails every handshake with encrypted_client_hello.
func refuseECH(info *tls.ClientHelloInfo) (*tls.Config, error) {
	if slices.Contains(info.Extensions, 0xfe0d) {
		return nil, errors.New("no ECH here")
	}
	return nil, nil
}

func echKeys(t *testing.T) []tls.EncryptedClientHelloKey {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	list, err := greaseConfigs("public.example.com")
	if err != nil {
		t.Fatal(err)
	}
	config := list[2:]
	copy(config[4+1+2+2:], key.PublicKey().Bytes())
	return []tls.EncryptedClientHelloKey{{Config: config, PrivateKey: key.Bytes(), SendAsRetry: true}}
}

func TestAProofWithoutECHIsNoneForAHelloWithIt(t *testing.T) {
	ours := newAuthority(t)
	s := serve(t, &tls.Config{Certificates: []tls.Certificate{ours.issue(t, host, nil)}, EncryptedClientHelloKeys: echKeys(t)})
	p := newProver(t, Config{})
	r := s.request(ours)
	wantReason(t, p.Prove(t.Context(), r), "")
	r.Hello.ECH = true
	wantReason(t, p.Prove(t.Context(), r), refusal.EncryptedHello)
	r.Hello.ECH = false
	wantReason(t, p.Prove(t.Context(), r), "")
}
