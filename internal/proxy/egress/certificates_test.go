package egress

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/keyfiles"
	"sluice.dev/sluice/internal/refusal"
)

// identity is a certificate of its own and its key, in PEM.
func identity(t *testing.T, name string) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func put(t *testing.T, file string, text []byte, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
}

func opened(t *testing.T, folder string, now func() time.Time) *Certificates {
	t.Helper()
	c, err := OpenCertificates(folder, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Whatever a rule names, nothing but a certificate and its key below the folder of its
// own namespace is used, and nothing of a file is told.
func TestARuleReachesNoFileButThoseOfItsNamespace(t *testing.T) {
	above := t.TempDir()
	folder := filepath.Join(above, "certificates")
	certificate, key := identity(t, "details")
	_, foreign := identity(t, "other")
	at := func(name string) string { return filepath.Join(folder, name) }
	put(t, at("default/a.pem"), certificate, 0o644)
	put(t, at("default/a.key"), key, 0o640)
	put(t, at("default/foreign.key"), foreign, 0o600)
	put(t, at("default/open.key"), key, 0o604)
	put(t, at("default/written.key"), key, 0o602)
	put(t, at("default/secret.txt"), []byte("the secret of somebody"), 0o600)
	put(t, at("default/large.pem"), append(certificate, strings.Repeat("#", keyfiles.MaxBytes)...), 0o600)
	put(t, at("team/b.pem"), certificate, 0o600)
	put(t, at("team/b.key"), key, 0o600)
	put(t, filepath.Join(above, "outside.pem"), certificate, 0o600)
	put(t, filepath.Join(above, "outside.key"), key, 0o600)
	for link, to := range map[string]string{"default/link.pem": "../../outside.pem", "default/link.key": "../../outside.key", "default/absolute.key": filepath.Join(above, "outside.key")} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(at("default/pipe.pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := opened(t, folder, nil)
	for _, x := range []struct{ namespace, cert, key, says string }{
		{"default", "a.pem", "a.key", ""},
		{"team", "b.pem", "b.key", ""},
		{"default", "b.pem", "b.key", "no such file"},
		{"default", "absent.pem", "a.key", "no such file"},
		{"default", "a.pem", "foreign.key", "private key does not match public key"},
		{"default", "a.pem", "open.key", "chmod o="},
		{"default", "a.pem", "written.key", "chmod o="},
		{"default", "a.pem", "secret.txt", "failed to find any PEM data in key input"},
		{"default", "secret.txt", "a.key", "failed to find any PEM data in certificate input"},
		{"default", "large.pem", "a.key", "more than 256 KiB"},
		{"default", "pipe.pem", "a.key", "not a regular file"},
		{"default", "link.pem", "a.key", "escapes"},
		{"default", "a.pem", "link.key", "escapes"},
		{"default", "a.pem", "absolute.key", "escapes"},
		{"default", "../../outside.pem", "../../outside.key", "escapes"},
	} {
		got, err := c.load(policy.ClientCertificate{Namespace: x.namespace, CertFile: x.cert, KeyFile: x.key})
		switch {
		case x.says == "" && (err != nil || got.certificate.Leaf.Subject.CommonName != "details" || got.id == certificateID{}):
			t.Errorf("%+v: %v", x, err)
		case x.says != "" && (err == nil || !strings.Contains(err.Error(), x.says) || refusal.Of(err).Reason != refusal.UpstreamTLS):
			t.Errorf("%+v: %v", x, err)
		case err != nil && (strings.Contains(err.Error(), "secret of") || strings.Contains(err.Error(), "MI")):
			t.Errorf("%+v: the error tells what the file holds: %v", x, err)
		}
	}
	if _, err := (*Certificates)(nil).load(policy.ClientCertificate{Namespace: "default", CertFile: "a.pem", KeyFile: "a.key"}); err == nil || !strings.Contains(err.Error(), "--client-certificates") {
		t.Errorf("without a folder: %v", err)
	}
	if _, err := OpenCertificates(at("default/a.pem"), nil); err == nil {
		t.Error("a file was opened as a folder")
	}
}

func TestARenewedCertificateIsRead(t *testing.T) {
	folder, now := t.TempDir(), time.Now()
	c := opened(t, folder, func() time.Time { return now })
	names := policy.ClientCertificate{Namespace: "default", CertFile: "a.pem", KeyFile: "a.key"}
	id := func() (certificateID, error) {
		got, err := c.load(names)
		if err != nil {
			return certificateID{}, err
		}
		return got.id, nil
	}
	if _, err := id(); err == nil {
		t.Error("what is not there was read")
	}
	renew := func() {
		certificate, key := identity(t, "details")
		put(t, filepath.Join(folder, "default/a.pem"), certificate, 0o600)
		put(t, filepath.Join(folder, "default/a.key"), key, 0o600)
	}
	renew()
	now = now.Add(certificatesRetry - 1)
	if _, err := id(); err == nil {
		t.Error("the files are looked at too often")
	}
	now = now.Add(1)
	first, err := id()
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(certificatesFresh)
	if again, err := id(); err != nil || again != first {
		t.Errorf("the same files are another certificate: %v", err)
	}
	renew()
	if again, err := id(); err != nil || again != first {
		t.Errorf("the files are looked at too often: %v", err)
	}
	now = now.Add(certificatesFresh)
	if again, err := id(); err != nil || again == first {
		t.Errorf("the new one is not read: %v", err)
	}
	if err := os.Remove(filepath.Join(folder, "default/a.key")); err != nil {
		t.Fatal(err)
	}
	now = now.Add(certificatesFresh)
	if _, err := id(); err == nil {
		t.Error("one that was taken away is still shown")
	}
}

func TestTheCertificatesThatAreKeptHaveABound(t *testing.T) {
	c := opened(t, t.TempDir(), nil)
	for i := range 2*maxCertificates + 1 {
		c.load(policy.ClientCertificate{Namespace: "default", CertFile: strings.Repeat("a", i+1), KeyFile: "a"})
	}
	if n := len(c.read); n == 0 || n > maxCertificates {
		t.Errorf("%d are kept", n)
	}
}
