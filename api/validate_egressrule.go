package api

import (
	"fmt"
	"strings"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/internal/names"
)

// egressRule validates an EgressRule in the words of Istio 0.5.
func (v *validation) egressRule(spec *istio.EgressRuleSpec) {
	const at = "spec.destination"
	if d := spec.Destination; d == nil {
		v.fail(at, "destination of egress rule must have destination field")
	} else {
		if d.Name != "" {
			v.fail(at+".name", "destination of egress rule must not have name field")
		}
		if d.Namespace != "" {
			v.fail(at+".namespace", "destination of egress rule must not have namespace field")
		}
		if d.Domain != "" {
			v.fail(at+".domain", "destination of egress rule must not have domain field")
		}
		if len(d.Labels) > 0 {
			v.fail(at+".labels", "destination of egress rule must not have labels field")
		}
		v.failIf(at+".service", egressService(d.Service))
	}
	if len(spec.Ports) == 0 {
		v.fail("spec.ports", "egress rule must have a ports list")
	}
	v.egressRulePorts(spec)
	if spec.UseEgressProxy {
		v.fail("spec.useEgressProxy", "directing traffic through egress proxy is not implemented yet")
	}
}

func (v *validation) egressRulePorts(spec *istio.EgressRuleSpec) {
	if len(spec.Ports) > maxPorts {
		v.fail("spec.ports", "more than %d ports", maxPorts)
		return
	}
	service := ""
	if spec.Destination != nil {
		service = spec.Destination.Service
	}
	seen := map[int32]bool{}
	for i, port := range spec.Ports {
		at := fmt.Sprintf("spec.ports[%d]", i)
		if v.portNumber(at+".port", port.Port) && seen[port.Port] {
			v.fail(at+".port", "duplicate port: %d", port.Port)
		}
		seen[port.Port] = true
		switch strings.ToLower(port.Protocol) {
		case "tcp", "mongo":
		case "http", "https", "http2", "grpc":
			if istio.IsCIDR(service) {
				v.fail(at+".protocol", "Only the following protocols can be defined for CIDR destination service notation: TCP,Mongo. "+
					"This rule - port: %d protocol: %s destination.service: %s", port.Port, port.Protocol, service)
			}
		default:
			v.fail(at+".protocol", "egress rule support is available only for the following protocols: HTTP,HTTP2,GRPC,HTTPS,TCP,Mongo")
		}
	}
}

// egressService validates destination.service of an EgressRule: a name, a
// wildcard, an IPv4 address or an IPv4 CIDR.
func egressService(service string) error {
	if istio.IsCIDR(service) {
		_, err := istio.ParseSubnet(service)
		return err
	}
	_, err := names.ParseIstioPattern(service)
	return err
}
