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
	policy    route.DestinationPolicy
	namespace string
	source    routeSource
	hash      wire.Hash // of the policy's JSON
}

// byKey orders policies: of several for one destination the smallest key holds, as in Istio 0.5.
func byKey(a, b *compiledDestination) int { return cmp.Compare(a.policy.ID, b.policy.ID) }

func compileDestinationPolicy(id, namespace string, spec *istio.DestinationPolicySpec, domain string) (*compiledDestination, error) {
	if spec.Destination == nil {
		return nil, errors.New("destination is required in the destination policy")
	}
	to, err := compileDestination(spec.Destination, namespace, domain)
	if err != nil {
		return nil, fmt.Errorf("destination: %w", err)
	}
	out := &compiledDestination{namespace: namespace, policy: route.DestinationPolicy{ID: id, Service: to.service, Hosts: to.hosts, Labels: maps.Clone(spec.Destination.Labels)}}
	if spec.Source != nil {
		if out.source, err = compileSource(spec.Source, namespace, domain); err != nil {
			return nil, fmt.Errorf("source: %w", err)
		}
	}
	if to.service.IsZero() && spec.LoadBalancing != nil {
		return nil, fmt.Errorf("%s is outside the mesh, where no endpoint is picked: leave loadBalancing out", to.hosts)
	}
	if out.policy.Balance, err = compileBalance(spec.LoadBalancing); err != nil {
		return nil, err
	}
	if spec.CircuitBreaker != nil {
		if spec.CircuitBreaker.SimpleCb == nil {
			return nil, errors.New("circuitBreaker takes simpleCb")
		}
		if err := compileBreaker(&out.policy, spec.CircuitBreaker.SimpleCb); err != nil {
			return nil, err
		}
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

// compileBreaker reads what may be under way. What is left out, or 0, is what it was in Istio
// 0.5.
func compileBreaker(out *route.DestinationPolicy, cb *istio.SimpleCircuitBreaker) error {
	if cb.SleepWindow != "" || cb.HTTPConsecutiveErrors != 0 || cb.HTTPDetectionInterval != "" || cb.HTTPMaxEjectionPercent != 0 {
		return errors.New("the ejection of instances is not supported yet: leave out sleepWindow, httpConsecutiveErrors, httpDetectionInterval and httpMaxEjectionPercent")
	}
	out.Limits = &route.Limits{
		Connections:   cmp.Or(int(cb.MaxConnections), route.DefaultUnderWay),
		Pending:       cmp.Or(int(cb.HTTPMaxPendingRequests), route.DefaultUnderWay),
		Requests:      cmp.Or(int(cb.HTTPMaxRequests), route.DefaultUnderWay),
		Retries:       cmp.Or(int(cb.HTTPMaxRetries), route.DefaultRetries),
		PerConnection: int(cb.HTTPMaxRequestsPerConnection),
	}
	return nil
}

// destinationsOf returns the policies that hold for the calls of a workload: one for each
// destination.
func (o *Output) destinationsOf(w wire.Workload) (found []*compiledDestination) {
	if len(o.destinations) == 0 {
		return nil
	}
	type key struct {
		service names.Name
		hosts   names.Pattern
		labels  string
	}
	taken := make(map[key]bool)
	callers := o.services.of(w)
	for _, candidate := range o.destinations {
		k := key{candidate.policy.Service, candidate.policy.Hosts, route.SetOf(candidate.policy.Labels)}
		if taken[k] || !candidate.selects(w, callers) {
			continue
		}
		taken[k] = true
		found = append(found, candidate)
	}
	return found
}

// selects reports whether a policy holds for the calls of a workload that is behind callers; one
// about hosts does as a RouteRule about them.
func (d *compiledDestination) selects(w wire.Workload, callers []names.Name) bool {
	return (d.policy.Hosts.IsZero() || holdsIn(d.namespace, w)) && d.source.selects(w, callers)
}
