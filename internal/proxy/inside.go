package proxy

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/httpproxy"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// inside carries a connection to a mesh service: the address that was dialled
// decides, and Host passes unchanged. Calls inside the mesh are allowed for as
// long as there are rules at all.
func (c *connection) inside(ctx context.Context) {
	if !c.httpService() {
		c.chain.Sniffed = policy.Opaque
		c.carryInside(ctx, nil, nil)
		return
	}
	buffer := c.workload.proxy.buffers.NewBuffer()
	defer buffer.Release()
	seen, prefix, err := c.sniff(ctx, buffer, sniff.Limits{Silence: c.silence()})
	if err != nil || seen.Silent && seen.Ended {
		return
	}
	if seen.Kind == policy.HTTP {
		c.workload.http.Serve(ctx, c.down, prefix, c)
		return
	}
	c.carryInside(ctx, prefix, buffer.Release)
}

// httpService reports whether the port of the service that was dialled speaks HTTP.
func (c *connection) httpService() bool {
	for _, port := range c.service.Ports {
		if port.Port == c.chain.Port {
			return port.Protocol == policy.ProtocolHTTP
		}
	}
	return false
}

// carryInside relays bytes to an endpoint of the service.
func (c *connection) carryInside(ctx context.Context, prefix []byte, release func()) {
	f := c.account(policy.Verdict{Action: policy.Allow})
	defer c.workload.close(f)
	f.Treatment = policy.Mesh
	if reason := c.snapshot.Policy.DeniesAll(); reason != "" {
		f.Verdict, f.Reason = record.Denied, reason
		c.hangUp(reason)
		return
	}
	defer c.noteWithdrawal(f)
	c.hold(grant{service: c.service.Name}, c.snapshot)
	chosen, id, err := c.endpoint(c.chain.Port, route.Request{})
	f.Rule = id
	if err == nil {
		var up *net.TCPConn
		if up, err = c.workload.dialEndpoint(ctx, chosen, c.chain.Port); err == nil {
			f.Upstream = chosen.Instance
			c.relay(ctx, up, prefix, release, f)
			return
		}
	}
	f.Verdict, f.Reason, f.Detail = record.Failed, refusal.Of(err).Reason, cut(err.Error())
	reset(c.down)
}

// directInside routes one request to an endpoint of the service.
func (c *connection) directInside(x *httpproxy.Exchange, port uint16) httpproxy.Direction {
	f := &c.requests.account
	f.Treatment = policy.Mesh
	if reason := c.snapshot.Policy.DeniesAll(); reason != "" {
		f.Verdict, f.Reason = record.Denied, reason
		return c.refuse(policy.Verdict{Reason: reason, Name: c.service.Name, Port: port})
	}
	if g := c.grant.Load(); g == nil || g.service != c.service.Name {
		c.hold(grant{service: c.service.Name}, c.snapshot)
	}
	chosen, id, err := c.endpoint(port, route.Request{
		Method: x.Method(), Path: x.Target(), Authority: x.Host(), Fields: c.requests.fields(x),
	})
	f.Rule = id
	if err != nil {
		f.Verdict, f.Reason, f.Detail = record.Failed, refusal.Of(err).Reason, err.Error()
		return c.reply(503, string(refusal.Of(err).Reason), err.Error())
	}
	pool, err := c.workload.endpointPool(chosen, port)
	if err != nil {
		f.Verdict, f.Reason, f.Detail = record.Failed, "internal", err.Error()
		return c.reply(500, "internal", err.Error())
	}
	f.Upstream = chosen.Instance
	direction := httpproxy.Direction{
		Upstream: pool, ID: uint64(f.ID), AllowUpgrade: true, Explain: true,
		DropHeader: c.forwarded.drop, AppendHeader: c.forwarded.lines,
	}
	if x.Host() == "" { // HTTP/1.0
		direction.SetHost = net.JoinHostPort(c.service.Name.String(), strconv.Itoa(int(port)))
	}
	return direction
}

// noEndpoint says that no healthy endpoint fits.
func noEndpoint(text string) error { return refusal.New(refusal.NoHealthyUpstream, text) }

// endpoint picks where a request to the dialled service goes: the route rules
// choose labels, and the endpoints that carry them take turns.
func (c *connection) endpoint(port uint16, r route.Request) (wire.Endpoint, string, error) {
	service := c.service.Name
	plan := c.snapshot.Routes.Plan(service, r)
	chosen, id := plan.Draw(random()), plan.Rule
	service = chosen.Service
	all := c.snapshot.Endpoints(service)
	n := 0
	for i := range all {
		if fits(&all[i], chosen.Labels, port) {
			n++
		}
	}
	if n == 0 {
		return wire.Endpoint{}, id, noEndpoint(fmt.Sprintf("no healthy upstream: no endpoint of %s%s serves port %d", service, labelsText(chosen.Labels), port))
	}
	turn := int(c.workload.next.Add(1)-1) % n
	for i := range all {
		if fits(&all[i], chosen.Labels, port) {
			if turn == 0 {
				return all[i], id, nil
			}
			turn--
		}
	}
	return wire.Endpoint{}, id, noEndpoint("no healthy upstream") // cannot be: the list is immutable
}

func fits(e *wire.Endpoint, labels map[string]string, port uint16) bool {
	for key, value := range labels {
		if e.Labels[key] != value {
			return false
		}
	}
	return slices.Contains(e.Ports, port)
}

func labelsText(labels map[string]string) string {
	if len(labels) == 0 {
		return ""
	}
	return fmt.Sprintf(" with labels %v", labels)
}

// endpointPool returns the pool of one endpoint's port.
func (w *Workload) endpointPool(e wire.Endpoint, port uint16) (*upstream.Pool, error) {
	return w.pools.get(poolKey{instance: e.Instance, port: port}, new(pool), func() (*upstream.Pool, error) {
		return upstream.NewPool(upstream.Config{Dial: func(ctx context.Context) (*net.TCPConn, error) {
			return w.dialEndpoint(ctx, e, port)
		}})
	})
}

// inward connects to a port inside a workload's sandbox, with the mesh address of
// the workload that calls as the source.
type inward func(ctx context.Context, from *Workload, port uint16) (*net.TCPConn, error)

// dialEndpoint connects to a port of another workload of this proxy, inside its
// sandbox.
func (w *Workload) dialEndpoint(ctx context.Context, e wire.Endpoint, port uint16) (*net.TCPConn, error) {
	peer := w.proxy.local(e.Instance)
	if peer == nil || peer.inward == nil {
		return nil, noEndpoint(fmt.Sprintf("%s is served by proxy %q; the mesh port between proxies is not built yet", e.Instance, e.Proxy))
	}
	return peer.inward(ctx, w, port)
}

// close puts a finished account into the ring.
func (w *Workload) close(f *record.Record) {
	f.Duration = w.proxy.config.Now().Sub(f.Start)
	w.proxy.config.Flows.Closed(f)
}
