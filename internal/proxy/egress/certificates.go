package egress

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/keyfiles"
	"sluice.dev/sluice/internal/refusal"
)

// Bounds of client certificates.
const (
	maxCertificates   = 256              // kept read; past it all are read anew as they are needed
	certificatesFresh = 10 * time.Second // after which the files are looked at again
	certificatesRetry = time.Second      // likewise, where they could not be used
)

// Certificates is the client certificates that rules name, with their keys, in a folder
// of the proxy's: NAMESPACE/FILE. A rule of one namespace reaches none of another, and
// nothing outside of the folder, through no link either. What is read stays in memory
// and is never logged. A nil value has none. It is safe for concurrent use.
type Certificates struct {
	folder *keyfiles.Folder
	now    func() time.Time

	mu   sync.Mutex
	read map[policy.ClientCertificate]*clientCertificate
}

// certificateID stands for a certificate and its key: equal ones are of the same.
type certificateID [sha256.Size]byte

// clientCertificate is one as it was read, or why it could not be.
type clientCertificate struct {
	id          certificateID
	certificate tls.Certificate
	err         error
	looked      time.Time // when the files were
	files       [2]fs.FileInfo
}

// OpenCertificates opens the folder of --client-certificates. now is time.Now where it
// is nil.
func OpenCertificates(folder string, now func() time.Time) (*Certificates, error) {
	root, err := keyfiles.Open(folder)
	if err != nil {
		return nil, fmt.Errorf("open the folder of client certificates: %w", err)
	}
	if now == nil {
		now = time.Now
	}
	return &Certificates{folder: root, now: now}, nil
}

// Close closes the folder: no file is read any more.
func (c *Certificates) Close() error {
	if c == nil {
		return nil
	}
	return c.folder.Close()
}

// Expires returns when the first of those that are kept read expires; ok is false where
// none is.
func (c *Certificates) Expires() (first time.Time, ok bool) {
	if c == nil {
		return time.Time{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.read {
		if one.err != nil || one.certificate.Leaf == nil {
			continue
		}
		if until := one.certificate.Leaf.NotAfter; !ok || until.Before(first) {
			first, ok = until, true
		}
	}
	return first, ok
}

// load returns what the files of those names hold now, or a moment ago.
func (c *Certificates) load(names policy.ClientCertificate) (*clientCertificate, error) {
	if c == nil {
		return nil, certificateError(errors.New("this proxy has no folder of client certificates: start it with --client-certificates"))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.read[names]
	now := c.now()
	if known == nil || now.Sub(known.looked) >= known.fresh() {
		if fresh := c.look(names, known); fresh != known {
			if c.read == nil || len(c.read) >= maxCertificates {
				c.read = make(map[policy.ClientCertificate]*clientCertificate)
			}
			c.read[names], known = fresh, fresh
		}
		known.looked = now
	}
	if known.err != nil {
		return nil, certificateError(known.err)
	}
	return known, nil
}

// fresh is for how long the files need not be looked at again.
func (c *clientCertificate) fresh() time.Duration {
	if c.err != nil {
		return certificatesRetry
	}
	return certificatesFresh
}

// look reads the files, if they are not those that are known.
func (c *Certificates) look(names policy.ClientCertificate, known *clientCertificate) *clientCertificate {
	fresh := new(clientCertificate)
	paths := [2]string{path.Join(names.Namespace, names.CertFile), path.Join(names.Namespace, names.KeyFile)}
	same := known != nil && known.err == nil
	for i, p := range paths {
		if fresh.files[i], fresh.err = c.folder.Stat(p); fresh.err != nil {
			return fresh
		}
		same = same && keyfiles.Same(fresh.files[i], known.files[i])
	}
	if same {
		return known
	}
	if mode := fresh.files[1].Mode(); mode&0o007 != 0 {
		fresh.err = fmt.Errorf("everybody may read or change %s: take that away (chmod o= FILE)", paths[1])
		return fresh
	}
	var texts [2][]byte
	for i, p := range paths {
		if texts[i], fresh.err = c.folder.Read(p); fresh.err != nil {
			return fresh
		}
	}
	fresh.certificate, fresh.err = tls.X509KeyPair(texts[0], texts[1])
	clear(texts[1])
	if fresh.err != nil {
		fresh.err = fmt.Errorf("%s and %s: %w", paths[0], paths[1], fresh.err)
		return fresh
	}
	sum := sha256.New()
	for _, der := range fresh.certificate.Certificate {
		sum.Write(der)
	}
	sum.Sum(fresh.id[:0])
	return fresh
}

// certificateError says that the certificate of a rule cannot be shown.
func certificateError(err error) error {
	return &refusal.Error{Reason: refusal.UpstreamTLS, Text: "the client certificate of the rule cannot be read", Err: err}
}
