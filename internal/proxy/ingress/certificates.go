package ingress

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"sync"
	"time"

	"sluice.dev/sluice/internal/edge"
	"sluice.dev/sluice/internal/proxy/keyfiles"
)

// certificatesFresh is for how long the files of a certificate are not looked at again.
const certificatesFresh = time.Second

// Files of a certificate's folder, as a Secret of Kubernetes is mounted.
const (
	certificateFile = "tls.crt"
	keyFile         = "tls.key"
	clientsFile     = "ca.crt"
)

// Certificates is the certificates that the rules of an ingress name, with their keys, in a
// folder of the proxy's: NAMESPACE/SECRET/tls.crt and tls.key. A rule of one namespace reaches
// none of another. What is read stays in memory and is never logged. It is safe for
// concurrent use.
type Certificates struct {
	folder *keyfiles.Folder
	now    func() time.Time
	log    *slog.Logger

	mu   sync.Mutex
	read map[edge.Certificate]*loaded // at most edge.MaxCertificates
}

// loaded is one certificate as it was read, or why it could not be.
type loaded struct {
	config *tls.Config
	leaf   *x509.Certificate
	err    error
	looked time.Time
	files  [3]fs.FileInfo
	said   string // what was said last of why it stays as it is
}

// OpenCertificates opens the folder of --ingress-certs. now is time.Now where it is nil.
func OpenCertificates(folder string, now func() time.Time, log *slog.Logger) (*Certificates, error) {
	root, err := keyfiles.Open(folder)
	if err != nil {
		return nil, fmt.Errorf("open the folder of ingress certificates: %w", err)
	}
	if now == nil {
		now = time.Now
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Certificates{folder: root, now: now, log: log}, nil
}

// Close closes the folder: no file is read any more.
func (c *Certificates) Close() error {
	if c == nil {
		return nil
	}
	return c.folder.Close()
}

// load returns what the files of a certificate hold now, or a moment ago.
func (c *Certificates) load(of edge.Certificate) (*loaded, error) {
	if c == nil {
		return nil, errors.New("this proxy has no folder of certificates: start it with --ingress-certs")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.read[of]
	if now := c.now(); known == nil || now.Sub(known.looked) >= certificatesFresh || now.Before(known.looked) {
		known = c.look(of, known)
		known.looked = now
		if c.read == nil || len(c.read) >= edge.MaxCertificates && c.read[of] == nil {
			c.read = make(map[edge.Certificate]*loaded)
		}
		c.read[of] = known
	}
	return known, known.err
}

// look reads the files, if they are not those that are known. While they cannot be used, as
// between the change of one and of the other, what was read before stays; a file that is gone
// takes it away.
func (c *Certificates) look(of edge.Certificate, known *loaded) *loaded {
	fresh := new(loaded)
	files := []string{certificateFile, keyFile}
	if of.Clients {
		files = append(files, clientsFile)
	}
	same := known != nil && known.config != nil
	for i, name := range files {
		if fresh.files[i], fresh.err = c.folder.Stat(path.Join(of.Namespace, of.Secret, name)); fresh.err != nil {
			break
		}
		same = same && keyfiles.Same(fresh.files[i], known.files[i])
	}
	if fresh.err == nil {
		if same {
			return known
		}
		fresh.config, fresh.leaf, fresh.err = c.readAll(of, fresh.files[1])
	}
	switch {
	case fresh.err == nil:
		return fresh
	case known != nil && known.config != nil && !errors.Is(fresh.err, fs.ErrNotExist):
		if text := fresh.err.Error(); known.said != text {
			known.said = text
			c.log.Warn("a certificate of the ingress cannot be read: the one before stays", "secret", of.Namespace+"/"+of.Secret, "error", fresh.err)
		}
		return known
	}
	if known == nil || known.err == nil || known.err.Error() != fresh.err.Error() {
		c.log.Warn("a certificate of the ingress cannot be read: its hosts are not served by TLS", "secret", of.Namespace+"/"+of.Secret, "error", fresh.err)
	}
	return fresh
}

// readAll reads the files of one certificate.
func (c *Certificates) readAll(of edge.Certificate, key fs.FileInfo) (*tls.Config, *x509.Certificate, error) {
	at := func(name string) string { return path.Join(of.Namespace, of.Secret, name) }
	if key.Mode()&0o002 != 0 {
		return nil, nil, fmt.Errorf("everybody may change %s: take that away (chmod o-w FILE)", at(keyFile))
	}
	chain, err := c.folder.Read(at(certificateFile))
	if err != nil {
		return nil, nil, err
	}
	private, err := c.folder.Read(at(keyFile))
	if err != nil {
		return nil, nil, err
	}
	pair, err := tls.X509KeyPair(chain, private)
	clear(private)
	if err != nil {
		return nil, nil, fmt.Errorf("%s and %s: %w", at(certificateFile), at(keyFile), err)
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		// A session that is resumed is proved by what another handshake showed: none is.
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
	}
	if of.Clients {
		text, err := c.folder.Read(at(clientsFile))
		if err != nil {
			return nil, nil, err
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(text) {
			return nil, nil, fmt.Errorf("%s holds no PEM certificate", at(clientsFile))
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, pair.Leaf, nil
}
