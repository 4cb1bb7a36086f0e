package dnsserver

import (
	"strings"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/wire"
)

// Directory says which mesh services there are, as one workload may spell them.
// It is asked at every question, so it may change between two.
type Directory interface {
	// Service returns the full name of the service that n means: "details",
	// "details.default", "details.default.svc" or the full name itself; or of the endpoint of
	// one that has a name of its own, before it: "db-0.db".
	Service(n names.Name) (full names.Name, ok bool)
	// Alias returns the host for which n, spelled as a service, is another name; zero where
	// it is none.
	Alias(n names.Name) names.Name
	// Local reports whether n lies under a search suffix of the workload or
	// under the cluster domain, where only what is named exists.
	Local(n names.Name) bool
	// Search returns the search list of the workload's resolv.conf.
	Search() []names.Name
}

// Services is every mesh service of a snapshot. It is immutable and shared by
// the workloads of all namespaces.
type Services struct {
	domain names.Name
	full   map[wire.ServiceKey]names.Name
	alias  map[wire.ServiceKey]names.Name // the hosts for which services are other names
	hosts  map[names.Name]struct{}        // full names of endpoints
}

// NewServices indexes a snapshot's directory. A nil directory, or one whose
// domain is not a valid name, holds no service.
func NewServices(d *wire.Directory) *Services {
	s := &Services{full: make(map[wire.ServiceKey]names.Name), alias: make(map[wire.ServiceKey]names.Name)}
	if d == nil {
		return s
	}
	s.domain, _ = names.Parse(d.Domain)
	for _, service := range d.Services {
		key := wire.ServiceKey{Short: service.Short, Namespace: service.Namespace}
		if service.Alias.IsZero() {
			s.full[key] = service.Name
		} else {
			s.alias[key] = service.Alias
		}
	}
	return s
}

// WithHosts returns the services with endpoints that have names of their own: full names,
// below those of their services.
func (s *Services) WithHosts(hosts map[names.Name]struct{}) *Services {
	if len(hosts) == 0 {
		return s
	}
	with := *s
	with.hosts = hosts
	return &with
}

// In returns the services as a workload of a namespace spells them.
func (s *Services) In(namespace string) *NamespaceView {
	v := &NamespaceView{services: s, namespace: namespace}
	if s.domain.IsZero() {
		return v
	}
	for _, suffix := range []string{namespace + ".svc.", "svc.", ""} {
		if n, err := names.Parse(suffix + s.domain.String()); err == nil {
			v.search = append(v.search, n)
		}
	}
	return v
}

// NamespaceView is a Directory: the services as seen from one namespace.
type NamespaceView struct {
	services  *Services
	namespace string
	search    []names.Name
}

// Service implements Directory.
func (v *NamespaceView) Service(n names.Name) (names.Name, bool) {
	key, ok := wire.SpelledService(n, v.services.domain, v.namespace)
	if full, found := v.services.full[key]; ok && found {
		return full, true
	}
	return v.host(n)
}

// host returns the full name of the endpoint that n means.
func (v *NamespaceView) host(n names.Name) (names.Name, bool) {
	first, rest, dotted := strings.Cut(n.String(), ".")
	if len(v.services.hosts) == 0 || !dotted {
		return names.Name{}, false
	}
	below, err := names.Parse(rest)
	if err != nil {
		return names.Name{}, false
	}
	key, ok := wire.SpelledService(below, v.services.domain, v.namespace)
	if !ok {
		return names.Name{}, false
	}
	full, err := names.Parse(first + "." + v.services.full[key].String())
	if err != nil {
		return names.Name{}, false
	}
	_, ok = v.services.hosts[full]
	return full, ok
}

// Alias implements Directory.
func (v *NamespaceView) Alias(n names.Name) names.Name {
	if len(v.services.alias) == 0 {
		return names.Name{}
	}
	key, ok := wire.SpelledService(n, v.services.domain, v.namespace)
	if !ok {
		return names.Name{}
	}
	return v.services.alias[key]
}

// Local implements Directory. Every search suffix ends in the cluster domain.
func (v *NamespaceView) Local(n names.Name) bool {
	return !v.services.domain.IsZero() && n.Within(v.services.domain)
}

// Search implements Directory: the list of a Pod in Kubernetes.
func (v *NamespaceView) Search() []names.Name { return v.search }

// SearchText is Search as a resolv.conf has it.
func (v *NamespaceView) SearchText() []string {
	list := make([]string, len(v.search))
	for i, n := range v.search {
		list[i] = n.String()
	}
	return list
}
