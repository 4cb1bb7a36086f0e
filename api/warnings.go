package api

import (
	"fmt"
	"strings"

	"golang.org/x/net/publicsuffix"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/api/v1alpha1"
)

// Warnings returns what a user should know of a valid object: it is taken as it
// is, but may not mean what was meant. Each is a sentence without a full stop.
func Warnings(o *Object) []string {
	var warnings []string
	warn := func(format string, arguments ...any) {
		warnings = append(warnings, o.ID()+" "+fmt.Sprintf(format, arguments...))
	}
	switch spec := o.Spec.(type) {
	case *istio.EgressRuleSpec:
		if o.Metadata.Namespace != istio.RootNamespace {
			warn("applies to the workloads of namespace %s; in Istio 0.5 it applied to all namespaces (for that, put it into namespace %s)",
				o.Metadata.Namespace, istio.RootNamespace)
		}
		if spec.Destination == nil {
			break
		}
		host := spec.Destination.Service
		if openToStrangers(host) {
			warn("%s", strangers(host))
		}
		for _, port := range spec.Ports {
			if protocol := strings.ToLower(port.Protocol); protocol == "tcp" || protocol == "mongo" {
				warnTCP(warn, host, port.Port, protocol)
			}
		}
	case *v1alpha1.EgressPolicySpec:
		for _, host := range spec.To.Hosts {
			if openToStrangers(host) {
				warn("%s", strangers(host))
			}
			for _, port := range spec.To.Ports {
				if port.Protocol == v1alpha1.ProtocolTCP || port.Protocol == v1alpha1.ProtocolMongo {
					warnTCP(warn, host, port.Port, port.Protocol)
				}
			}
		}
	}
	return warnings
}

func strangers(host string) string {
	return fmt.Sprintf("allows %s, under which anybody can register a name: a workload can carry data to a stranger, also in the names that it asks for", host)
}

func warnTCP(warn func(string, ...any), host string, port int32, protocol string) {
	if strings.HasPrefix(host, "*") {
		warn("allows %s on port %d as %s: only the name that the workload asked DNS for is known there, nothing proves that the server is the one of that name",
			host, port, protocol)
	}
}

// openToStrangers reports whether a wildcard spans the label that is registered:
// "*", "*.com" and "*.co.uk", but also "*-cnn.com" and "*cnn.com", which are
// matched by characters.
func openToStrangers(host string) bool {
	suffix, wild := strings.CutPrefix(host, "*")
	if !wild || isCIDR(host) {
		return false
	}
	if suffix == "" {
		return true
	}
	if domain, whole := strings.CutPrefix(suffix, "."); whole {
		public, _ := publicsuffix.PublicSuffix(domain)
		return public == domain
	}
	registered, err := publicsuffix.EffectiveTLDPlusOne("x" + suffix)
	return err != nil || registered == "x"+suffix
}
