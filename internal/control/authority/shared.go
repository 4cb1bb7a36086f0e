package authority

import (
	"errors"
	"fmt"
	"time"
)

// Vault keeps the certificate and the key of an authority that several servers share.
type Vault interface {
	// Read returns what is kept, nil where that is nothing yet.
	Read() ([]byte, error)
	// Create keeps it where nothing is kept yet, and reports false where something is.
	Create(content []byte) (bool, error)
}

// OpenShared reads the authority of a vault, and makes it where there is none; of servers
// that do so at once one wins. It is never replaced by itself: whoever knows it knows it for
// as long as it is good.
func OpenShared(vault Vault, hosts []string, now func() time.Time) (*Authority, error) {
	content, err := vault.Read()
	if err == nil && content == nil {
		if content, err = makeShared(vault, now()); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the certificate authority of the servers: %w", err)
	}
	a := &Authority{hosts: hosts, now: now}
	if a.ca, a.caKey, err = parseCA(content); err != nil {
		return nil, fmt.Errorf("the certificate authority of the servers: %w", err)
	}
	if !now().Before(a.ca.NotAfter) {
		return nil, fmt.Errorf("the certificate authority of the servers ended at %s: remove it, and the server makes another", a.ca.NotAfter.UTC().Format(time.RFC3339))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a, a.renew()
}

// makeShared makes what the vault keeps, or returns what another server made meanwhile.
func makeShared(vault Vault, now time.Time) ([]byte, error) {
	ca, key, err := newCA(now)
	if err != nil {
		return nil, err
	}
	content, err := encodeCA(ca, key)
	if err != nil {
		return nil, err
	}
	created, err := vault.Create(content)
	if err != nil || created {
		return content, err
	}
	if content, err = vault.Read(); err == nil && content == nil {
		err = errors.New("it was made and removed at once")
	}
	return content, err
}
