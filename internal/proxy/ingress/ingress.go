// Package ingress is the way into the mesh from outside: a listener, the hosts and paths that
// it has rules for, and what a service learns of the client. The proxy calls it for each
// listener; what it lets in goes on by the way of mesh. It never trusts a header of the
// client's about where it comes from, and never leads outside the mesh.
package ingress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"unsafe"

	"sluice.dev/sluice/internal/edge"
	"sluice.dev/sluice/internal/names"
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
	Routes []Route   // in the order in which they are tried, before the rules of the snapshot
	// Certificates are what clients are shown; nil: there are none.
	Certificates *Certificates
	TLSPort      uint16 // on which TLS is taken; 0: on none
}

// Way is the way in by one listener's routes.
type Way struct {
	kit          *carry.Kit
	mesh         *mesh.Way
	routes       []Route
	certificates *Certificates
	tlsPort      uint16
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
	return &Way{kit: c.Kit, mesh: c.Mesh, routes: c.Routes, certificates: c.Certificates, tlsPort: c.TLSPort}, nil
}

// Serve carries one connection from outside to its end.
func (w *Way) Serve(ctx context.Context, conn *gate.Conn) {
	about := aboutOf(conn)
	w.kit.HTTP.Serve(ctx, conn.Down(), nil, w.requestsOf(conn, about, edge.Listener{Port: about.Port}, nil, forwarded(conn.Down(), "http")), conn)
}

// aboutOf is what is known of a connection from outside.
func aboutOf(conn *gate.Conn) carry.About {
	about := carry.About{Direction: record.Ingress, Dialled: "ingress"}
	if local, ok := conn.Down().LocalAddr().(*net.TCPAddr); ok {
		about.Port = local.AddrPort().Port()
	}
	return about
}

// requestsOf directs requests of a client of which a service learns what appended says, and
// which was shown a certificate; nil: it was not.
func (w *Way) requestsOf(conn *gate.Conn, about carry.About, at edge.Listener, of *shown, appended []exchange.Field) *requests {
	r := &requests{way: w, at: at}
	if of != nil {
		r.shown = &shown{certificate: of.certificate, loaded: of.loaded} // requests side by side ask each their own
	}
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
	return exchange.Branch{Context: ctx, Director: r.way.requestsOf(conn, r.About(), r.at, r.shown, r.Append), Leave: conn.Leave}, true
}

// requests directs the requests of one connection from outside.
type requests struct {
	mesh.Requests
	way     *Way
	at      edge.Listener
	shown   *shown // by TLS; nil: it comes without
	host    names.LastHost
	entered entered
}

// Direct implements exchange.Director: it finds the rule of a request's host and path, and
// routes to its service.
func (r *requests) Direct(x *exchange.Request) exchange.Direction {
	s := r.Conn().Snapshot()
	r.Open(x, s)
	x.PriorKnowledge = x.PriorKnowledge && x.GRPC // a client from outside knows the edge alone
	if reason := s.Policy.DeniesAll(); reason != "" {
		return r.deny(policy.Verdict{Reason: reason})
	}
	host, why := r.hostOf(x)
	if why != nil {
		return r.Fail(why)
	}
	if r.shown != nil {
		if !r.shown.allows(s, host) || !r.way.trusts(r.shown) {
			return r.Fail(refusal.New(refusal.Misdirected, ""))
		}
		x.HTTPS = true
	}
	d := r.way.decide(s, r.at, host.Name, x.Path)
	if d.rule != nil {
		r.Enter(d.rule.ID)
		redirects := d.rule.Redirect && !r.at.TLS
		if redirects && host.IsZero() {
			return r.Fail(refusal.New(refusal.NoHost, "The rule of the ingress sends its clients to https, and the request has no Host that it could be sent to."))
		}
		if !redirects && !r.proved(d.rule) {
			return r.Fail(refusal.New(refusal.NoClientProof, ""))
		}
	}
	if d.why != nil {
		return r.Fail(d.why)
	}
	r.hold(s, d.rule)
	if d.rule != nil && d.rule.Redirect && !r.at.TLS {
		return r.redirect(x, host)
	}
	r.respell(x, host)
	return r.Route(s, x, d.to)
}

