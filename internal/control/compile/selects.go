package compile

import (
	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/api/networking"
	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/wire"
)

// Selects reports whether an object is about a workload: an egress rule whose
// connections it is about, a RouteRule whose calls it routes, a MeshService which
// serves it, a MeshConfig every one. Of an object that cannot be compiled it is
// about none. It knows of the services that workloads name themselves.
func Selects(object *api.Object, w wire.Workload) bool {
	namespace := object.Metadata.Namespace
	switch spec := object.Spec.(type) {
	case *istio.EgressRuleSpec:
		return holdsIn(namespace, w)
	case *v1alpha1.EgressPolicySpec:
		return holdsIn(namespace, w) && (spec.From == nil || selects(spec.From, w))
	case *istio.RouteRuleSpec:
		rule, err := compileRouteRule(object.ID(), namespace, spec, DefaultDomain)
		if err != nil {
			return false
		}
		return rule.selects(w, alone(w))
	case *istio.DestinationPolicySpec:
		policy, err := compileDestinationPolicy(object.ID(), namespace, spec, DefaultDomain)
		return err == nil && policy.source.selects(w, alone(w))
	case *istio.IngressRuleSpec, *networking.IngressSpec:
		return isIngress(w)
	case *v1alpha1.MeshServiceSpec:
		return w.Namespace == namespace && w.Service == object.Metadata.Name
	case *v1alpha1.MeshConfigSpec:
		return true
	}
	return false
}

// holdsIn reports whether the egress rules of a namespace hold for a workload.
func holdsIn(namespace string, w wire.Workload) bool {
	return namespace == RootNamespace || namespace == w.Namespace
}

// alone is the services that a workload is behind by what it says of itself.
func alone(w wire.Workload) []names.Name {
	name, err := names.Parse(w.Service + "." + w.Namespace + ".svc." + DefaultDomain)
	if err != nil {
		return nil
	}
	return []names.Name{name}
}
