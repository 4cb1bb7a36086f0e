package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clock is a time that a test sets.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func open(t *testing.T, path string, c *clock) *Authority {
	t.Helper()
	a, err := Open(path, []string{"127.0.0.1", "localhost"}, c.now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t *testing.T, a *Authority, role string, lifetime time.Duration) *x509.Certificate {
	t.Helper()
	_, request, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	certificate, _, err := a.Issue(request, "jason", role, lifetime)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(certificate)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func place(t *testing.T) (string, *clock) {
	return filepath.Join(t.TempDir(), "api-ca.pem"), &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

func TestACertificateSaysWhoAndWhichRoleUntilItExpires(t *testing.T) {
	path, c := place(t)
	a := open(t, path, c)
	leaf := issue(t, a, Editor, time.Hour)
	who, err := a.Identify(leaf)
	if err != nil || who.Name != "jason" || who.Role != Editor || !who.Expires.Equal(c.Add(time.Hour)) {
		t.Errorf("%+v %v", who, err)
	}
	again := open(t, path, c) // a restart
	if _, err := again.Identify(leaf); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	c.Time = c.Add(time.Hour + time.Second)
	if _, err := a.Identify(leaf); !errors.Is(err, ErrCredential) || !strings.Contains(err.Error(), "it expired at 2026-01-01T01:00:00Z") {
		t.Errorf("expired: %v", err)
	}
}

func TestACertificateOfAnotherAuthorityIsNobodys(t *testing.T) {
	path, c := place(t)
	a := open(t, path, c)
	elsewhere, _ := place(t)
	if _, err := a.Identify(issue(t, open(t, elsewhere, c), Editor, time.Hour)); !errors.Is(err, ErrCredential) {
		t.Errorf("another's: %v", err)
	}
	config := a.TLS()
	server, err := config.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Identify(server.Leaf); !errors.Is(err, ErrCredential) {
		t.Errorf("the server's own: %v", err)
	}
	if _, err := a.Identify(a.ca); !errors.Is(err, ErrCredential) {
		t.Errorf("the authority's own: %v", err)
	}
	// One that somebody signed in the authority's name, without its key.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forged := issue(t, a, Reader, time.Hour)
	forged.Subject.Organization = []string{rolePrefix + Editor}
	raw, err := x509.CreateCertificate(rand.Reader, forged, &x509.Certificate{RawSubject: a.ca.RawSubject, SubjectKeyId: a.ca.SubjectKeyId}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Identify(leaf); !errors.Is(err, ErrCredential) {
		t.Errorf("forged: %v", err)
	}
}

func TestTheServersCertificateIsRenewedInTimeAndTheAuthorityToo(t *testing.T) {
	path, c := place(t)
	a := open(t, path, c)
	get := a.TLS().GetCertificate
	first, _ := get(nil)
	c.Time = c.Add(serverLifetime - serverRenewal - time.Hour)
	if still, err := get(nil); err != nil || still != first {
		t.Errorf("renewed early: %v", err)
	}
	c.Time = c.Add(2 * time.Hour)
	second, err := get(nil)
	if err != nil || second == first || !second.Leaf.NotAfter.Equal(c.Add(serverLifetime)) {
		t.Errorf("not renewed: %v", err)
	}
	before := string(a.CA())
	c.Time = c.Add(caLifetime - caRenewal)
	third, err := get(nil)
	if err != nil {
		t.Fatal(err)
	}
	if string(a.CA()) == before {
		t.Fatal("the authority is not renewed")
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.CA())
	for _, name := range []string{ServerName, "localhost", "127.0.0.1"} {
		if _, err := third.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: c.Time}); err != nil {
			t.Errorf("as %s: %v", name, err)
		}
	}
	if string(open(t, path, c).CA()) != string(a.CA()) {
		t.Error("the renewed authority is not on disk")
	}
}

func TestWhatIsAskedForIsBounded(t *testing.T) {
	path, c := place(t)
	a := open(t, path, c)
	_, request, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		request    string
		name, role string
		lifetime   time.Duration
		says       string
	}{
		{string(request), "jason", "admin", time.Hour, `role "admin" is not one of reader, editor`},
		{string(request), "jason", "", time.Hour, `role "" is not one of`},
		{string(request), "system:admin", Reader, time.Hour, "must be 1 to 63 letters"},
		{string(request), "", Reader, time.Hour, "must be 1 to 63 letters"},
		{string(request), strings.Repeat("a", 64), Reader, time.Hour, "must be 1 to 63 letters"},
		{string(request), "jason", Reader, MaxLifetime + 1, "must be from 1m0s to 2160h0m0s"},
		{string(request), "jason", Reader, 0, "must be from 1m0s to 2160h0m0s"},
		{"", "jason", Reader, time.Hour, "not one block of PEM"},
		{string(request) + string(request), "jason", Reader, time.Hour, "not one block of PEM"},
		{string(request) + strings.Repeat("\n", MaxRequest), "jason", Reader, time.Hour, "longer than"},
	} {
		if _, _, err := a.Issue([]byte(x.request), x.name, x.role, x.lifetime); err == nil || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%q %q %s: %v", x.name, x.role, x.lifetime, err)
		}
	}
	block, _ := pem.Decode(request)
	block.Bytes[len(block.Bytes)-1] ^= 1 // the signature
	if _, _, err := a.Issue(pem.EncodeToMemory(block), "jason", Reader, time.Hour); err == nil {
		t.Error("a request whose sender does not hold the key was signed")
	}
}

func TestTheFileIsPrivateAndOneThatOthersCouldReadIsRefused(t *testing.T) {
	path, c := place(t)
	open(t, path, c)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("%v %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, nil, c.now); err == nil || !strings.Contains(err.Error(), "its mode is 0640, not 0600") {
		t.Errorf("%v", err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"", "x", string(whole[:len(whole)/2]), string(whole[:len(whole)-40])} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, nil, c.now); err == nil || !strings.Contains(err.Error(), "restore it from a copy, or remove it") {
			t.Errorf("%d bytes: %v", len(content), err)
		}
	}
}

func FuzzARequestIsSignedOrRefused(f *testing.F) {
	_, request, err := NewRequest()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request)
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := keyOf(b); (key == nil) == (err == nil) {
			t.Errorf("%v %v", key, err)
		}
	})
}