// hostOf reads the host that a request is for; the zero Host where an HTTP/1.0 request has
// none.
func (r *requests) hostOf(x *exchange.Request) (names.Host, *refusal.Error) {
	if x.Host == "" {
		return names.Host{}, nil
	}
	host, err := r.host.Parse(unsafe.Slice(unsafe.StringData(x.Host), len(x.Host))) // which is not kept
	if err != nil {
		return names.Host{}, &refusal.Error{Reason: refusal.BadHost, Err: err}
	}
	return host, nil
}

// respell has route rules and the service see the host as it was decided about: in lower case,
// without a dot at its end.
func (r *requests) respell(x *exchange.Request, host names.Host) {
	if rest, same := strings.CutPrefix(x.Host, host.Name.String()); host.Name.IsZero() || same && (rest == "" || rest[0] == ':') {
		r.Respelled = ""
		return
	}
	r.Respelled = host.String()
	x.Host = r.Respelled
}

// hold has the connection live for as long as the rule does that led the request in.
func (r *requests) hold(s *snapshot.Snapshot, rule *edge.Rule) {
	r.entered.rule.Store(rule)
	r.Beside = nil
	if rule != nil {
		r.Beside = &r.entered
	}
	if r.Conn().Snapshot() != s {
		r.HoldAnew() // the newer one has not been asked about this rule
	}
}

// entered is the grant of what a rule of an ingress led in.
type entered struct{ rule atomic.Pointer[edge.Rule] }

// Recheck implements gate.Grant.
func (g *entered) Recheck(s *snapshot.Snapshot) gate.Objection {
	if rule := g.rule.Load(); rule != nil && !s.Ingress.Has(rule) {
		return gate.Objection{Reason: refusal.NoRoute}
	}
	return gate.Objection{}
}

// deny answers whoever asks while there are no rules: it is no workload, so nothing is
// explained, and it may ask again.
func (r *requests) deny(v policy.Verdict) exchange.Direction {
	r.Decide(&v)
	direction := r.Reply(v.Reason, "")
	direction.Reply.Status = 503
	return direction
}

// decision is what becomes of a request.
type decision struct {
	to   mesh.Target
	rule *edge.Rule     // by which; nil: by a Route, or none
	why  *refusal.Error // why it leads nowhere
}

// decide finds the service of a request: of the first route that matches its path, else of the
// rule of its host and path.
func (w *Way) decide(s *snapshot.Snapshot, at edge.Listener, host names.Name, path string) decision {
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
	found := s.Ingress.Find(at, host, path)
	switch r := found.Rule; {
	case found.Ambiguous:
		return decision{why: refusal.New(refusal.NoRoute, "The path can be read in more than one way (//, . or .. between slashes, an encoded slash, \";\"), and rules of this ingress look at paths.")}
	case r == nil:
		return decision{why: refusal.New(refusal.NoRoute, "")}
	case s.Service(r.Service) == nil:
		return decision{rule: r, why: refusal.New(refusal.NoHealthyUpstream, fmt.Sprintf("The service %s has no workload yet.", r.Service))}
	default:
		return decision{rule: r, to: mesh.Target{Service: r.Service, Port: r.To}}
	}
}

// forwarded is what a service learns of a client.
func forwarded(down *net.TCPConn, scheme string) []exchange.Field {
	from, ok := down.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return nil
	}
	return []exchange.Field{
		{Name: "x-forwarded-for", Value: from.AddrPort().Addr().Unmap().String()},
		{Name: "x-forwarded-proto", Value: scheme},
	}
}

// forwarding is the fields that tell of a client: those of the client's own making are
// removed, for the edge trusts none; what services copy as the mesh's word, too.
// Nor may it say how long the mesh is to wait.
// And frameworks build addresses from the rest, or route by them.
var forwarding = append([]string{
	"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "x-forwarded-client-cert", "baggage", "x-ot-span-context",
	"x-forwarded-port", "x-forwarded-ssl", "x-forwarded-prefix", "x-forwarded-server", "x-original-url", "x-rewrite-url",
}, follow.OverrideFields...)
