package snapshot

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// rootPool is the certificates that upstream ones must chain to.
type rootPool struct {
	pool *x509.CertPool // nil: the system's, which crypto/x509 reads when they are first needed
	id   string
}

const (
	systemRootsID  = "system"
	bundledRootsID = "bundled"
)

// roots returns the pool of the mesh's trusted roots, PEM; "" means the
// system's, and where the system has none those that we carry.
func (b *Builder) roots(text string) (*rootPool, error) {
	if text == "" {
		if systemHasRoots() {
			return &rootPool{id: systemRootsID}, nil
		}
		return b.pools.get(bundledRootsID, bundledRoots)
	}
	sum := sha256.Sum256([]byte(text))
	id := hex.EncodeToString(sum[:16])
	return b.pools.get(id, func() (*rootPool, error) {
		pool, err := parseRoots([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("trusted roots: %w", err)
		}
		return &rootPool{pool: pool, id: id}, nil
	})
}

// parseRoots reads certificates in PEM. Unlike AppendCertsFromPEM it takes all
// of them or none.
func parseRoots(text []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	count := 0
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a PEM block of type %q", block.Type)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		pool.AddCert(certificate)
		count++
	}
	if count == 0 {
		return nil, errors.New("it holds no certificate")
	}
	return pool, nil
}

// systemHasRoots reports whether crypto/x509 will find roots: the places where
// it looks on Linux. Looking is quick; reading them is not, and most runs of a
// command never need them.
func systemHasRoots() bool {
	if os.Getenv("SSL_CERT_FILE") != "" || os.Getenv("SSL_CERT_DIR") != "" {
		return true // what was asked for counts, even if it is empty
	}
	for _, file := range []string{
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/ssl/ca-bundle.pem",
		"/etc/pki/tls/cacert.pem",
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
		"/etc/ssl/cert.pem",
	} {
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
			return true
		}
	}
	for _, folder := range []string{"/etc/ssl/certs", "/etc/pki/tls/certs"} {
		if found, _ := filepath.Glob(folder + "/*"); len(found) > 0 {
			return true
		}
	}
	return false
}

func bundledRoots() (*rootPool, error) {
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		certificate, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return nil, fmt.Errorf("bundled roots: %w", err)
		}
		if root.Constraint == nil {
			pool.AddCert(certificate)
		} else {
			pool.AddCertWithConstraint(certificate, root.Constraint)
		}
	}
	return &rootPool{pool: pool, id: bundledRootsID}, nil
}
