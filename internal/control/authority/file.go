package authority

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"sluice.dev/sluice/internal/atomicfile"
)

// maxFile bounds the authority's file, in bytes.
const maxFile = 16 << 10

// readCA reads the certificate and the key of an authority from one file; nil where
// there is none. A file that others can read has given the key away: it is refused, not
// mended.
func readCA(path string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the certificate authority of the API: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("read the certificate authority of the API: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, nil, fmt.Errorf("%s holds a private key and its mode is %04o, not 0600: others may have read it; remove it, and the server makes another (then run sluice kubeconfig again for each client)", path, info.Mode().Perm())
	}
	content, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return nil, nil, fmt.Errorf("read the certificate authority of the API: %w", err)
	}
	ca, key, err := parseCA(content)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w; restore it from a copy, or remove it, and the server makes another (then run sluice kubeconfig again for each client)", path, err)
	}
	return ca, key, nil
}

// parseCA never puts what it read into its errors.
func parseCA(content []byte) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	first, rest := pem.Decode(content)
	if first == nil || first.Type != blockCertificate {
		return nil, nil, errors.New("its first block is not a certificate")
	}
	second, _ := pem.Decode(rest)
	if second == nil || second.Type != blockKey {
		return nil, nil, errors.New("its second block is not a private key")
	}
	ca, err := x509.ParseCertificate(first.Bytes)
	if err != nil {
		return nil, nil, errors.New("its certificate cannot be read")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(second.Bytes)
	if err != nil {
		return nil, nil, errors.New("its private key cannot be read")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !ca.IsCA || !same(ca, key) {
		return nil, nil, errors.New("its private key is not that of its certificate")
	}
	return ca, key, nil
}

// encodeCA is what parseCA reads.
func encodeCA(ca *x509.Certificate, key *ecdsa.PrivateKey) ([]byte, error) {
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(certificatePEM(ca.Raw), pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: encoded})...), nil
}

// writeCA writes both into one file, whole or not at all, so that they always match.
func writeCA(path string, ca *x509.Certificate, key *ecdsa.PrivateKey) error {
	content, err := encodeCA(ca, key)
	if err != nil {
		return err
	}
	if err := errors.Join(atomicfile.Sweep(path), atomicfile.WriteBytes(path, 0o600, content)); err != nil {
		return fmt.Errorf("write the certificate authority of the API: %w", err)
	}
	return nil
}
