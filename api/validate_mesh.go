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
			if !dnsLabel.MatchString(port.Name) {
				v.fail(at+".name", "%q is not a DNS label", port.Name)
			}
			if portNames[port.Name] {
				v.fail(at+".name", "duplicate port name: %s", port.Name)
			}
			portNames[port.Name] = true
		}
		switch port.ProtocolOrDefault() {
		case v1alpha1.ProtocolHTTP, v1alpha1.ProtocolTCP:
		case v1alpha1.ProtocolHTTPS, v1alpha1.ProtocolTLS, v1alpha1.ProtocolMongo, "http2", "grpc", "udp", "quic", "redis":
			v.fail(at+".protocol", "protocol %s is not supported yet for a service", port.Protocol)
		default:
			v.fail(at+".protocol", "protocol %q is not one of http, tcp", port.Protocol)
		}
	}
	v.labels("spec.selector", spec.Selector)
}

func (v *validation) meshConfig(spec *v1alpha1.MeshConfigSpec) {
	switch spec.OutboundDefault {
	case "", v1alpha1.DefaultDeny:
	case v1alpha1.DefaultAudit, v1alpha1.DefaultAllow:
		v.fail("spec.outboundDefault", "outboundDefault %s is not supported yet", spec.OutboundDefault)
	default:
		v.fail("spec.outboundDefault", "outboundDefault %q is not Deny", spec.OutboundDefault)
	}
	if spec.TrustedRoots != "" {
		v.failIf("spec.trustedRoots", certificates(spec.TrustedRoots))
	}
	_, err := spec.StaleAfter()
	v.failIf("spec.maxStale", err)
}
