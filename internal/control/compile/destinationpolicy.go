package compile

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// compiledDestination is one DestinationPolicy and whose calls it is about.
type compiledDestination struct {
	policy route.DestinationPolicy
	source routeSource
	hash   wire.Hash // of the policy's JSON
}

// byKey orders policies: of several for one destination the smallest key holds, as in Istio 0.5.
func byKey(a, b *compiledDestination) int { return cmp.Compare(a.policy.ID, b.policy.ID) }

func compileDestinationPolicy(id, namespace string, spec *istio.DestinationPolicySpec, domain string) (*compiledDestination, error) {
	if spec.Destination == nil {
		return nil, errors.New("destination is required in the destination policy")
	}
	service, err := serviceName(spec.Destination, namespace, domain)
	if err != nil {
		return nil, fmt.Errorf("destination: %w", err)
	}
	out := &compiledDestination{policy: route.DestinationPolicy{ID: id, Service: service, Labels: maps.Clone(spec.Destination.Labels)}}
	if spec.Source != nil {
		if out.source, err = compileSource(spec.Source, namespace, domain); err != nil {
			return nil, fmt.Errorf("source: %w", err)
		}
	}
	if out.policy.Balance, err = compileBalance(spec.LoadBalancing); err != nil {
		return nil, err
	}
	if spec.CircuitBreaker != nil {
		return nil, errors.New("spec.circuitBreaker is not supported yet")
	}
	if err := out.policy.Check(); err != nil { // a proxy would refuse the whole table
		return nil, err
	}
	b, err := json.Marshal(out.policy)
	if err != nil {
		return nil, fmt.Errorf("encode policy: %w", err)
	}
	out.hash = wire.HashOf(b)
	return out, nil
}

func compileBalance(b *istio.LoadBalancing) (route.Balance, error) {
	if b == nil {
		return route.Balance{}, nil
	}
	if b.Custom != nil {
		if b.Name != "" || b.Custom.RingHash == nil {
			return route.Balance{}, errors.New("loadBalancing takes exactly one of name and custom.ringHash")
		}
		hash := b.Custom.RingHash
		return route.Balance{By: route.RingHash, Header: hash.Header, MaxLoad: cmp.Or(int(hash.MaxLoad), route.DefaultMaxLoad)}, nil
	}
	switch b.Name {
	case istio.RoundRobin:
		return route.Balance{}, nil
	case istio.Random:
		return route.Balance{By: route.Random}, nil
	case istio.LeastConn:
		return route.Balance{By: route.LeastLoaded}, nil
	}
	return route.Balance{}, fmt.Errorf("load balancing %q is not known", b.Name)
}

// destinationsOf returns the policies that hold for the calls of a workload: one for each
// destination.
func (o *Output) destinationsOf(w wire.Workload) (found []*compiledDestination) {
	if len(o.destinations) == 0 {
		return nil
	}
	type key struct {
		service names.Name
		labels  string
	}
	taken := make(map[key]bool)
	callers := o.services.of(w)
	for _, candidate := range o.destinations {
		k := key{candidate.policy.Service, route.SetOf(candidate.policy.Labels)}
		if taken[k] || !candidate.source.selects(w, callers) {
			continue
		}
		taken[k] = true
		found = append(found, candidate)
	}
	return found
}
