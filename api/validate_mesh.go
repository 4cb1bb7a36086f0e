package api

import (
	"fmt"

	"sluice.dev/sluice/api/v1alpha1"
)

func (v *validation) meshService(spec *v1alpha1.MeshServiceSpec) {
	switch {
	case len(spec.Ports) == 0:
		v.fail("spec.ports", "must list at least one port")
	case len(spec.Ports) > maxPorts:
		v.fail("spec.ports", "more than %d ports", maxPorts)
		return
	}
	numbers, portNames := map[int32]bool{}, map[string]bool{}
	for i, port := range spec.Ports {
		at := fmt.Sprintf("spec.ports[%d]", i)
		if v.portNumber(at+".port", port.Port) && numbers[port.Port] {
			v.fail(at+".port", "duplicate port: %d", port.Port)
		}
		numbers[port.Port] = true
		if port.Name != "" {
			if !isLabel(port.Name) {
				v.fail(at+".name", "%q is not a DNS label", port.Name)
			}
			if portNames[port.Name] {
				v.fail(at+".name", "duplicate port name: %s", port.Name)
			}
			portNames[port.Name] = true
		}
		switch port.Protocol {
		case "", v1alpha1.ProtocolHTTP, v1alpha1.ProtocolHTTP2, v1alpha1.ProtocolGRPC, v1alpha1.ProtocolTCP:
		case v1alpha1.ProtocolHTTPS, v1alpha1.ProtocolTLS, v1alpha1.ProtocolMongo, "udp", "quic", "redis":
			v.fail(at+".protocol", "protocol %s is not supported yet for a service", port.Protocol)
		default:
			v.fail(at+".protocol", "protocol %q is not one of http, http2, grpc, tcp", port.Protocol)
		}
	}
	v.labels("spec.selector", spec.Selector)
}

func (v *validation) meshConfig(spec *v1alpha1.MeshConfigSpec) {
	if spec.OutboundDefault != "" {
		v.outboundDefault("spec.outboundDefault", spec.OutboundDefault)
	}
	if len(spec.Namespaces) > maxNamespaces {
		v.fail("spec.namespaces", "more than %d namespaces", maxNamespaces)
	} else {
		for _, namespace := range sortedKeys(spec.Namespaces) {
			at := "spec.namespaces[" + namespace + "]"
			if !isLabel(namespace) {
				v.fail(at, "%q is not a namespace's name: it is not a DNS label", namespace)
			}
			v.outboundDefault(at+".outboundDefault", spec.Namespaces[namespace].OutboundDefault)
		}
	}
	if spec.TrustedRoots != "" {
		v.failIf("spec.trustedRoots", certificates(spec.TrustedRoots))
	}
	_, err := spec.StaleAfter()
	v.failIf("spec.maxStale", err)
	if limits := spec.Limits; limits != nil {
		v.connections("spec.limits.maxConnections", limits.MaxConnections)
		v.connections("spec.limits.maxUpstreamConnections", limits.MaxUpstreamConnections)
		_, err := limits.QueueFor()
		v.failIf("spec.limits.queueTimeout", err)
	}
	if spec.Telemetry != nil {
		v.telemetry(spec.Telemetry)
	}
}

func (v *validation) telemetry(t *v1alpha1.Telemetry) {
	if t.Tracing != nil {
		_, err := t.Tracing.Share()
		v.failIf("spec.telemetry.tracing.sampling", err)
	}
	if m := t.Metrics; m != nil {
		if m.Compatibility != "" && m.Compatibility != v1alpha1.CompatibilityIstio {
			v.fail("spec.telemetry.metrics.compatibility", "compatibility %q is not %s", m.Compatibility, v1alpha1.CompatibilityIstio)
		}
		if n := m.MaxSeries; n != 0 && (n < v1alpha1.LeastMaxSeries || n > v1alpha1.MostMaxSeries) {
			v.fail("spec.telemetry.metrics.maxSeries", "%d is not a number from %d to %d", n, v1alpha1.LeastMaxSeries, v1alpha1.MostMaxSeries)
		}
	}
}

// connections checks a bound on connections; 0 is none.
func (v *validation) connections(path string, n int32) {
	if n < 0 || n > v1alpha1.MostConnections {
		v.fail(path, "%d is not a number from 1 to %d", n, v1alpha1.MostConnections)
	}
}

// maxNamespaces bounds the namespaces that a MeshConfig names.
const maxNamespaces = 1000

func (v *validation) outboundDefault(path, value string) {
	switch value {
	case v1alpha1.DefaultDeny, v1alpha1.DefaultAudit:
	case v1alpha1.DefaultAllow:
		v.fail(path, "outboundDefault Allow is not supported yet: Audit lets pass and records what no rule allows")
	case "":
		v.fail(path, "is missing: Deny or Audit")
	default:
		v.fail(path, "outboundDefault %q is not one of Deny, Audit", value)
	}
}
