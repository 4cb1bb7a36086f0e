package api

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/api/networking"
	"sluice.dev/sluice/internal/edge"
)

// Bounds of an Ingress; ours.
const (
	maxIngressRules = 64
	maxIngressPaths = 64 // of one rule
	maxIngressTLS   = 64
	maxIngressHosts = 64 // of one certificate
)

// ingressRule validates an IngressRule, in the words of Istio 0.5 where it had some.
func (v *validation) ingressRule(spec *istio.IngressRuleSpec, annotations map[string]string) {
	v.portNumber("spec.port", spec.Port)
	if spec.TLSSecret != "" {
		v.secret("spec.tlsSecret", spec.TLSSecret)
		if spec.Port == edge.PlainPort {
			v.fail("spec.tlsSecret", "port 80 is the listener of plain HTTP: write port: 443")
		}
	}
	if d := spec.Destination; d == nil {
		v.fail("spec.destination", "ingress rule must have a destination service")
	} else {
		v.inMesh("spec.destination", d)
		if len(d.Labels) > 0 {
			v.fail("spec.destination.labels", "ingress rule destination labels must be empty")
		}
	}
	switch {
	case spec.DestinationPort != 0 && spec.DestinationPortName != "":
		v.fail("spec.destinationPortName", "write either destinationPort or destinationPortName, not both")
	case spec.DestinationPortName != "":
		v.portName("spec.destinationPortName", spec.DestinationPortName)
	case spec.DestinationPort == 0:
		v.fail("spec", "write destinationPort, a number, or destinationPortName")
	default:
		v.portNumber("spec.destinationPort", spec.DestinationPort)
	}
	if spec.Match != nil {
		v.ingressMatch(spec.Match)
	}
	v.ingressAnnotations(annotations, spec.TLSSecret != "")
	if annotations[networking.ClientsAnnotation] == networking.Required && spec.TLSSecret != "" && !hasAuthority(spec.Match) {
		v.fail("spec.match.request.headers", "authority is missing, so that no client certificate could be asked for: write authority: {exact: HOST}")
	}
}

// hasAuthority reports whether a rule is for one host.
func hasAuthority(m *istio.MatchCondition) bool {
	return m != nil && m.Request != nil && m.Request.Headers["authority"].Exact != nil
}

// ingressMatch validates what an IngressRule looks at: as in Istio 0.5, uri and authority.
func (v *validation) ingressMatch(m *istio.MatchCondition) {
	const at = "spec.match.request.headers"
	if m.Source != nil {
		v.fail("spec.match.source", "what comes in from outside has no source in the mesh: leave it out")
	}
	if m.TCP != nil {
		v.fail("spec.match.tcp", "an ingress rule matches requests alone")
	}
	if m.UDP != nil {
		v.fail("spec.match.udp", "UDP protocol not supported yet")
	}
	if m.Request == nil {
		return
	}
	for _, header := range slices.Sorted(maps.Keys(m.Request.Headers)) {
		match, here := m.Request.Headers[header], at+"["+header+"]"
		switch {
		case header != "uri" && header != "authority":
			v.fail(here, "an ingress rule looks at uri and authority alone: a RouteRule of the destination may look at %s", header)
		case match.Regex != nil:
			v.fail(here+".regex", "regular expressions are not supported at the ingress: write exact or prefix")
		case header == "authority" && match.Prefix != nil:
			v.fail(here+".prefix", "an authority is matched exactly: write exact")
		case (match.Exact == nil) == (match.Prefix == nil):
			v.fail(here, "write exactly one of exact and prefix")
		case header == "authority":
			v.failIf(here+".exact", edge.CheckHost(*match.Exact))
		case match.Exact != nil:
			v.failIf(here+".exact", edge.CheckPath(*match.Exact))
		default:
			v.failIf(here+".prefix", edge.CheckPath(*match.Prefix))
		}
	}
}

