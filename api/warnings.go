package api

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/publicsuffix"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/api/networking"
	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/addresses"
)

// maxWarnings bounds what Warnings returns; of the rest it says how many they are.
const maxWarnings = 16

// Warnings returns what a user should know of a valid object: it is taken as it
// is, but may not mean what was meant. Each completes a sentence that begins with
// the object's name, without a full stop.
func Warnings(o *Object) []string {
	w := new(warnings)
	if o.Origin.upgraded != "" {
		w.warn("%s", o.Origin.upgraded)
	}
	switch spec := o.Spec.(type) {
	case *istio.EgressRuleSpec:
		w.egressRule(o.Metadata.Namespace, spec)
	case *v1alpha1.EgressPolicySpec:
		w.egressPolicy(spec)
	case *networking.IngressSpec:
		w.ingress(spec, o.Metadata.Annotations)
	}
	if w.more > 0 {
		w.texts = append(w.texts, fmt.Sprintf("has %d more warnings", w.more))
	}
	return w.texts
}

// warnings collects what is to be known of one object.
type warnings struct {
	texts []string
	more  int
}

func (w *warnings) warn(format string, arguments ...any) {
	if len(w.texts) >= maxWarnings {
		w.more++
		return
	}
	w.texts = append(w.texts, printable(fmt.Sprintf(format, arguments...), maxMessageText))
}

func (w *warnings) egressRule(namespace string, spec *istio.EgressRuleSpec) {
	if namespace != istio.RootNamespace {
		w.warn("applies to the workloads of namespace %s; in Istio 0.5 it applied to all namespaces (for that, put it into namespace %s)",
			namespace, istio.RootNamespace)
	}
	if spec.Destination == nil {
		return
	}
	host := spec.Destination.Service
	if openToStrangers(host) {
		w.strangers(host)
	}
	if prefix, err := istio.ParseSubnet(host); err == nil {
		w.consent("allows", prefix)
	}
	for _, port := range spec.Ports {
		w.port(port.Port, strings.ToLower(port.Protocol))
		w.wildcardTCP(host, port.Port, strings.ToLower(port.Protocol))
	}
}

func (w *warnings) egressPolicy(spec *v1alpha1.EgressPolicySpec) {
	for _, port := range spec.To.Ports {
		w.port(port.Port, port.Protocol)
	}
	for _, cidr := range spec.To.CIDRs {
		if prefix, err := addresses.ParseCIDR(cidr); err == nil {
			w.consent("allows", prefix)
		}
	}
	for _, cidr := range spec.PrivateAnswers {
		prefix, err := addresses.ParseCIDR(cidr)
		switch {
		case err != nil:
		case !addresses.OverlapsSpecial(prefix):
			w.warn("lists %s under privateAnswers, which has no effect: all of its addresses are public, and public answers need no consent", prefix)
		default:
			w.consent("lists under privateAnswers", prefix)
		}
	}
	for _, host := range spec.To.Hosts {
		if openToStrangers(host) {
			w.strangers(host)
		}
		for _, port := range spec.To.Ports {
			w.wildcardTCP(host, port.Port, port.Protocol)
		}
	}
}

// consent warns of a range that is not, or not wholly, what it seems to allow.
func (w *warnings) consent(verb string, prefix netip.Prefix) {
	if addresses.AllUndialable(prefix) {
		why := "they are Sluice's own"
		if block, ok := addresses.Special(prefix.Addr()); ok && !addresses.InOwn(prefix) {
			why = fmt.Sprintf("they are %s, %s", block.Name, block.Source)
		}
		w.warn("%s %s, which has no effect: Sluice never connects to addresses there (%s)", verb, prefix, why)
		return
	}
	if !addresses.OverlapsSpecial(prefix) || addresses.InOneBlock(prefix) {
		return
	}
	example := ""
	if block, ok := addresses.SpecialInside(prefix); ok {
		example = fmt.Sprintf(" such as %s", block)
	}
	w.warn("%s %s, which is not consent to the special addresses in it%s: they stay denied (private-address) unless a range that lies wholly inside one block allows them",
		verb, prefix, example)
}

// port warns of a protocol that the servers of a well-known port do not speak.
func (w *warnings) port(port int32, protocol string) {
	switch {
	case port == 443 && speaksHTTP2(protocol):
		w.warn("has port: 443 protocol: %s, which is HTTP/2 without TLS: servers on port 443 mostly speak TLS, for which write protocol: https", protocol)
	case port == 443 && protocol == v1alpha1.ProtocolHTTP:
		w.warn("has port: 443 protocol: http, which takes plain HTTP only and sends it on without TLS: servers on port 443 mostly speak TLS, for which write protocol: https")
	case port == 80 && protocol == v1alpha1.ProtocolHTTPS:
		w.warn("has port: 80 protocol: https, which speaks TLS to the server: servers on port 80 mostly speak plain HTTP, for which write protocol: http")
	}
}

func (w *warnings) strangers(host string) {
	w.warn("allows %s, under which anybody can register a name: a workload can carry data to a stranger, also in the names that it asks for", host)
}

func (w *warnings) wildcardTCP(host string, port int32, protocol string) {
	if strings.HasPrefix(host, "*") && (protocol == v1alpha1.ProtocolTCP || protocol == v1alpha1.ProtocolMongo) {
		w.warn("allows %s on port %d as %s: only the name that the workload asked DNS for is known there, nothing proves that the server is the one of that name",
			host, port, protocol)
	}
}

// openToStrangers reports whether a wildcard spans the label that is registered:
// "*", "*.com" and "*.co.uk", but also "*-cnn.com" and "*cnn.com", which are
// matched by characters.
func openToStrangers(host string) bool {
	suffix, wild := strings.CutPrefix(host, "*")
	if !wild || istio.IsCIDR(host) {
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
