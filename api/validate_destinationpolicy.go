package api

import (
	"math"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/internal/route"
)

// destinationPolicy validates a DestinationPolicy in the words of Istio 0.5, where it had
// some.
func (v *validation) destinationPolicy(spec *istio.DestinationPolicySpec) {
	if spec.Destination == nil {
		v.fail("spec.destination", "destination is required in the destination policy")
	} else {
		if host := v.routed("spec.destination", spec.Destination); host != "" {
			v.destinationOutside(host, spec)
		}
	}
	if spec.Source != nil {
		v.inMesh("spec.source", spec.Source)
	}
	if spec.LoadBalancing == nil && spec.CircuitBreaker == nil {
		v.fail("spec", "write loadBalancing, circuitBreaker or both: a policy without them changes nothing")
	}
	if spec.LoadBalancing != nil {
		v.loadBalancing(spec.LoadBalancing)
	}
	if spec.CircuitBreaker != nil {
		v.circuitBreaker(spec.CircuitBreaker)
	}
}

// destinationOutside validates a policy about hosts outside the mesh.
func (v *validation) destinationOutside(host string, spec *istio.DestinationPolicySpec) {
	if len(spec.Destination.Labels) > 0 {
		v.fail("spec.destination.labels", outsideLabels, host)
	}
	if spec.LoadBalancing != nil {
		v.fail("spec.loadBalancing", "%s is outside the mesh, where no instance is picked: leave it out", host)
	}
}

// circuitBreaker validates what may be under way.
func (v *validation) circuitBreaker(cb *istio.CircuitBreaker) {
	const at = "spec.circuitBreaker.simpleCb"
	s := cb.SimpleCb
	if s == nil {
		v.fail("spec.circuitBreaker", "write simpleCb")
		return
	}
	for _, bound := range []struct {
		field string
		value int32
		most  int
	}{
		{"maxConnections", s.MaxConnections, route.MaxUnderWay},
		{"httpMaxPendingRequests", s.HTTPMaxPendingRequests, route.MaxPending},
		{"httpMaxRequests", s.HTTPMaxRequests, route.MaxUnderWay},
		{"httpMaxRequestsPerConnection", s.HTTPMaxRequestsPerConnection, math.MaxInt32},
		{"httpMaxRetries", s.HTTPMaxRetries, route.MaxUnderWay},
	} {
		switch {
		case bound.value < 0:
			v.fail(at+"."+bound.field, "circuitBreaker %s must be in range [0..]", bound.field)
		case int(bound.value) > bound.most:
			v.fail(at+"."+bound.field, "more than %d", bound.most)
		}
	}
	for field, set := range map[string]bool{
		"sleepWindow": s.SleepWindow != "", "httpConsecutiveErrors": s.HTTPConsecutiveErrors != 0,
		"httpDetectionInterval": s.HTTPDetectionInterval != "", "httpMaxEjectionPercent": s.HTTPMaxEjectionPercent != 0,
	} {
		if set {
			v.fail(at+"."+field, "the ejection of instances is not supported yet")
		}
	}
}

func (v *validation) loadBalancing(b *istio.LoadBalancing) {
	const at = "spec.loadBalancing"
	switch {
	case b.Name == "" && b.Custom == nil:
		v.fail(at, "must set load balancing if specified")
	case b.Name != "" && b.Custom != nil:
		v.fail(at, "write either name or custom, not both")
	}
	switch b.Name {
	case "", istio.RoundRobin, istio.LeastConn, istio.Random:
	default:
		v.fail(at+".name", "%q is not one of %s, %s, %s", b.Name, istio.RoundRobin, istio.LeastConn, istio.Random)
	}
	if b.Custom == nil {
		return
	}
	hash := b.Custom.RingHash
	if hash == nil {
		v.fail(at+".custom", "write ringHash, with the header that counts")
		return
	}
	if hash.Header == "" {
		v.fail(at+".custom.ringHash.header", "must be non-empty")
	} else {
		v.failIf(at+".custom.ringHash.header", headerName(hash.Header))
	}
	if hash.MaxLoad != 0 && (hash.MaxLoad < route.MinMaxLoad || hash.MaxLoad > route.MaxMaxLoad) {
		v.fail(at+".custom.ringHash.maxLoad", "must be %d to %d", route.MinMaxLoad, route.MaxMaxLoad)
	}
}
