package registry

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"sluice.dev/sluice/internal/format"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
)

// MemoryFormat is the format of a Memory that this build writes.
//
//	1: the first
//	2: a service lists the protocols of its ports
const MemoryFormat = 2

// Memories is what is read of one.
var Memories = format.Kind{Name: "the list of workloads of the previous run", Oldest: 1, Newest: MemoryFormat}

// Memory is what a server leaves to the one after it: hints, by which workloads
// that come back find their names free and their services known. Nothing in it
// makes a workload live, and it holds no secret.
type Memory struct {
	Format   int           `json:"format"`
	Names    []KeptName    `json:"names"`
	Services []PastService `json:"services"`
}

// PastService is a service that workloads spoke of.
type PastService struct {
	Namespace string                     `json:"namespace"`
	Service   string                     `json:"service"`
	Ports     []uint16                   `json:"ports,omitempty"`
	Protocols map[uint16]policy.Protocol `json:"protocols,omitempty"`
	Left      time.Time                  `json:"left,omitzero"` // when its last workload did; zero: one lived
}

// Memory returns what is to be remembered now, sorted.
func (r *Registry) Memory() Memory {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetNames()
	memory := Memory{Format: MemoryFormat}
	services := maps.Clone(r.past)
	for _, name := range r.kept.names {
		memory.Names = append(memory.Names, name.KeptName)
	}
	for _, instance := range slices.Sorted(maps.Keys(r.members)) {
		member := r.members[instance]
		memory.Names = append(memory.Names, member.name())
		if w := member.workload; w.Service != "" {
			key := serviceKey{w.Namespace, w.Service}
			services[key] = services[key].with(w, time.Time{})
		}
	}
	for key, service := range services {
		memory.Services = append(memory.Services, PastService{key.namespace, key.service, service.ports, service.protocols, service.left})
	}
	slices.SortFunc(memory.Names, func(a, b KeptName) int { return cmp.Compare(a.Instance, b.Instance) })
	slices.SortFunc(memory.Services, func(a, b PastService) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service))
	})
	return memory
}

// recall begins with what the server before remembered, but for what makes no
// sense.
func (r *Registry) recall(memory Memory) {
	r.past = make(pastServices)
	r.kept.init()
	for _, service := range memory.Services {
		w, err := wire.Workload{
			Namespace: service.Namespace, Service: service.Service, Ports: service.Ports, Protocols: service.Protocols,
		}.Normalize()
		if err != nil || service.Service == "" {
			continue
		}
		left := service.Left
		if now := r.now(); left.IsZero() || left.After(now) {
			left = now
		}
		r.past.add(w, left)
	}
	for _, name := range memory.Names {
		if _, _, ok := cutInstance(name.Instance); !ok || len(r.kept.names) >= r.limit {
			continue
		}
		if _, twice := r.kept.names[name.Instance]; !twice && !name.Proxy.Ended() {
			r.kept.add(name, r.now().Add(keepName), true)
		}
	}
	if r.kept.awaited == 0 {
		close(r.kept.home)
	}
}
