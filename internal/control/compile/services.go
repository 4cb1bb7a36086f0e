package compile

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
)

// compiledService is one service and what selects the workloads behind it.
type compiledService struct {
	id       string // of the MeshService; "" for one that only workloads speak of
	service  wire.Service
	selector map[string]string // nil: the workloads that name the service
	mixed    []uint16          // ports of which its workloads say different protocols
	known    *Service          // of the census; nil: a MeshService, or workloads alone, speak of it
	named    map[string]uint16 // its ports that have names
}

func compileService(id, namespace, short string, spec *v1alpha1.MeshServiceSpec, domain string) (*compiledService, error) {
	name, err := names.Parse(short + "." + namespace + ".svc." + domain)
	if err != nil {
		return nil, err
	}
	if len(spec.Ports) == 0 {
		return nil, errors.New("spec names no ports")
	}
	selector := maps.Clone(spec.Selector)
	if len(selector) == 0 {
		selector = map[string]string{"app": short}
	}
	out := &compiledService{id: id, selector: selector, service: wire.Service{Name: name, Short: short, Namespace: namespace}}
	for _, port := range spec.Ports {
		compiled, err := compileServicePort(port)
		if err != nil {
			return nil, err
		}
		out.service.Ports = append(out.service.Ports, compiled)
		if port.Name != "" {
			if out.named == nil {
				out.named = make(map[string]uint16)
			}
			out.named[port.Name] = compiled.Port
		}
	}
	return out, nil
}

func compileServicePort(port v1alpha1.ServicePort) (wire.ServicePort, error) {
	if port.Protocol == "" {
		number, err := portNumber(port.Port)
		return wire.ServicePort{Port: number}, err
	}
	compiled, err := compilePort(port.Port, port.Protocol)
	if err == nil {
		err = wire.CheckServiceProtocol(compiled.Protocol)
	}
	return wire.ServicePort{Port: compiled.Port, Protocol: compiled.Protocol}, err
}

// serviceSet is every service of the mesh with the workloads behind it.
type serviceSet struct {
	list      []*compiledService // sorted by full name
	byName    map[names.Name]*compiledService
	endpoints map[names.Name][]wire.Endpoint // sorted by instance
	selecting map[string][]*compiledService  // MeshServices by namespace
	domain    string
}

// joinServices joins the services that MeshServices define with those that
// workloads say they are, or said while they lived; the definition's ports win. A service
// whose workloads left stays in the directory without endpoints: who calls it is
// told that it is down (503), not that it has no name.
func joinServices(defined []*compiledService, in *Input, domain string, report func(object, text string)) *serviceSet {
	set := &serviceSet{
		byName:    make(map[names.Name]*compiledService, len(defined)),
		endpoints: make(map[names.Name][]wire.Endpoint),
		selecting: make(map[string][]*compiledService),
		domain:    domain,
	}
	for _, service := range defined {
		if other, ok := set.byName[service.service.Name]; ok {
			report(service.id, fmt.Sprintf("service %s is defined by %s already", service.service.Name, other.id))
			continue
		}
		set.byName[service.service.Name] = service
		set.selecting[service.service.Namespace] = append(set.selecting[service.service.Namespace], service)
	}
	if in.Services != nil {
		set.addKnown(in.Services, report)
	} else {
		set.addSpokenOf(in.Workloads, in.Past, report)
	}
	for _, service := range set.byName {
		set.list = append(set.list, service)
	}
	slices.SortFunc(set.list, func(a, b *compiledService) int {
		return cmp.Compare(a.service.Name.String(), b.service.Name.String())
	})
	return set
}

