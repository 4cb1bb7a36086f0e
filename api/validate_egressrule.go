package api

import (
	"fmt"
	"net/netip"
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
		switch protocol := strings.ToLower(port.Protocol); protocol {
		case "tcp", "mongo":
		case "http", "https", "http2", "grpc":
			if isCIDR(service) {
				v.fail(at+".protocol", "Only the following protocols can be defined for CIDR destination service notation: TCP,Mongo. "+
					"This rule - port: %d protocol: %s destination.service: %s", port.Port, port.Protocol, service)
			} else if protocol == "http2" || protocol == "grpc" {
				v.fail(at+".protocol", "protocol %s is not supported yet", port.Protocol)
			}
		default:
			v.fail(at+".protocol", "egress rule support is available only for the following protocols: HTTP,HTTP2,GRPC,HTTPS,TCP,Mongo")
		}
	}
}

// isCIDR reports whether destination.service was taken for a CIDR in Istio 0.5.
func isCIDR(service string) bool { return strings.Count(service, "/") == 1 }

// egressService validates destination.service of an EgressRule: a name, a
// wildcard, an IPv4 address or an IPv4 CIDR.
func egressService(service string) error {
	if isCIDR(service) {
		return subnet4(service)
	}
	_, err := names.ParseIstioPattern(service)
	return err
}

// subnet4 validates an IPv4 CIDR or address in the words of Istio 0.5. Bits behind
// the prefix are no error; 50.1.2.3/8 means 50.0.0.0/8.
func subnet4(s string) error {
	if !isCIDR(s) {
		if addr, err := netip.ParseAddr(s); err != nil || !addr.Is4() {
			return fmt.Errorf("%v is not a valid IPv4 address", s)
		}
		return nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return fmt.Errorf("%v is not a valid CIDR block", s)
	}
	if !prefix.Addr().Is4() {
		return fmt.Errorf("%v is not a valid IPv4 address", prefix.Addr())
	}
	return nil
}
