package registry

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
)

// A service that only workloads speak of is known for a day after its last one
// left. Who calls it meanwhile gets 503, as of any
// service that is down, and not NXDOMAIN: that would look like
// a mistake of the caller, and resolvers and applications remember it. A
// MeshService makes it known for good.
const (
	keepService = 24 * time.Hour
	maxPast     = 1024 // services; past that the one whose last workload left longest ago is forgotten
)

type serviceKey struct{ namespace, service string }

type pastService struct {
	ports     []uint16
	protocols map[uint16]policy.Protocol // of those of ports of which it was said
	left      time.Time                  // of the workload that left last
}

// pastServices is the services of workloads that left. The registry's lock guards
// it.
type pastServices map[serviceKey]pastService

// add notes the service of a workload that leaves at a time.
func (p pastServices) add(w wire.Workload, at time.Time) {
	if w.Service == "" {
		return
	}
	key := serviceKey{w.Namespace, w.Service}
	known, ok := p[key]
	if !ok && len(p) >= maxPast {
		p.dropOldest()
	}
	p[key] = known.with(w, at)
}

// with is the service after w, a workload of it, spoke of it too. What others said of
// a port counts where w serves it and says nothing of it.
func (s pastService) with(w wire.Workload, left time.Time) pastService {
	s.left = left
	if len(w.Ports) == 0 {
		return s // it only called; others served
	}
	protocols := make(map[uint16]policy.Protocol)
	for _, port := range w.Ports {
		if said := cmp.Or(w.Protocols[port], s.protocols[port]); said != policy.ProtocolNone {
			protocols[port] = said
		}
	}
	return pastService{ports: w.Ports, protocols: protocols, left: left}
}

func (p pastServices) dropOldest() {
	keys := slices.Collect(maps.Keys(p))
	delete(p, slices.MinFunc(keys, func(a, b serviceKey) int { return p[a].left.Compare(p[b].left) }))
}

// list returns the services that are known still, sorted, and forgets the others.
func (p pastServices) list(now time.Time) []wire.Workload {
	list := make([]wire.Workload, 0, len(p))
	for key, service := range p {
		if now.Sub(service.left) >= keepService {
			delete(p, key)
			continue
		}
		list = append(list, wire.Workload{Namespace: key.namespace, Service: key.service, Ports: service.ports, Protocols: service.protocols})
	}
	slices.SortFunc(list, func(a, b wire.Workload) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service))
	})
	return list
}
