package egress

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"sync"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/snapshot"
)

// roots are the certificates that an upstream's must chain to. The id stands for
// them in keys: equal ids mean equal certificates. A nil pool is the machine's.
type roots struct {
	pool *x509.CertPool
	id   string
}

// roots returns what counts under a rule: the rule's own bundle, else the mesh's
// roots and those given to the proxy.
func (w *Way) roots(s *snapshot.Snapshot, rule *policy.Rule) (roots, error) {
	if rule != nil && rule.TLS.CABundle != "" {
		return w.trusted.bundle(rule.TLS.CABundle)
	}
	if given := w.given; given != nil && !s.HasOwnRoots {
		return roots{given, "given"}, nil
	}
	return roots{s.Roots, s.RootsID}, nil
}

// maxBundles bounds the bundles that a workload keeps parsed; past it all are
// forgotten and parsed anew as they are needed.
const maxBundles = 64

// trusted keeps the bundles of rules, which are asked for at every connection,
// parsed. The zero value is ready.
type trusted struct {
	mu      sync.Mutex
	bundles map[string]roots // by their PEM text
}

func (t *trusted) bundle(text string) (roots, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known, ok := t.bundles[text]; ok {
		return known, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(text)) {
		return roots{}, errors.New("the rule's caBundle holds no certificate")
	}
	sum := sha256.Sum256([]byte(text))
	parsed := roots{pool, "bundle " + hex.EncodeToString(sum[:])}
	if t.bundles == nil || len(t.bundles) >= maxBundles {
		t.bundles = make(map[string]roots)
	}
	t.bundles[text] = parsed
	return parsed, nil
}

// tlsConfig is how an upstream is verified where we originate TLS, and what it is shown;
// nil: no certificate.
func (w *Way) tlsConfig(s *snapshot.Snapshot, v *policy.Verdict, shown *clientCertificate) (*tls.Config, error) {
	trusted, err := w.roots(s, v.Rule)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trusted.pool, ServerName: serverName(v)}
	if v.Rule.TLS.MinVersion == policy.TLS13 {
		config.MinVersion = tls.VersionTLS13
	}
	if shown != nil {
		config.Certificates = []tls.Certificate{shown.certificate}
	}
	return config, nil
}

// serverName is what is sent as SNI and verified.
func serverName(v *policy.Verdict) string {
	switch {
	case v.Rule != nil && !v.Rule.TLS.ServerName.IsZero():
		return v.Rule.TLS.ServerName.String()
	case v.Name.IsZero():
		return v.Addr.String()
	}
	return v.Name.String()
}