// addSpokenOf joins the services of which workloads speak, or spoke, and the workloads
// behind all services.
func (s *serviceSet) addSpokenOf(workloads, past []wire.Workload, report func(object, text string)) {
	workloads = slices.SortedFunc(slices.Values(workloads), func(a, b wire.Workload) int { return cmp.Compare(a.Instance, b.Instance) })
	for _, w := range workloads {
		if w.Service != "" {
			name, err := names.Parse(w.Service + "." + w.Namespace + ".svc." + s.domain)
			if err != nil {
				report(w.Instance, err.Error())
				continue
			}
			s.announce(name, w, report)
		}
		if len(w.Ports) == 0 {
			continue // it calls, and serves nothing
		}
		for _, name := range s.of(w) {
			s.endpoints[name] = append(s.endpoints[name], wire.Endpoint{
				Instance: w.Instance, Proxy: w.Proxy, Labels: w.Labels, Ports: w.Ports, Unready: w.Unready,
			})
		}
	}
	for _, w := range past {
		name, err := names.Parse(w.Service + "." + w.Namespace + ".svc." + s.domain)
		if _, lives := s.byName[name]; err == nil && !lives {
			s.announce(name, w, report)
		}
	}
}

// announce adds the service that a workload says it is, or the workload's ports
// to it. A MeshService is not changed by what workloads say. Where they say different
// protocols of a port, none counts: what a client says does.
func (s *serviceSet) announce(name names.Name, w wire.Workload, report func(object, text string)) {
	service, ok := s.byName[name]
	if !ok {
		service = &compiledService{service: wire.Service{Name: name, Short: w.Service, Namespace: w.Namespace}}
		s.byName[name] = service
	}
	if service.id != "" {
		return
	}
	for _, number := range w.Ports {
		said := wire.ServicePort{Port: number, Protocol: w.Protocols[number]}
		at, ok := slices.BinarySearchFunc(service.service.Ports, said, func(a, b wire.ServicePort) int { return cmp.Compare(a.Port, b.Port) })
		if !ok {
			service.service.Ports = slices.Insert(service.service.Ports, at, said)
			continue
		}
		known := &service.service.Ports[at]
		switch {
		case said.Protocol == policy.ProtocolNone, said.Protocol == known.Protocol, slices.Contains(service.mixed, number):
		case known.Protocol == policy.ProtocolNone:
			known.Protocol = said.Protocol
		default:
			report(w.Instance, fmt.Sprintf("port %d is %s here and %s for another workload of %s: what each client says first decides", number, said.Protocol, known.Protocol, name))
			service.mixed = append(service.mixed, number)
			known.Protocol = policy.ProtocolNone
		}
	}
}

// of returns the services that a workload stands behind: the one that it says it
// is, unless a MeshService of that name selects otherwise, and those whose
// MeshService selects it.
func (s *serviceSet) of(w wire.Workload) []names.Name {
	var out []names.Name
	for _, service := range s.selecting[w.Namespace] {
		if wire.Carries(w.Labels, service.selector) {
			out = append(out, service.service.Name)
		}
	}
	if w.Service == "" {
		return out
	}
	name, err := names.Parse(w.Service + "." + w.Namespace + ".svc." + s.domain)
	if err != nil {
		return out
	}
	if service, ok := s.byName[name]; !ok || service.id == "" {
		out = append(out, name)
	}
	return out
}

// sharedParts makes the parts that every workload gets.
func sharedParts(services *serviceSet, domain string, cache *cache) ([]*wire.Part, error) {
	directory := wire.Directory{Domain: domain, Services: make([]wire.Service, 0, len(services.list))}
	parts := make([]*wire.Part, 0, len(services.list)+1)
	for _, service := range services.list {
		directory.Services = append(directory.Services, service.service)
		endpoints := services.endpoints[service.service.Name]
		if endpoints == nil {
			endpoints = []wire.Endpoint{}
		}
		make := func() (*wire.Part, error) {
			return cache.encode(wire.PartEndpoints+service.service.Name.String(), &wire.Endpoints{Service: service.service.Name, Endpoints: endpoints})
		}
		part, err := cache.endpoints(service.known, make)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	part, err := cache.encode(wire.PartDirectory, &directory)
	if err != nil {
		return nil, err
	}
	return append(parts, part), nil
}
