package api

import (
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
			v.fail("spec.destination", "%s is outside the mesh: a policy for a host outside is not supported yet", host)
		}
	}
	if spec.Source != nil {
		v.inMesh("spec.source", spec.Source)
	}
	if spec.LoadBalancing == nil && spec.CircuitBreaker == nil {
		v.fail("spec", "write loadBalancing: a policy without it changes nothing")
	}
	if spec.LoadBalancing != nil {
		v.loadBalancing(spec.LoadBalancing)
	}
	if spec.CircuitBreaker != nil {
		v.fail("spec.circuitBreaker", "is not supported yet")
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
