// Package authority issues and checks the certificates of the API over TCP: the
// server's own, and those of its clients, which name who they are and their role. The
// server opens it, the command line makes its requests. It is the API's alone: it must
// never say who a workload is, and a private key of a client never comes to it.
package authority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// ServerName is the name in the server's certificate by which a kubeconfig checks it,
// whatever the address under which the server is reached.
const ServerName = "sluice-server"

// Roles of a client.
const (
	Reader = "reader" // reads everything, writes nothing
	Editor = "editor" // writes rules and configuration too
)

// Roles lists the roles.
func Roles() []string { return []string{Reader, Editor} }

const (
	// DefaultLifetime is how long a client certificate is good where nobody says.
	DefaultLifetime = 24 * time.Hour
	// MinLifetime is the shortest lifetime of a client certificate.
	MinLifetime = time.Minute
	// MaxLifetime is the longest lifetime of a client certificate.
	MaxLifetime = 90 * 24 * time.Hour

	// caLifetime is how long the certificate authority of the API is good.
	caLifetime = 10 * 365 * 24 * time.Hour
	// caRenewal is how long before its end the authority is replaced. It is longer than
	// what the authority signs is good.
	caRenewal = 365 * 24 * time.Hour
	// serverLifetime is how long the certificate of the API's port is good.
	serverLifetime = 90 * 24 * time.Hour
	// serverRenewal is how long before its end the certificate of the port is replaced.
	serverRenewal = serverLifetime / 3
	// clockSkew is how far a client's clock may be behind ours.
	clockSkew = 5 * time.Minute
	// maxName bounds the name of a client, in bytes.
	maxName = 63
)

// rolePrefix stands before the role in a certificate's organization.
const rolePrefix = "sluice:"

// Identity is who a certificate is for.
type Identity struct {
	Name, Role string
	Expires    time.Time
}

// ErrCredential is wrapped by the refusals of Identify.
var ErrCredential = errors.New("the client certificate is not valid here")

// Authority is the certificate authority of one server's API. It is safe for
// concurrent use.
type Authority struct {
	path  string   // "": it is kept elsewhere, and not replaced
	hosts []string // addresses and names of the server beside ServerName
	now   func() time.Time

	mu     sync.Mutex
	ca     *x509.Certificate
	caKey  *ecdsa.PrivateKey
	server *tls.Certificate
}

// Open reads the authority of a data folder, and makes it where there is none, or where
// it is about to end. hosts are addresses and names under which the server is reached.
func Open(path string, hosts []string, now func() time.Time) (*Authority, error) {
	a := &Authority{path: path, hosts: hosts, now: now}
	a.mu.Lock()
	defer a.mu.Unlock()
	var err error
	if a.ca, a.caKey, err = readCA(path); err != nil {
		return nil, err
	}
	return a, a.renew()
}

// renew makes what is missing or about to end. The lock is held.
func (a *Authority) renew() error {
	now := a.now()
	if a.path != "" && (a.ca == nil || a.ca.NotAfter.Sub(now) < caRenewal) {
		ca, key, err := newCA(now)
		if err != nil {
			return err
		}
		if err := writeCA(a.path, ca, key); err != nil {
			return err
		}
		a.ca, a.caKey, a.server = ca, key, nil
	}
	if a.server == nil || a.server.Leaf.NotAfter.Sub(now) < serverRenewal {
		server, err := a.newServer(now)
		if err != nil {
			return err
		}
		a.server = server
	}
	return nil
}

// CA returns the authority's certificate in PEM.
func (a *Authority) CA() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return certificatePEM(a.ca.Raw)
}

// TLS returns the configuration of the server's side. A client without a certificate,
// or with one that is not ours, is let in as nobody: it is for Identify to refuse it,
// with an answer that says why.
func (a *Authority) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if err := a.renew(); err != nil {
				return nil, fmt.Errorf("renew the certificate of the API: %w", err)
			}
			return a.server, nil
		},
		// A resumed session would skip the check of the certificate.
		SessionTicketsDisabled: true,
	}
}

