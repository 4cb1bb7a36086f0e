package proxy

import (
	"context"
	"crypto/tls"
	"net"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// egressPool returns the pool of connections to what a verdict allows: plain, or
// with TLS that we originate and verify.
func (w *Workload) egressPool(s *snapshot.Snapshot, v policy.Verdict, chain *policy.Chain) (*upstream.Pool, error) {
	key := poolKey{rule: v.Rule.ID, name: v.Name, address: v.Addr, port: v.Port}
	var config *tls.Config
	if v.Treatment == policy.Originate {
		var err error
		if config, key.roots, err = w.tlsConfig(s, v); err != nil {
			return nil, err
		}
		key.tls, key.serverName = true, v.Rule.TLS.ServerName
	}
	destination := w.target(v)
	return w.pools.get(key, chain, func() (*upstream.Pool, error) {
		return upstream.NewPool(upstream.Config{
			TLS: config,
			Dial: func(ctx context.Context) (*net.TCPConn, error) {
				return w.proxy.dialer.Dial(ctx, destination)
			},
		})
	})
}
