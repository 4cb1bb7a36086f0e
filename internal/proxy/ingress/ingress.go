// Package ingress is the way into the mesh from outside: a listener, the paths that it
// has routes for, and what a service learns of the client. The proxy calls it for each
// listener; what it lets in goes on by the way of mesh. It never trusts a header of the
// client's about where it comes from, and never leads outside the mesh.
package ingress

import (
	"context"
	"errors"
	"fmt"
	"net"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/follow"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/mesh"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// Config is one ingress. All must be set.
type Config struct {
	Kit    *carry.Kit
	Mesh   *mesh.Way // of the workload that the ingress is
	Routes []Route   // in the order in which they are tried
}

// Way is the way in by one listener's routes.
type Way struct {
	kit    *carry.Kit
	mesh   *mesh.Way
	routes []Route
}

// New returns a Way without connections. It fails where the routes have more than
// MaxPaths paths.
func New(c Config) (*Way, error) {
	if c.Kit == nil || c.Mesh == nil {
		return nil, errors.New("ingress: Kit and Mesh must be set")
	}
	if err := checkPaths(c.Routes); err != nil {
		return nil, err
	}
	return &Way{kit: c.Kit, mesh: c.Mesh, routes: c.Routes}, nil
}

// Serve carries one connection from outside to its end.
func (w *Way) Serve(ctx context.Context, conn *gate.Conn) {
	about := carry.About{Direction: record.Ingress, Dialled: "ingress"}
	if local, ok := conn.Down().LocalAddr().(*net.TCPAddr); ok {
		about.Port = local.AddrPort().Port()
	}
	w.kit.HTTP.Serve(ctx, conn.Down(), nil, w.requestsOf(conn, about, forwarded(conn.Down())), conn)
}

// requestsOf directs requests of a client of which a service learns what appended says.
func (w *Way) requestsOf(conn *gate.Conn, about carry.About, appended []exchange.Field) *requests {
	r := &requests{way: w}
	r.Init(w.mesh, conn, about)
	r.Edge = true
	r.Remove, r.Append = forwarding, appended
	r.Denied = func(_ *snapshot.Snapshot, _ mesh.Target, v policy.Verdict) exchange.Direction { return r.deny(v) }
	return r
}

// Branch implements exchange.Multiplexed.
func (r *requests) Branch() (exchange.Branch, bool) {
	conn, ctx, ok := r.Conn().Branch()
	if !ok {
		return exchange.Branch{}, false
	}
	return exchange.Branch{Context: ctx, Director: r.way.requestsOf(conn, r.About(), r.Append), Leave: conn.Leave}, true
}

// requests directs the requests of one connection from outside.
type requests struct {
	mesh.Requests
	way *Way
}

// Direct implements exchange.Director: it finds the service of a request's path, and
// routes to it.
func (r *requests) Direct(x *exchange.Request) exchange.Direction {
	s := r.Conn().Snapshot()
	r.Open(x, s)
	x.PriorKnowledge = x.PriorKnowledge && x.GRPC // a client from outside knows the edge alone
	if reason := s.Policy.DeniesAll(); reason != "" {
		return r.deny(policy.Verdict{Reason: reason})
	}
	d := r.way.decide(s, x.Path)
	if d.why != nil {
		return r.Fail(d.why)
	}
	return r.Route(s, x, d.to)
}

// deny answers whoever asks while there are no rules: it is no workload, so nothing is
// explained, and it may ask again.
func (r *requests) deny(v policy.Verdict) exchange.Direction {
	r.Decide(&v)
	direction := r.Reply(v.Reason, "")
	direction.Reply.Status = 503
	return direction
}

// decision is what becomes of a path.
type decision struct {
	to  mesh.Target
	why *refusal.Error // why it leads nowhere
}

// decide finds the service of a path: of the first route that matches.
func (w *Way) decide(s *snapshot.Snapshot, path string) decision {
	for i := range w.routes {
		r := &w.routes[i]
		if !r.matches(path) {
			continue
		}
		full, ok := s.Directory.Service(r.Service)
		if !ok || s.Service(full) == nil {
			return decision{why: refusal.New(refusal.NoHealthyUpstream, fmt.Sprintf("The service %s has no workload yet.", r.Service))}
		}
		return decision{to: mesh.Target{Service: full, Port: r.Port}}
	}
	return decision{why: refusal.New(refusal.NoRoute, "")}
}

// forwarded is what a service learns of a client.
func forwarded(down *net.TCPConn) []exchange.Field {
	from, ok := down.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return nil
	}
	return []exchange.Field{
		{Name: "x-forwarded-for", Value: from.AddrPort().Addr().Unmap().String()},
		{Name: "x-forwarded-proto", Value: "http"},
	}
}

// forwarding is the fields that tell of a client: those of the client's own making are
// removed, for the edge trusts none; what services copy as the mesh's word, too.
// Nor may it say how long the mesh is to wait.
var forwarding = append([]string{"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "x-forwarded-client-cert", "baggage", "x-ot-span-context"}, follow.OverrideFields...)