// ingress validates an Ingress of Kubernetes.
func (v *validation) ingress(spec *networking.IngressSpec, annotations map[string]string) {
	if spec.IngressClassName != "" && !isDNSName(spec.IngressClassName) {
		v.fail("spec.ingressClassName", "%q is not a name", spec.IngressClassName)
	}
	if spec.IngressClassName != "" && annotations[networking.ClassAnnotation] != "" {
		v.fail("spec.ingressClassName", "the annotation %s says a class already: leave one out", networking.ClassAnnotation)
	}
	if spec.Foreign(annotations) {
		v.ingressSize(spec) // what it means is its own controller's matter
		return
	}
	if spec.DefaultBackend == nil && len(spec.Rules) == 0 {
		v.fail("spec", "write rules or defaultBackend: an Ingress without both leads nowhere")
	}
	if spec.DefaultBackend != nil {
		v.backend("spec.defaultBackend", spec.DefaultBackend)
	}
	if len(spec.TLS) > maxIngressTLS {
		v.fail("spec.tls", "more than %d certificates", maxIngressTLS)
	} else {
		for i := range spec.TLS {
			v.ingressTLS(fmt.Sprintf("spec.tls[%d]", i), &spec.TLS[i])
		}
	}
	if len(spec.Rules) > maxIngressRules {
		v.fail("spec.rules", "more than %d rules", maxIngressRules)
		return
	}
	for i := range spec.Rules {
		rule, at := &spec.Rules[i], fmt.Sprintf("spec.rules[%d]", i)
		if rule.Host != "" {
			v.failIf(at+".host", edge.CheckHostPattern(rule.Host))
		}
		if rule.HTTP == nil {
			if spec.DefaultBackend == nil {
				v.fail(at+".http", "is missing, and there is no defaultBackend that its host would lead to")
			}
			continue
		}
		if len(rule.HTTP.Paths) == 0 {
			v.fail(at+".http.paths", "must list at least one path")
		}
		if len(rule.HTTP.Paths) > maxIngressPaths {
			v.fail(at+".http.paths", "more than %d paths", maxIngressPaths)
			continue
		}
		for j := range rule.HTTP.Paths {
			v.ingressPath(fmt.Sprintf("%s.http.paths[%d]", at, j), &rule.HTTP.Paths[j])
		}
	}
	v.ingressAnnotations(annotations, len(spec.TLS) > 0)
	if annotations[networking.ClientsAnnotation] == networking.Required && len(spec.TLS) > 0 {
		v.ingressClients(spec)
	}
}

// ingressClients validates that an Ingress can ask for client certificates whatever it leads:
// they are asked for in the handshake, by host.
func (v *validation) ingressClients(spec *networking.IngressSpec) {
	const unasked = "so that no client certificate could be asked for"
	if spec.DefaultBackend != nil {
		v.fail("spec.defaultBackend", "is for every host, "+unasked+": write rules with hosts, or leave the annotation out")
	}
	var hosts []string
	open := false
	for i := range spec.TLS {
		if len(spec.TLS[i].Hosts) == 0 {
			v.fail(fmt.Sprintf("spec.tls[%d].hosts", i), "is missing, "+unasked+": list the hosts")
			open = true
		}
		hosts = append(hosts, spec.TLS[i].Hosts...)
	}
	for i := range spec.Rules {
		if host := spec.Rules[i].Host; !open && !edge.Covers(hosts, host) {
			v.fail(fmt.Sprintf("spec.rules[%d].host", i), "is in no tls[].hosts, "+unasked)
		}
	}
}

// ingressSize validates how large an Ingress of another controller is.
func (v *validation) ingressSize(spec *networking.IngressSpec) {
	if len(spec.TLS) > maxIngressTLS {
		v.fail("spec.tls", "more than %d certificates", maxIngressTLS)
	}
	if len(spec.Rules) > maxIngressRules {
		v.fail("spec.rules", "more than %d rules", maxIngressRules)
	}
	for i := range spec.TLS {
		if len(spec.TLS[i].Hosts) > maxIngressHosts {
			v.fail(fmt.Sprintf("spec.tls[%d].hosts", i), "more than %d hosts", maxIngressHosts)
			return
		}
	}
	for i := range spec.Rules {
		if http := spec.Rules[i].HTTP; http != nil && len(http.Paths) > maxIngressPaths {
			v.fail(fmt.Sprintf("spec.rules[%d].http.paths", i), "more than %d paths", maxIngressPaths)
			return
		}
	}
}

