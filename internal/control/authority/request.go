package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// MaxRequest bounds a request for a certificate, in bytes.
const MaxRequest = 8 << 10

const (
	blockCertificate = "CERTIFICATE"
	blockKey         = "PRIVATE KEY"
	blockRequest     = "CERTIFICATE REQUEST"
)

// NewRequest makes a private key, and the request for a certificate of it; both in PEM.
// The request alone is for the server.
func NewRequest() (key, request []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	raw, err := x509.CreateCertificateRequest(rand.Reader, new(x509.CertificateRequest), private)
	if err != nil {
		return nil, nil, fmt.Errorf("request a certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: encoded}),
		pem.EncodeToMemory(&pem.Block{Type: blockRequest, Bytes: raw}), nil
}

// keyOf returns the public key of a request, whose sender proved to hold the private
// one. Other kinds of keys are refused: none of ours makes them.
func keyOf(request []byte) (*ecdsa.PublicKey, error) {
	if len(request) > MaxRequest {
		return nil, fmt.Errorf("the request for a certificate is longer than %d bytes", MaxRequest)
	}
	block, rest := pem.Decode(request)
	if block == nil || block.Type != blockRequest || len(rest) > 0 {
		return nil, errors.New("the request for a certificate is not one block of PEM of the type " + blockRequest)
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the request for a certificate is not valid: %w", err)
	}
	key, ok := parsed.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the request for a certificate has another key than one of ECDSA on P-256")
	}
	if err := parsed.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the request for a certificate is not signed by its key: %w", err)
	}
	return key, nil
}
