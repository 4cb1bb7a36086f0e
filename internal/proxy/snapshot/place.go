package snapshot

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/wire"
)

// Place is where a connection within the mesh leads: to a service or, where it names an
// instance, to that endpoint of it alone.
type Place struct {
	Service  *wire.Service
	Instance string // "": whose turn it is
	Port     uint16 // of the service
}

// Named returns the place of a full name: of a service, or of one endpoint below it, as the
// Pods of a StatefulSet have one ("db-0.db.shop.svc.cluster.local").
func (s *Snapshot) Named(full names.Name, port uint16) (p Place, ok bool) {
	if service := s.Service(full); service != nil {
		return Place{Service: service, Port: port}, true
	}
	p, ok = s.services.hosts[full]
	p.Port = port
	return p, ok
}

// At returns the place of an address of the cluster: of a service, or of a Pod with a sidecar
// on a port on which a service reaches it.
func (s *Snapshot) At(at netip.AddrPort) (p Place, ok bool) {
	address := at.Addr().Unmap()
	found := s.services.addresses.of(s.services)
	if service := found.services[address]; service != nil {
		return Place{Service: service, Port: at.Port()}, true
	}
	p, ok = found.pods[netip.AddrPortFrom(address, at.Port())]
	return p, ok
}

// Outside returns the address of a service in the cluster where no sidecar is behind it: what
// is called there is outside of the mesh, and the rules on addresses say whether it may be.
func (s *Snapshot) Outside(service *wire.Service, v6 bool) (netip.Addr, bool) {
	endpoints := s.Endpoints(service.Name)
	if len(endpoints) == 0 || len(service.Addresses) == 0 || slices.ContainsFunc(endpoints, hasSidecar) {
		return netip.Addr{}, false
	}
	for _, address := range service.Addresses {
		if address.Is6() == v6 {
			return address, true
		}
	}
	return service.Addresses[0], true
}

func hasSidecar(e wire.Endpoint) bool { return e.Proxy != "" }

// hostsOf is the endpoints that have a name of their own.
func (s *services) hostsOf(endpoints []*wire.Endpoints) map[names.Name]Place {
	var hosts map[names.Name]Place
	for _, of := range endpoints {
		service := s.byName[of.Service]
		if service == nil {
			continue
		}
		for i := range of.Endpoints {
			e := &of.Endpoints[i]
			if e.Hostname == "" {
				continue
			}
			name, err := names.Parse(e.Hostname + "." + of.Service.String())
			if err != nil {
				continue // no question asks for it
			}
			if hosts == nil {
				hosts = make(map[names.Name]Place)
			}
			if _, taken := hosts[name]; !taken && s.byName[name] == nil {
				hosts[name] = Place{Service: service, Instance: e.Instance}
			}
		}
	}
	return hosts
}

// hostNames is the full names of hosts.
func (s *services) hostNames() map[names.Name]struct{} {
	if len(s.hosts) == 0 {
		return nil
	}
	all := make(map[names.Name]struct{}, len(s.hosts))
	for name := range s.hosts {
		all[name] = struct{}{}
	}
	return all
}

// addresses finds places by addresses. It is made when one is first asked for: most workloads
// call names alone.
type addresses struct {
	once     sync.Once
	services map[netip.Addr]*wire.Service // nil where two services claim the address
	pods     map[netip.AddrPort]Place
}

func (a *addresses) of(s *services) *addresses {
	a.once.Do(func() { a.fill(s) })
	return a
}

func (a *addresses) fill(s *services) {
	a.services, a.pods = make(map[netip.Addr]*wire.Service), make(map[netip.AddrPort]Place)
	for name, service := range s.byName {
		for _, address := range service.Addresses {
			if _, taken := a.services[address]; taken {
				a.services[address] = nil
				continue
			}
			a.services[address] = service
		}
		for i := range s.endpoints[name] {
			a.add(service, &s.endpoints[name][i])
		}
	}
}

// add notes where an endpoint is reached. Of two services of one Pod that reach the same port
// the first by name counts.
func (a *addresses) add(service *wire.Service, e *wire.Endpoint) {
	if !hasSidecar(*e) {
		return
	}
	for _, port := range e.Ports {
		target := port
		if at, other := e.Targets[port]; other {
			target = at
		}
		for _, address := range e.Addresses {
			at, fresh := netip.AddrPortFrom(address, target), Place{service, e.Instance, port}
			if known, taken := a.pods[at]; !taken || fresh.before(known) {
				a.pods[at] = fresh
			}
		}
	}
}

func (p Place) before(other Place) bool {
	return cmp.Or(cmp.Compare(p.Service.Name.String(), other.Service.Name.String()), cmp.Compare(p.Instance, other.Instance), cmp.Compare(p.Port, other.Port)) < 0
}
