package registry

import (
	"cmp"
	"slices"

	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/wire"
)

// Moment is who is there at one moment, as a census counts them. The registry is
// one, of the workloads that proxies join; whoever knows of others hands out the
// same.
type Moment struct {
	Number    uint64          // of the moment; larger for a later one that differs
	Workloads []wire.Workload // sorted by instance
	// Past is the services of workloads that left, sorted; one of them may live
	// again. Only Service, Namespace, Ports and Protocols are set.
	Past []wire.Workload
	// Services is what the census knows by itself, as that of a cluster does; nil: the
	// workloads say what services there are.
	Services []*compile.Service
	Changed  <-chan struct{} // closed when this is no longer so
}

// Number returns the number of a Moment that was taken now.
func (r *Registry) Number() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.number
}

// Now returns who lives now.
func (r *Registry) Now() Moment {
	r.mu.Lock()
	defer r.mu.Unlock()
	moment := Moment{Number: r.number, Workloads: make([]wire.Workload, 0, len(r.members)), Past: r.past.list(r.now()), Changed: r.changed}
	for _, member := range r.members {
		moment.Workloads = append(moment.Workloads, member.workload)
	}
	slices.SortFunc(moment.Workloads, func(a, b wire.Workload) int { return cmp.Compare(a.Instance, b.Instance) })
	return moment
}
