package proxy

import (
	"context"
	"net"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// egressPool returns the pool of connections to what a verdict allows: plain, or
// with TLS that we originate and verify.
func (w *Workload) egressPool(s *snapshot.Snapshot, v policy.Verdict, chain *policy.Chain) (*upstream.Pool, error) {
	key, err := w.egressKey(s, v)
	if err != nil {
		return nil, err
	}
	made := &pool{chain: keep(chain), target: w.target(v)}
	return w.pools.get(key, made, func() (*upstream.Pool, error) {
		config := upstream.Config{Dial: func(ctx context.Context) (*net.TCPConn, error) {
			return w.dialEgress(ctx, made)
		}}
		if key.tls {
			if config.TLS, err = w.tlsConfig(s, v); err != nil {
				return nil, err
			}
		}
		return upstream.NewPool(config)
	})
}

// egressKey says which pool serves a verdict.
func (w *Workload) egressKey(s *snapshot.Snapshot, v policy.Verdict) (poolKey, error) {
	key := poolKey{rule: v.Rule.ID, name: v.Name, address: v.Addr, port: v.Port}
	if v.Treatment != policy.Originate {
		return key, nil
	}
	roots, err := w.roots(s, v.Rule)
	if err != nil {
		return poolKey{}, err
	}
	key.tls, key.serverName, key.roots = true, v.Rule.TLS.ServerName, roots.id
	return key, nil
}

// dialEgress dials for a pool, which remembers whither.
func (w *Workload) dialEgress(ctx context.Context, of *pool) (*net.TCPConn, error) {
	dialer := w.proxy.dialer
	candidates, err := dialer.Resolve(ctx, of.target)
	if err != nil {
		return nil, err
	}
	conn, address, err := dialer.DialAny(ctx, of.target, candidates)
	if err == nil {
		of.reached.add(address.Addr())
	}
	return conn, err
}
