package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

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

// ofEachFamily is how many addresses an endpoint has at most.
const ofEachFamily = 2

// connectTimeout bounds a connect to an address of the cluster.
const connectTimeout = 10 * time.Second

// dial connects to a port of an endpoint: inside its sandbox where that is ours, else at the
// address of its Pod, whose own sidecar lets it in.
func (w *Way) dial(ctx context.Context, e *wire.Endpoint, port uint16) (*net.TCPConn, error) {
	if in, ok := w.inward(e.Instance); ok {
		conn, err := in(ctx, w.caller, port)
		if err != nil {
			return nil, &refusal.Error{Reason: refusal.UpstreamConnect, Text: fmt.Sprintf("connect to port %d of %s", port, e.Instance), Err: err}
		}
		return conn, nil
	}
	switch {
	case e.Proxy == "":
		// Whoever may write where a service is would otherwise say where others may go.
		return nil, refusal.New(noEndpoint, fmt.Sprintf("%s is not a Pod with a sidecar; calls to it are not supported yet", e.Instance))
	case len(e.Addresses) == 0:
		return nil, refusal.New(noEndpoint, fmt.Sprintf("%s is served by proxy %q and has no address of its own; calls from one proxy to another are not supported yet", e.Instance, e.Proxy))
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var dialer net.Dialer
	var failed error
	for _, address := range e.Addresses[:min(len(e.Addresses), ofEachFamily)] {
		conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(address, target(e, port)).String())
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, &refusal.Error{Reason: refusal.UpstreamConnect, Text: fmt.Sprintf("connect to port %d of %s", port, e.Instance), Err: failed}
}

// target is the port of an endpoint's addresses on which it serves a port of its service.
func target(e *wire.Endpoint, port uint16) uint16 {
	if at, other := e.Targets[port]; other {
		return at
	}
	return port
}

// poolKey says what a pool's connections share. An instance of the same name may be another
// Pod later, at other addresses or without a sidecar.
type poolKey struct {
	instance string
	port     uint16 // of the service
	proxied  bool
	versions upstream.Versions
	at       [ofEachFamily]netip.AddrPort
	of       *member // whose limits the connections are under; nil: none
}

// keyOf is the key of the pool to a port of an endpoint.
func keyOf(e *wire.Endpoint, port uint16, versions upstream.Versions) poolKey {
	key := poolKey{instance: e.Instance, port: port, proxied: e.Proxy != "", versions: versions}
	for i := range min(len(e.Addresses), len(key.at)) {
		key.at[i] = netip.AddrPortFrom(e.Addresses[i], target(e, port))
	}
	return key
}

// pool returns the pool of connections to a port of an endpoint, under the limits of a member,
// which may be nil. A connection serves so many requests, or any number.
func (w *Way) pool(e *wire.Endpoint, port uint16, versions upstream.Versions, of *member, perConn int) (*upstream.Pool, error) {
	key := keyOf(e, port, versions)
	key.of = of
	pool, _, err := w.pools.Get(key, perConn, func(a, b int) bool { return a == b }, func() (upstream.Config, error) {
		c := upstream.Config{
			Allowance: w.kit.Upstream, Versions: versions, MaxExchanges: perConn,
			Dial: func(ctx context.Context) (*net.TCPConn, error) { return w.dial(ctx, e, port) },
		}
		if of != nil {
			c.Circuit = of.set.breaker
		}
		return c, nil
	})
	return pool, err
}
