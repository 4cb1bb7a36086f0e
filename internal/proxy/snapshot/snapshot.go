// Package snapshot makes what the control plane sent into what a workload's
// connections ask: compiled rules and routes, the directory, endpoints, roots. A
// Holder holds the one that counts and swaps it whole; Follow feeds it from the
// server's stream and Store keeps it over restarts. It never decides about a
// connection and never blocks one: reading it is one atomic load.
package snapshot

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"sluice.dev/sluice/internal/edge"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/dnsserver"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// Snapshot is the whole of what one workload runs. It is immutable; its parts
// are shared with other workloads of the process.
type Snapshot struct {
	Version  string
	Revision int64
	Created  time.Time     // when the server compiled it
	MaxStale time.Duration // how long it counts without the server

	Policy    *policy.Set
	Routes    *route.Table
	Ingress   *edge.Table // of an ingress alone
	Directory *dnsserver.NamespaceView

	Roots       *x509.CertPool // for upstream certificates; nil means the system's
	RootsID     string         // equal for equal Roots
	HasOwnRoots bool           // the mesh names its roots

	Limits    wire.Limits    // of the workload
	Telemetry wire.Telemetry // of the proxy
	Domain    string         // of the mesh's names

	policies []*wire.Policy // what Policy was made of
	services *services
}

// services is the directory and the endpoints, by full name.
type services struct {
	byName    map[names.Name]*wire.Service
	endpoints map[names.Name][]wire.Endpoint
	instances map[string]struct{}
	hosts     map[names.Name]Place // of the endpoints that have names of their own
	addresses addresses
}

// View is from where a snapshot is looked at.
type View struct {
	Namespace string // of the workload
}

// Service returns the service of this full name, nil where there is none.
func (s *Snapshot) Service(full names.Name) *wire.Service { return s.services.byName[full] }

// Endpoints returns the live endpoints of the service of this full name. Nobody
// may change the slice.
func (s *Snapshot) Endpoints(full names.Name) []wire.Endpoint { return s.services.endpoints[full] }

// HasInstance reports whether some service has an endpoint of this instance.
func (s *Snapshot) HasInstance(instance string) bool {
	_, ok := s.services.instances[instance]
	return ok
}

// Build makes a snapshot that shares nothing. It fails on a snapshot that cannot
// be run whole.
func Build(from *wire.Snapshot, view View) (*Snapshot, error) {
	return new(Builder).Build(from, view, nil)
}

// Build makes a snapshot, sharing what was built of equal content before. What base has,
// which may be nil, is changed where that is less than building anew.
func (b *Builder) Build(from *wire.Snapshot, view View, base *Snapshot) (*Snapshot, error) {
	if from.Mesh == nil || from.Routes == nil || from.Directory == nil {
		return nil, errors.New("build snapshot: it is not whole")
	}
	options, err := from.PolicyOptions()
	if err != nil {
		return nil, fmt.Errorf("build snapshot: %w", err)
	}
	if from.Mesh.MaxStale <= 0 {
		return nil, fmt.Errorf("build snapshot: a maxStale of %s", from.Mesh.MaxStale)
	}
	set, err := b.policy(from, options, base)
	if err != nil {
		return nil, fmt.Errorf("build snapshot %s: %w", from.Version, err)
	}
	routes, err := b.routes(from)
	if err != nil {
		return nil, fmt.Errorf("build snapshot %s: %w", from.Version, err)
	}
	entries, err := b.entries(from)
	if err != nil {
		return nil, fmt.Errorf("build snapshot %s: %w", from.Version, err)
	}
	roots, err := b.roots(from.Mesh.TrustedRoots)
	if err != nil {
		return nil, fmt.Errorf("build snapshot %s: %w", from.Version, err)
	}
	built := b.services(from)
	return &Snapshot{
		Version: from.Version, Revision: from.Revision, Created: from.Created, MaxStale: from.Mesh.MaxStale,
		Policy: set, Routes: routes, Ingress: entries, Directory: b.directory(from, built).In(view.Namespace),
		Roots: roots.pool, RootsID: roots.id, HasOwnRoots: from.Mesh.TrustedRoots != "",
		Limits: from.Mesh.Limits, Telemetry: from.Mesh.Telemetry, Domain: from.Directory.Domain,
		policies: from.Policies, services: built,
	}, nil
}

// denying is s with a policy that denies everything for one reason.
func denying(s *Snapshot, reason refusal.Reason) *Snapshot {
	denied := *s
	denied.Policy = s.Policy.Denying(reason)
	return &denied
}

// none is what a workload runs before its first snapshot: it denies everything
// and knows nobody.
func none() *Snapshot {
	set, err := policy.NewSet(nil, policy.Options{Deny: refusal.NoSnapshot})
	if err != nil {
		set = new(policy.Set) // cannot be: no rules, no error; and the zero Set allows nothing
	}
	routes, err := route.NewTable(nil)
	if err != nil {
		routes = new(route.Table)
	}
	return &Snapshot{
		Policy: set, Routes: routes, Ingress: new(edge.Table), Directory: dnsserver.NewServices(nil).In(wire.DefaultNamespace),
		services: newServices(nil, nil),
	}
}

func newServices(directory *wire.Directory, endpoints []*wire.Endpoints) *services {
	s := &services{
		byName:    make(map[names.Name]*wire.Service),
		endpoints: make(map[names.Name][]wire.Endpoint, len(endpoints)),
		instances: make(map[string]struct{}),
	}
	if directory != nil {
		for i := range directory.Services {
			if directory.Services[i].Alias.IsZero() { // which is a host's, and no service
				s.byName[directory.Services[i].Name] = &directory.Services[i]
			}
		}
	}
	for _, of := range endpoints {
		s.endpoints[of.Service] = of.Endpoints
		for i := range of.Endpoints {
			s.instances[of.Endpoints[i].Instance] = struct{}{}
		}
	}
	s.hosts = s.hostsOf(endpoints)
	return s
}
