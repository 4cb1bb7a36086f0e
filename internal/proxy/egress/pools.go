package egress

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/circuit"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/pools"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
)

// poolKey says what a pool's connections share, and the sessions that they resume.
// Nothing is shared across names, rules, roots or client certificates, and a pool belongs
// to one workload.
type poolKey struct {
	rule       string     // that lets it pass
	name       names.Name // that was decided on
	address    netip.Addr // where no name was
	asked      uint16     // the port, by the workload: the rule may withdraw it alone
	port       uint16     // that is dialled
	tls        bool
	serverName names.Name
	roots      string
	minVersion policy.TLSVersion
	shown      certificateID
	versions   upstream.Versions
	circuit    *circuit.Breaker // that its connections are counted by; nil: none
}

// pool is what a pool was made for, and where it led.
type pool struct {
	chain   policy.Chain
	spoken  upstream.Versions
	target  resolve.Target
	behind  string // the proxy that it goes through; "" for none
	reached reached
	circuit *circuit.Breaker // the key's
	perConn int              // requests that one connection serves; 0: any number
}

// leads reports whether one of its connections may lead where consent refuses. Where the
// proxy resolves the name, any may that is bound to some addresses.
func (p *pool) leads(consent policy.Consent) bool {
	if p.behind != "" && !p.target.Name.IsZero() {
		return consent.Ranges() != nil
	}
	return p.reached.leads(consent)
}

// retired reports whether nothing is counted any more as the pool's would be.
func (p *pool) retired() bool { return p.circuit != nil && p.circuit.Retired() }

// maxReached bounds the addresses that a pool remembers.
const maxReached = 64

// reached is the addresses that a pool's connections were dialled to.
type reached struct {
	mu   sync.Mutex
	all  map[netip.Addr]struct{}
	more bool // than are remembered
}

func (r *reached) add(a netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = make(map[netip.Addr]struct{})
	}
	if len(r.all) < maxReached {
		r.all[a] = struct{}{}
	} else if _, known := r.all[a]; !known {
		r.more = true
	}
}

// leads reports whether an address is among them, or may be, that consent refuses.
func (r *reached) leads(consent policy.Consent) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for a := range r.all {
		if consent.Judge(a) != "" {
			return true
		}
	}
	return r.more
}

// pool returns the pool of connections to what a decision lets pass: plain, or with TLS
// that we originate and verify.
func (w *Way) pool(d *Decision, chain *policy.Chain, spoken upstream.Versions) (*upstream.Pool, *pool, error) {
	v := &d.Verdict
	key, perConn, shown, err := w.key(d.Snapshot, v, spoken)
	if err != nil {
		return nil, nil, err
	}
	to, _ := w.behind(v)
	made := &pool{chain: keep(chain), spoken: spoken, target: w.target(v), behind: to.behind, circuit: key.circuit, perConn: perConn}
	return w.pools.Get(key, made, sameTarget, func() (upstream.Config, error) {
		config := upstream.Config{Allowance: w.kit.Upstream, Versions: spoken, Behind: made.behind, MaxExchanges: perConn, Dial: func(ctx context.Context) (*net.TCPConn, error) { return w.dialPool(ctx, made) }}
		if key.circuit != nil {
			config.Circuit = key.circuit
		}
		if key.tls {
			var err error
			if config.TLS, err = w.tlsConfig(d.Snapshot, v, shown); err != nil {
				return upstream.Config{}, err
			}
		}
		return config, nil
	})
}

// key says which pool serves a verdict, after how many requests one of its connections ends, and
// the client certificate that they show: nil where the rule names none.
func (w *Way) key(s *snapshot.Snapshot, v *policy.Verdict, spoken upstream.Versions) (key poolKey, perConn int, shown *clientCertificate, err error) {
	key = poolKey{rule: v.Rule.ID, name: v.Name, address: v.Addr, asked: v.Port, port: v.DialPort(), versions: spoken}
	if key.circuit, perConn, err = w.circuitOf(s, v); err != nil {
		return poolKey{}, 0, nil, err
	}
	if v.Treatment != policy.Originate {
		return key, perConn, nil, nil
	}
	roots, err := w.roots(s, v.Rule)
	if err != nil {
		return poolKey{}, 0, nil, err
	}
	key.tls, key.serverName, key.roots, key.minVersion = true, v.Rule.TLS.ServerName, roots.id, v.Rule.TLS.MinVersion
	if names := v.Rule.TLS.ClientCertificate; names != (policy.ClientCertificate{}) {
		if shown, err = w.shown.load(names); err != nil {
			return poolKey{}, 0, nil, err
		}
		key.shown = shown.id
	}
	return key, perConn, shown, nil
}

// dialPool dials for a pool, which remembers where to.
func (w *Way) dialPool(ctx context.Context, of *pool) (*net.TCPConn, error) {
	if of.behind != "" {
		conn, err := w.openBehind(ctx, of.target)
		if err == nil && of.target.Name.IsZero() {
			of.reached.add(of.target.Addr)
		}
		return conn, err
	}
	conn, address, err := w.dialer.Dial(ctx, of.target)
	if err == nil {
		of.reached.add(address.Addr())
	}
	return conn, err
}

// sameTarget reports whether two pools of one key may dial alike: a rule that lists
// other private answers under its old name leads elsewhere.
func sameTarget(a, b *pool) bool {
	return a.perConn == b.perConn && a.target.Limit == b.target.Limit && a.target.Consent.Equal(b.target.Consent)
}

// fateOf says what becomes of a pool under a new snapshot. Each connection of the
// workload has a grant of its own; here counts what the pool was made for.
func (w *Way) fateOf(key poolKey, of *pool, s *snapshot.Snapshot) pools.Fate {
	v := gate.Decide(s, &of.chain)
	switch {
	case v.Reason == refusal.MethodOrPath, v.Reason == refusal.UpgradeForbidden, v.Reason == refusal.SchemeMismatch:
		return pools.End // the host is allowed still, with other requests
	case !v.Passes():
		return pools.Abort
	case of.leads(v.Consent):
		return pools.Abort
	}
	if v.Protocol.SpeaksHTTP2() && of.spoken != upstream.HTTP2 {
		return pools.End // the rule says now what its server speaks
	}
	if now, perConn, _, err := w.key(s, &v, of.spoken); err != nil || now != key || !sameTarget(of, &pool{target: w.target(&v), perConn: perConn}) {
		return pools.End
	}
	return pools.Keep
}
