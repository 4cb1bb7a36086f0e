package compile

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/api/networking"
	"sluice.dev/sluice/internal/edge"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/wire"
)

// compiledIngress is one IngressRule or Ingress.
type compiledIngress struct {
	id         string
	ordered    bool // it is an IngressRule, whose one entry is tried by its precedence
	precedence int32
	entries    []entry
	fallback   *entry // the default backend
	shown      []edge.Shown
}

// entry is one rule of an ingress, whose port may still be a name.
type entry struct {
	rule edge.Rule
	port string // of the service; "": rule.To says it
}

func compileIngressRule(id, namespace string, spec *istio.IngressRuleSpec, annotations map[string]string, domain string) (*compiledIngress, error) {
	if spec.Destination == nil {
		return nil, errors.New("ingress rule must have a destination service")
	}
	service, err := serviceName(spec.Destination, namespace, domain)
	if err != nil {
		return nil, fmt.Errorf("destination: %w", err)
	}
	port, err := portNumber(spec.Port)
	if err != nil {
		return nil, fmt.Errorf("port: %w", err)
	}
	one := entry{rule: edge.Rule{ID: id, Port: port, Service: service}}
	if err := one.setPort(spec.DestinationPort, spec.DestinationPortName); err != nil {
		return nil, fmt.Errorf("destinationPort: %w", err)
	}
	if m := spec.Match; m != nil {
		if m.Source != nil || m.TCP != nil || m.UDP != nil {
			return nil, errors.New("an ingress rule matches requests by uri and authority alone")
		}
		if m.Request != nil {
			if err := matchIngress(&one.rule, m.Request); err != nil {
				return nil, err
			}
		}
	}
	one.rule.Redirect = annotations[networking.RedirectAnnotation] == "true"
	out := &compiledIngress{id: id, ordered: true, precedence: spec.Precedence, entries: []entry{one}}
	if spec.TLSSecret != "" {
		shown := edge.Shown{ID: id, Certificate: certificateOf(namespace, spec.TLSSecret, annotations)}
		if one.rule.Host != "" {
			shown.Hosts = []string{one.rule.Host}
		}
		out.shown = append(out.shown, shown)
	}
	return out, out.askClients(annotations)
}

// askClients has each rule of an object that asks for client certificates ask for them, whatever
// listener or certificate a request comes by.
func (c *compiledIngress) askClients(annotations map[string]string) error {
	if annotations[networking.ClientsAnnotation] != networking.Required {
		return nil
	}
	if c.fallback != nil {
		return errors.New("a defaultBackend is for every host: no client certificate can be asked for")
	}
	for i := range c.entries {
		rule := &c.entries[i].rule
		at := slices.IndexFunc(c.shown, func(s edge.Shown) bool { return edge.Covers(s.Hosts, rule.Host) })
		if at < 0 {
			return fmt.Errorf("a rule is for host %q, which is shown none of its certificates: no client certificate can be asked for", cmp.Or(rule.Host, "*"))
		}
		of := c.shown[at].Certificate
		rule.Clients = of.Namespace + "/" + of.Secret
	}
	return nil
}

// certificateOf is a certificate that an object names.
func certificateOf(namespace, secret string, annotations map[string]string) edge.Certificate {
	return edge.Certificate{Namespace: namespace, Secret: secret, Clients: annotations[networking.ClientsAnnotation] == networking.Required}
}

// matchIngress reads the match of an IngressRule.
func matchIngress(rule *edge.Rule, request *istio.MatchRequest) error {
	for header, match := range request.Headers {
		text, exact := match.Exact, true
		if text == nil {
			text, exact = match.Prefix, false
		}
		switch {
		case match.Regex != nil || text == nil:
			return fmt.Errorf("match.request.headers[%s]: write exactly one of exact and prefix", header)
		case header == "authority" && exact:
			if err := edge.CheckHost(*text); err != nil {
				return err
			}
			rule.Host = *text
		case header == "uri":
			if err := edge.CheckPath(*text); err != nil {
				return err
			}
			kind := edge.Characters
			if exact {
				kind = edge.Exact
			}
			rule.SetPath(kind, *text)
		default:
			return fmt.Errorf("match.request.headers[%s]: an ingress rule looks at uri and authority alone", header)
		}
	}
	return nil
}

