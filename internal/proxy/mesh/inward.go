package mesh

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/wire"
)

// Caller is the mesh addresses of the workload that calls, which the other side sees.
type Caller struct{ V4, V6 netip.Addr }

// Inward connects to a port inside a workload's sandbox, with the caller's mesh address
// as the source.
type Inward func(ctx context.Context, caller Caller, port uint16) (*net.TCPConn, error)

// Into returns the way into the sandbox of a capture.
func Into(c *capture.Capture) Inward {
	return func(ctx context.Context, caller Caller, port uint16) (*net.TCPConn, error) {
		return capture.DialInward(ctx, c.Inward, caller.V4, caller.V6, port)
	}
}

// dial connects to a port of an endpoint, inside its sandbox.
func (w *Way) dial(ctx context.Context, e *wire.Endpoint, port uint16) (*net.TCPConn, error) {
	in, ok := w.inward(e.Instance)
	if !ok {
		return nil, refusal.New(noEndpoint, fmt.Sprintf("%s is served by proxy %q; calls from one proxy to another are not supported yet", e.Instance, e.Proxy))
	}
	conn, err := in(ctx, w.caller, port)
	if err != nil {
		return nil, &refusal.Error{Reason: refusal.UpstreamConnect, Text: fmt.Sprintf("connect to port %d of %s", port, e.Instance), Err: err}
	}
	return conn, nil
}

// poolKey says what a pool's connections share.
type poolKey struct {
	instance string
	port     uint16
}

// pool returns the pool of connections to a port of an endpoint.
func (w *Way) pool(e *wire.Endpoint, port uint16) (*upstream.Pool, error) {
	pool, _, err := w.pools.Get(poolKey{e.Instance, port}, struct{}{}, func(_, _ struct{}) bool { return true }, func() (upstream.Config, error) {
		return upstream.Config{Allowance: w.kit.Upstream, Dial: func(ctx context.Context) (*net.TCPConn, error) { return w.dial(ctx, e, port) }}, nil
	})
	return pool, err
}
