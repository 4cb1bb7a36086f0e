package compile

import (
	"fmt"

	"sluice.dev/sluice/internal/wire"
)

// Service is a service that a census knows by itself, as that of a cluster does, with who
// is behind it. It never changes: what changes is another Service. So its part of the
// snapshots is made once for each.
type Service struct {
	wire.Service
	Selector  map[string]string // of the workloads that are behind it; nil: no workload is
	Endpoints []wire.Endpoint   // sorted by instance
	Problem   string            // why it has no name in the mesh; "": it has one
}

// ID names a service in problems.
func (s *Service) ID() string { return "service/" + s.Namespace + "/" + s.Short }

// known joins the services of a census to the set. A MeshService has no effect beside
// them: two sources would disagree about who is behind a name.
func (s *serviceSet) addKnown(known []*Service, report func(object, text string)) {
	for _, service := range s.byName {
		report(service.id, fmt.Sprintf("has no effect on a cluster, whose Services say who is behind %s: create a Service", service.service.Name))
	}
	clear(s.byName)
	clear(s.selecting)
	for _, service := range known {
		if service.Problem != "" {
			report(service.ID(), service.Problem)
			continue
		}
		if other, twice := s.byName[service.Name]; twice {
			report(service.ID(), fmt.Sprintf("service %s is %s already", service.Name, other.known.ID()))
			continue
		}
		compiled := &compiledService{known: service, service: service.Service, selector: service.Selector}
		s.byName[service.Name] = compiled
		if len(service.Selector) > 0 {
			s.selecting[service.Namespace] = append(s.selecting[service.Namespace], compiled)
		}
		s.endpoints[service.Name] = service.Endpoints
	}
}