// compileIngress returns nil for an Ingress of another controller.
func compileIngress(id, namespace string, spec *networking.IngressSpec, annotations map[string]string, domain string) (*compiledIngress, error) {
	if spec.Foreign(annotations) {
		return &compiledIngress{id: id}, nil
	}
	out := &compiledIngress{id: id}
	backend := func(b *networking.IngressBackend) (entry, error) {
		if b == nil || b.Service == nil || b.Service.Port == nil {
			return entry{}, errors.New("a backend is a service and its port")
		}
		service, err := names.Parse(b.Service.Name + "." + namespace + ".svc." + domain)
		if err != nil {
			return entry{}, err
		}
		one := entry{rule: edge.Rule{ID: id, Service: service, Redirect: annotations[networking.RedirectAnnotation] == "true"}}
		return one, one.setPort(b.Service.Port.Number, b.Service.Port.Name)
	}
	if spec.DefaultBackend != nil {
		one, err := backend(spec.DefaultBackend)
		if err != nil {
			return nil, fmt.Errorf("defaultBackend: %w", err)
		}
		out.fallback = &one
	}
	for i := range spec.TLS {
		of := &spec.TLS[i]
		for _, host := range of.Hosts {
			if err := edge.CheckHostPattern(host); err != nil {
				return nil, err
			}
		}
		if len(of.Hosts) > edge.MaxCertificateHosts {
			return nil, fmt.Errorf("tls[%d] lists more than %d hosts", i, edge.MaxCertificateHosts)
		}
		out.shown = append(out.shown, edge.Shown{ID: id, Certificate: certificateOf(namespace, of.SecretName, annotations), Hosts: of.Hosts})
	}
	for i := range spec.Rules {
		rule := &spec.Rules[i]
		if rule.Host != "" {
			if err := edge.CheckHostPattern(rule.Host); err != nil {
				return nil, err
			}
		}
		if rule.HTTP == nil {
			if out.fallback == nil {
				return nil, fmt.Errorf("rules[%d].http is missing", i)
			}
			one := *out.fallback // of this host, whatever less specific ones say
			one.rule.Host = rule.Host
			out.entries = append(out.entries, one)
			continue
		}
		for j := range rule.HTTP.Paths {
			path := &rule.HTTP.Paths[j]
			one, err := backend(path.Backend)
			if err == nil {
				err = one.setPath(path.PathType, path.Path)
			}
			if err != nil {
				return nil, fmt.Errorf("rules[%d].http.paths[%d]: %w", i, j, err)
			}
			one.rule.Host = rule.Host
			out.entries = append(out.entries, one)
		}
	}
	return out, out.askClients(annotations)
}

// setPath fills the path of an Ingress.
func (e *entry) setPath(kind, path string) error {
	check := edge.CheckPath
	if kind == networking.ImplementationSpecific {
		check = edge.CheckIstioPath
	}
	if err := check(path); err != nil {
		return err
	}
	switch kind {
	case networking.Exact:
		e.rule.SetPath(edge.Exact, path)
	case networking.Prefix:
		e.rule.SetPath(edge.Elements, path)
	case networking.ImplementationSpecific:
		e.rule.SetIstioPath(path)
	default:
		return fmt.Errorf("pathType %q is not known", kind)
	}
	return nil
}

// setPort fills the port of the service, a number or a name.
func (e *entry) setPort(number int32, name string) (err error) {
	if e.port = name; name == "" {
		e.rule.To, err = portNumber(number)
	}
	return err
}

// ingressSet is the rules of the ingress, made of all objects.
type ingressSet struct {
	rules edge.Rules
	hash  wire.Hash // of their JSON
}