// Issue returns a certificate in PEM for the key of a request in PEM; name and role are
// what it says, whatever the request says of itself.
func (a *Authority) Issue(request []byte, name, role string, lifetime time.Duration) (certificate []byte, expires time.Time, err error) {
	switch {
	case !slices.Contains(Roles(), role):
		return nil, expires, fmt.Errorf("role %q is not one of %s", role, strings.Join(Roles(), ", "))
	case !IsName(name):
		return nil, expires, fmt.Errorf("name %q must be 1 to %d letters, digits and . _ - @", name, maxName)
	case lifetime < MinLifetime || lifetime > MaxLifetime:
		return nil, expires, fmt.Errorf("lifetime %s must be from %s to %s", lifetime, MinLifetime, MaxLifetime)
	}
	key, err := keyOf(request)
	if err != nil {
		return nil, expires, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.renew(); err != nil {
		return nil, expires, err
	}
	now := a.now()
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: name, Organization: []string{rolePrefix + role}},
		NotBefore:   now.Add(-clockSkew),
		NotAfter:    now.Add(lifetime).Truncate(time.Second),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	raw, err := a.sign(template, key)
	if err != nil {
		return nil, expires, err
	}
	return certificatePEM(raw), template.NotAfter, nil
}

// Identify says who a client's certificate is for, or why it is not accepted.
func (a *Authority) Identify(leaf *x509.Certificate) (Identity, error) {
	a.mu.Lock()
	roots := x509.NewCertPool()
	roots.AddCert(a.ca)
	now := a.now()
	a.mu.Unlock()
	if now.After(leaf.NotAfter) {
		return Identity{}, fmt.Errorf("%w: it expired at %s", ErrCredential, leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return Identity{}, fmt.Errorf("%w: this server did not issue it", ErrCredential)
	}
	if len(leaf.Subject.Organization) == 1 && IsName(leaf.Subject.CommonName) {
		if role, ok := strings.CutPrefix(leaf.Subject.Organization[0], rolePrefix); ok && slices.Contains(Roles(), role) {
			return Identity{Name: leaf.Subject.CommonName, Role: role, Expires: leaf.NotAfter}, nil
		}
	}
	return Identity{}, fmt.Errorf("%w: it names no role", ErrCredential)
}

// IsName reports whether a client may be called so. It cannot be taken for one of
// Kubernetes' own names, which hold a colon.
func IsName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("._-@", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// newServer makes the certificate of the server; its key is never written anywhere.
func (a *Authority) newServer(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: ServerName},
		NotBefore:   now.Add(-clockSkew),
		NotAfter:    now.Add(serverLifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{ServerName},
	}
	for _, host := range a.hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	raw, err := a.sign(template, &key.PublicKey)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key, Leaf: leaf}, nil
}

// sign signs a certificate for a public key. The lock is held.
func (a *Authority) sign(template *x509.Certificate, key any) ([]byte, error) {
	var err error
	if template.SerialNumber, err = serial(); err != nil {
		return nil, err
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.ca, key, a.caKey)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	return raw, nil
}

func newCA(now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	number, err := serial()
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          number,
		Subject:               pkix.Name{CommonName: "Sluice API " + number.Text(16)[:8]},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(caLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // it signs nobody who signs
		KeyUsage:              x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make the certificate authority of the API: %w", err)
	}
	ca, err := x509.ParseCertificate(raw)
	return ca, key, err
}

// serial is a number that nobody guesses (RFC 5280 section 4.1.2.2: at most 20 bytes,
// positive).
func serial() (*big.Int, error) {
	number := make([]byte, 16)
	if _, err := rand.Read(number); err != nil {
		return nil, err
	}
	number[0] = number[0]&0x7f | 0x40
	return new(big.Int).SetBytes(number), nil
}

func certificatePEM(raw []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: raw})
}

// same reports whether a key is that of a certificate.
func same(ca *x509.Certificate, key *ecdsa.PrivateKey) bool {
	public, ok := ca.PublicKey.(*ecdsa.PublicKey)
	return ok && public.Equal(&key.PublicKey) && bytes.Equal(ca.RawIssuer, ca.RawSubject)
}
