package proxy

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/netip"
	"sync"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// MaxPools bounds the pools of one workload; past it the one that was used
// longest ago is closed.
const MaxPools = 1024

// poolKey says what a pool's connections share. Nothing is shared across names,
// rules or roots, and a pool belongs to one workload.
type poolKey struct {
	rule       string     // that allows it; "" inside the mesh
	name       names.Name // that was decided on
	address    netip.Addr // where no name was
	instance   string     // of the endpoint, inside the mesh
	port       uint16
	tls        bool
	serverName names.Name
	roots      string
}

// pool is one pool with the chain that was allowed to use it.
type pool struct {
	*upstream.Pool
	chain policy.Chain // of egress; zero inside the mesh
	used  uint64       // by the pools' count of uses
}

// pools is the upstream pools of one workload.
type pools struct {
	mu     sync.Mutex
	byKey  map[poolKey]*pool
	uses   uint64
	closed bool
}

func (p *pools) init() { p.byKey = make(map[poolKey]*pool) }

// get returns the pool of a key, made by open where there is none.
func (p *pools) get(key poolKey, chain *policy.Chain, open func() (*upstream.Pool, error)) (*upstream.Pool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, upstream.ErrWithdrawn
	}
	p.uses++
	if found := p.byKey[key]; found != nil {
		found.used = p.uses
		return found.Pool, nil
	}
	if len(p.byKey) >= MaxPools {
		p.closeOldest()
	}
	opened, err := open()
	if err != nil {
		return nil, err
	}
	added := &pool{Pool: opened, used: p.uses}
	if chain != nil {
		added.chain = keep(chain)
	}
	p.byKey[key] = added
	return opened, nil
}

func (p *pools) closeOldest() {
	var oldest poolKey
	first := true
	for key, candidate := range p.byKey {
		if first || candidate.used < p.byKey[oldest].used {
			oldest, first = key, false
		}
	}
	p.byKey[oldest].Close(false)
	delete(p.byKey, oldest)
}

// recheck closes the pools whose use the snapshot forbids, with what runs on them,
// and those whose upstreams were verified by roots that do not count any more.
func (p *pools) recheck(w *Workload, s *snapshot.Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, candidate := range p.byKey {
		if key.instance != "" {
			if !s.HasInstance(key.instance) {
				candidate.Close(false)
				delete(p.byKey, key)
			}
			continue
		}
		verdict := s.Policy.Decide(&candidate.chain)
		if verdict.Action != policy.Allow {
			candidate.Close(true)
			delete(p.byKey, key)
			continue
		}
		if _, id, err := w.roots(s, verdict.Rule); key.tls && (err != nil || id != key.roots) {
			candidate.Close(false)
			delete(p.byKey, key)
		}
	}
}

func (p *pools) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for key, candidate := range p.byKey {
		candidate.Close(true)
		delete(p.byKey, key)
	}
}

// roots returns the certificates that an upstream's must chain to under a rule:
// the rule's own bundle, else the mesh's roots and those given to the proxy. The
// id stands for them in keys.
func (w *Workload) roots(s *snapshot.Snapshot, rule *policy.Rule) (*x509.CertPool, string, error) {
	if rule != nil && rule.TLS.CABundle != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(rule.TLS.CABundle)) {
			return nil, "", errors.New("the rule's caBundle holds no certificate")
		}
		sum := sha256.Sum256([]byte(rule.TLS.CABundle))
		return pool, hex.EncodeToString(sum[:8]), nil
	}
	if given := w.proxy.config.UpstreamRoots; given != nil && !s.HasOwnRoots {
		return given, "given", nil
	}
	return s.Roots, s.RootsID, nil
}

// tlsConfig is how an upstream is verified where we originate TLS.
func (w *Workload) tlsConfig(s *snapshot.Snapshot, v policy.Verdict) (*tls.Config, string, error) {
	roots, id, err := w.roots(s, v.Rule)
	if err != nil {
		return nil, "", err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: serverName(v)}, id, nil
}

// serverName is what is sent as SNI and verified.
func serverName(v policy.Verdict) string {
	switch {
	case v.Rule != nil && !v.Rule.TLS.ServerName.IsZero():
		return v.Rule.TLS.ServerName.String()
	case v.Name.IsZero():
		return v.Addr.String()
	}
	return v.Name.String()
}