// joinIngresses puts the rules together: those of IngressRules by precedence, and of what two
// objects claim the one with the smaller key keeps it. What is left out is reported.
func joinIngresses(all []*compiledIngress, services *serviceSet, report func(object, text string)) *ingressSet {
	all = slices.SortedFunc(slices.Values(all), func(a, b *compiledIngress) int {
		return cmp.Or(cmp.Compare(b.precedence, a.precedence), cmp.Compare(a.id, b.id))
	})
	out := new(ingressSet)
	type claim struct {
		host, path string
		kind       edge.Kind
	}
	claimed := make(map[claim]string)
	holds := make(map[string]edge.Certificate) // by host
	strict := strictOf(all)
	for _, of := range all {
		for i := range of.entries {
			rule, why := of.entries[i].resolve(services)
			switch {
			case why != "":
				report(of.id, why)
			case of.ordered && len(out.rules.Ordered) == edge.MaxOrdered:
				report(of.id, fmt.Sprintf("more than %d IngressRules: this one has no effect", edge.MaxOrdered))
			case of.ordered:
				out.rules.Ordered = append(out.rules.Ordered, rule)
			case len(out.rules.Hosts) == edge.MaxPaths:
				report(of.id, fmt.Sprintf("more than %d paths of all Ingresses: those from here on have no effect", edge.MaxPaths))
			default:
				key := claim{rule.Host, rule.Path, rule.Kind}
				if other := claimed[key]; other != "" {
					report(of.id, fmt.Sprintf("path %q of host %q is that of %s already", cmp.Or(rule.Path, "/"), cmp.Or(rule.Host, "*"), other))
					continue
				}
				claimed[key] = of.id
				out.rules.Hosts = append(out.rules.Hosts, rule)
			}
		}
		for _, shown := range of.stricter(strict, report) {
			if len(out.rules.Certificates) == edge.MaxCertificates {
				report(of.id, fmt.Sprintf("more than %d certificates of all objects: those from here on are not shown", edge.MaxCertificates))
				break
			}
			open := len(shown.Hosts) == 0 // it is for the names that it holds
			shown.Hosts = slices.DeleteFunc(slices.Clone(shown.Hosts), func(host string) bool {
				other, taken := holds[host]
				if taken && other != shown.Certificate {
					report(of.id, fmt.Sprintf("host %s is shown the certificate %s/%s already", host, other.Namespace, other.Secret))
				}
				if !taken {
					holds[host] = shown.Certificate
				}
				return taken
			})
			if open || len(shown.Hosts) > 0 {
				out.rules.Certificates = append(out.rules.Certificates, shown)
			}
		}
		if of.fallback == nil {
			continue
		}
		rule, why := of.fallback.resolve(services)
		switch {
		case why != "":
			report(of.id, why)
		case out.rules.Default != nil:
			report(of.id, "its defaultBackend has no effect: "+out.rules.Default.ID+" has one")
		default:
			out.rules.Default = &rule
		}
	}
	if out.rules.Empty() {
		return nil
	}
	b, err := json.Marshal(&out.rules)
	if err != nil { // names and numbers alone
		return nil
	}
	out.hash = wire.HashOf(b)
	return out
}

// asking is a host that an object has shown a certificate with which clients are asked for theirs.
type asking struct {
	host        string
	certificate edge.Certificate
}

// strictOf finds which object asks for client certificates of a host by a secret.
func strictOf(all []*compiledIngress) map[asking]string {
	out := make(map[asking]string)
	for _, of := range all {
		for _, shown := range of.shown {
			for _, host := range shown.Hosts {
				if key := (asking{host, shown.Certificate}); shown.Certificate.Clients && out[key] == "" {
					out[key] = of.id
				}
			}
		}
	}
	return out
}

// stricter returns what the object has shown, but for a host of which another object asks for
// client certificates by the same secret: then all clients of the host are asked for theirs.
func (c *compiledIngress) stricter(strict map[asking]string, report func(object, text string)) []edge.Shown {
	var out []edge.Shown
	for _, shown := range c.shown {
		asks := shown
		asks.Certificate.Clients, asks.Hosts = true, nil
		var rest []string
		for _, host := range shown.Hosts {
			other := strict[asking{host, asks.Certificate}]
			if shown.Certificate.Clients || other == "" {
				rest = append(rest, host)
				continue
			}
			asks.Hosts = append(asks.Hosts, host)
			report(c.id, fmt.Sprintf("clients of host %s are asked for a certificate, as %s has it: its rules there are for those alone that show one", host, other))
		}
		if len(asks.Hosts) > 0 {
			out = append(out, asks)
		}
		if len(rest) > 0 || len(shown.Hosts) == 0 {
			shown.Hosts = rest
			out = append(out, shown)
		}
	}
	return out
}

// resolve finds the port that has a name. why is why the rule has no effect.
func (e *entry) resolve(services *serviceSet) (rule edge.Rule, why string) {
	rule = e.rule
	if e.port == "" {
		return rule, ""
	}
	if service := services.byName[rule.Service]; service != nil {
		rule.To = service.named[e.port]
	}
	if rule.To == 0 {
		return rule, fmt.Sprintf("service %s has no port of the name %s: give its MeshService one, or write the number", rule.Service, e.port)
	}
	return rule, ""
}

// ingressOf returns the rules that a workload runs as the ingress; nil where it is none.
func (o *Output) ingressOf(w wire.Workload) *ingressSet {
	if !isIngress(w) {
		return nil
	}
	return o.ingress
}