func (v *validation) ingressTLS(at string, t *networking.IngressTLS) {
	if t.SecretName == "" {
		v.fail(at+".secretName", "is missing: it names the folder with tls.crt and tls.key")
	} else {
		v.secret(at+".secretName", t.SecretName)
	}
	if len(t.Hosts) > maxIngressHosts {
		v.fail(at+".hosts", "more than %d hosts", maxIngressHosts)
		return
	}
	for i, host := range t.Hosts {
		v.failIf(fmt.Sprintf("%s.hosts[%d]", at, i), edge.CheckHostPattern(host))
	}
}

func (v *validation) ingressPath(at string, p *networking.HTTPIngressPath) {
	switch p.PathType {
	case networking.Exact, networking.Prefix:
		v.failIf(at+".path", edge.CheckPath(p.Path))
	case networking.ImplementationSpecific:
		v.failIf(at+".path", edge.CheckIstioPath(p.Path))
	case "":
		v.fail(at+".pathType", "is missing: write Exact, Prefix or ImplementationSpecific")
	default:
		v.fail(at+".pathType", "%q is not one of Exact, Prefix, ImplementationSpecific", p.PathType)
	}
	if p.Backend == nil {
		v.fail(at+".backend", "is missing")
		return
	}
	v.backend(at+".backend", p.Backend)
}

func (v *validation) backend(at string, b *networking.IngressBackend) {
	if b.Service == nil {
		v.fail(at+".service", "is missing: a backend is a service (resource is not supported)")
		return
	}
	if !isLabel(b.Service.Name) {
		v.fail(at+".service.name", "%q is not a service's name (lower-case letters, digits and inner hyphens, at most 63)", b.Service.Name)
	}
	switch p := b.Service.Port; {
	case p == nil || p.Number == 0 && p.Name == "":
		v.fail(at+".service.port", "write number or name")
	case p.Number != 0 && p.Name != "":
		v.fail(at+".service.port", "write either number or name, not both")
	case p.Name != "":
		v.portName(at+".service.port.name", p.Name)
	default:
		v.portNumber(at+".service.port.number", p.Number)
	}
}

func (v *validation) portName(at, name string) {
	if !isLabel(name) {
		v.fail(at, "%q is not the name of a port (a DNS label): a number is written without quotes, as number", name)
	}
}

// secret validates the name of a folder with a certificate and its key.
func (v *validation) secret(at, name string) {
	if !isDNSName(name) {
		v.fail(at, "%q is not a name (lower-case letters, digits, inner hyphens and dots, at most %d)", name, maxName)
	}
}

// ingressAnnotations validates those that are ours: what is mistyped would have no effect.
func (v *validation) ingressAnnotations(annotations map[string]string, tls bool) {
	for _, key := range sortedKeys(annotations) {
		if !strings.HasPrefix(key, "ingress.sluice.dev/") {
			continue
		}
		here, value := "metadata.annotations["+key+"]", annotations[key]
		switch key {
		case networking.RedirectAnnotation:
			if value != "true" && value != "false" {
				v.fail(here, "%q is not one of \"true\", \"false\"", value)
			}
		case networking.ClientsAnnotation:
			if value != networking.Required {
				v.fail(here, "%q must be %q, or the annotation left out", value, networking.Required)
			} else if !tls {
				v.fail(here, "clients show a certificate by TLS alone: name one of the ingress (tls, or tlsSecret)")
			}
		default:
			v.fail(here, "is not known: the annotations of an ingress are %s and %s", networking.RedirectAnnotation, networking.ClientsAnnotation)
		}
	}
}

// ingressWarnings says of an Ingress that another controller serves it.
func (w *warnings) ingress(spec *networking.IngressSpec, annotations map[string]string) {
	if spec.Foreign(annotations) {
		w.warn("is of the class %s, which is not ours: it has no effect here (ours are %s)", spec.Class(annotations), strings.Join(networking.Classes, " and "))
	}
	for _, key := range sortedKeys(annotations) {
		if strings.HasPrefix(key, "nginx.ingress.kubernetes.io/") || strings.HasPrefix(key, "traefik.ingress.kubernetes.io/") || strings.HasPrefix(key, "haproxy.org/") {
			w.warn("has the annotation %s, which is another controller's and has no effect here", key)
		}
	}
}
