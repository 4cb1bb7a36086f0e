package mesh

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/circuit"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// MaxSets bounds the sets of endpoints whose turns one way keeps; past it those
// without a policy begin anew.
const MaxSets = 1024

// setKey says which endpoints take turns with one another: those of a service that
// carry the labels of a route, on one port; or one alone.
type setKey struct {
	service  names.Name
	port     uint16
	labels   string // route.Destination.Set
	instance string // "": any
}

// balance is whose turn it is, round robin, in each set of endpoints: a call to one
// service or version moves the turn of no other. Turns outlive snapshots. Picking from a
// set that is known takes no lock. The zero balance is ready.
type balance struct {
	mu   sync.Mutex // held to change sets
	sets atomic.Pointer[map[setKey]*set]
}

// set is one set of endpoints that take turns.
type set struct {
	turn    atomic.Uint64
	fitting atomic.Pointer[fitting]

	key     setKey
	mu      sync.Mutex // held to change what follows, of a set with a policy
	members map[poolKey]*member
	breaker *circuit.Breaker // once the policy has limits
}

// fitting is the endpoints of a set, picked out of all those of its service.
type fitting struct {
	all      []wire.Endpoint // the snapshot's; never nil
	policy   *route.DestinationPolicy
	fit      []*wire.Endpoint
	governed *governed // by the policy; nil where there is none
}

// none is the fitting of a set without endpoints.
var none fitting

// of reports whether f was picked out of these endpoints, under this policy. Snapshots share
// the list of a service for as long as it does not change, and policies with the route rules.
func (f *fitting) of(all []wire.Endpoint, policy *route.DestinationPolicy) bool {
	return f != nil && len(f.all) == len(all) && unsafe.SliceData(f.all) == unsafe.SliceData(all) && f.policy == policy
}

// turn returns the endpoints of all that fit, and whose turn it is: that of the one at
// turn modulo their number. all is the endpoints of the key's service in a stable order,
// to is what its set carries and by what policy. Nobody may change what it returns.
func (w *Way) turn(key setKey, all []wire.Endpoint, to *route.Destination) (f *fitting, turn uint64) {
	f, s := w.fitting(key, all, to)
	if len(f.fit) == 0 {
		return &none, 0
	}
	return f, s.turn.Add(1) - 1
}

// fitting is turn without a turn; the set is nil where there are no endpoints.
func (w *Way) fitting(key setKey, all []wire.Endpoint, to *route.Destination) (f *fitting, s *set) {
	b := &w.balance
	if len(all) == 0 {
		return &none, nil
	}
	if sets := b.sets.Load(); sets != nil {
		s = (*sets)[key]
	}
	if s != nil {
		f = s.fitting.Load()
	}
	if !f.of(all, to.Policy) {
		f = &fitting{all: all, policy: to.Policy}
		for i := range all {
			if (key.instance == "" || all[i].Instance == key.instance) && fits(&all[i], to.Labels, key.port) {
				f.fit = append(f.fit, &all[i])
			}
		}
		if s == nil && len(f.fit) > 0 { // a port that a client makes up takes no place
			s = b.add(key)
		}
		if s != nil {
			if f.policy != nil {
				f.governed = w.govern(s, f, key.port)
			}
			s.fitting.Store(f)
		}
	}
	return f, s
}

// add returns the set of a key, a new one where there is none.
func (b *balance) add(key setKey) *set {
	b.mu.Lock()
	defer b.mu.Unlock()
	var sets map[setKey]*set
	if known := b.sets.Load(); known != nil {
		if s := (*known)[key]; s != nil {
			return s
		}
		if len(*known) < MaxSets {
			sets = maps.Clone(*known)
		}
	}
	if sets == nil {
		sets = make(map[setKey]*set)
		if known := b.sets.Load(); known != nil {
			for k, s := range *known { // what policies bound is no turn: it does not begin anew
				if f := s.fitting.Load(); f != nil && f.policy != nil && len(sets) < MaxSets/2 {
					sets[k] = s
				}
			}
		}
	}
	s := &set{key: key}
	sets[key] = s
	b.sets.Store(&sets)
	return s
}

// forget drops the sets of services that a new snapshot does not have.
func (b *balance) forget(s *snapshot.Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	known := b.sets.Load()
	if known == nil {
		return
	}
	sets := maps.Clone(*known)
	maps.DeleteFunc(sets, func(key setKey, _ *set) bool { return s.Service(key.service) == nil })
	if len(sets) < len(*known) {
		b.sets.Store(&sets)
	}
}

// fits reports whether an endpoint carries the labels and serves the port.
func fits(e *wire.Endpoint, labels map[string]string, port uint16) bool {
	return wire.Carries(e.Labels, labels) && slices.Contains(e.Ports, port)
}
