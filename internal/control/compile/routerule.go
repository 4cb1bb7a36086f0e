package compile

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// compiledRoute is one RouteRule and whose calls it routes.
type compiledRoute struct {
	rule        route.Rule
	destination routed
	precedence  int32
	source      routeSource
	hash        wire.Hash // of the rule's JSON
	namespace   string    // of the object
	regexSize   int       // of the expressions of its match
}

// routed is what a RouteRule is about: a service of the mesh, or hosts outside it. Exactly
// one of the two is set.
type routed struct {
	service names.Name
	hosts   names.Pattern
}

func (r *routed) String() string {
	if r.service.IsZero() {
		return r.hosts.String()
	}
	return r.service.String()
}

// routeSource says whose calls a RouteRule routes; the zero one, everybody's.
type routeSource struct {
	service names.Name        // that the caller is behind; zero: any
	labels  map[string]string // that the caller carries
	ingress bool              // the caller may be the ingress, which is behind no service
}

// selects reports whether a caller that is behind these services is meant.
func (s *routeSource) selects(w wire.Workload, services []names.Name) bool {
	return wire.Carries(w.Labels, s.labels) &&
		(s.service.IsZero() || slices.Contains(services, s.service) || s.ingress && isIngress(w))
}

// isIngress reports whether a workload is an ingress, as Istio 0.5 labelled it.
func isIngress(w wire.Workload) bool { return w.Labels[istio.IngressLabel] == istio.IngressLabelValue }

// byPrecedence orders routes as they are tried: the higher precedence first,
// then the smaller key.
func byPrecedence(a, b *compiledRoute) int {
	return cmp.Or(cmp.Compare(b.precedence, a.precedence), cmp.Compare(a.rule.ID, b.rule.ID))
}

func compileRouteRule(id, namespace string, spec *istio.RouteRuleSpec, domain string) (*compiledRoute, error) {
	if field := unsupportedRouteField(spec); field != "" {
		return nil, fmt.Errorf("spec.%s is not supported yet", field)
	}
	destination, err := compileDestination(spec.Destination, namespace, domain)
	if err != nil {
		return nil, fmt.Errorf("route rule must have a destination service: %w", err)
	}
	out := &compiledRoute{destination: destination, precedence: spec.Precedence, rule: route.Rule{ID: id}, namespace: namespace}
	if match := spec.Match; match != nil {
		if match.Source != nil {
			if out.source, err = compileSource(match.Source, namespace, domain); err != nil {
				return nil, fmt.Errorf("match.source: %w", err)
			}
		}
		if match.Request != nil {
			if out.rule.Match, err = compileRequestMatch(match.Request); err != nil {
				return nil, err
			}
		}
		if match.TCP != nil {
			if out.rule.Match.Source, err = compileSubnets(match.TCP.SourceSubnet); err != nil {
				return nil, fmt.Errorf("match.tcp.sourceSubnet: %w", err)
			}
			if out.rule.Match.Destination, err = compileSubnets(match.TCP.DestinationSubnet); err != nil {
				return nil, fmt.Errorf("match.tcp.destinationSubnet: %w", err)
			}
		}
	}
	if out.rule.Targets, err = compileTargets(spec.Route, namespace, domain, destination); err != nil {
		return nil, err
	}
	if out.rule.Actions, err = compileActions(spec, namespace, domain); err != nil {
		return nil, err
	}
	if out.regexSize, err = out.rule.Match.RegexSize(); err != nil {
		return nil, err
	}
	if err := out.rule.Check(); err != nil { // a proxy would refuse the whole table
		return nil, err
	}
	b, err := json.Marshal(out.rule)
	if err != nil {
		return nil, fmt.Errorf("encode rule: %w", err)
	}
	out.hash = wire.HashOf(append(b, destination.String()...))
	return out, nil
}

// boundRegexes drops the RouteRules with which the expressions of a namespace come to more
// than it may have, in the order of their keys: each workload that calls holds them all.
func boundRegexes(routes []*compiledRoute) (kept []*compiledRoute, problems []Problem) {
	sizes := make(map[string]int)
	slices.SortFunc(routes, func(a, b *compiledRoute) int { return cmp.Compare(a.rule.ID, b.rule.ID) })
	kept = slices.DeleteFunc(routes, func(r *compiledRoute) bool {
		if r.regexSize == 0 {
			return false
		}
		if sizes[r.namespace]+r.regexSize > route.MaxRegexOfNamespace {
			problems = append(problems, Problem{Object: r.rule.ID, Text: fmt.Sprintf("its regular expressions come to %d instructions, and those of the RouteRules of namespace %s may come to %d together: use exact or prefix, or fewer rules",
				r.regexSize, r.namespace, route.MaxRegexOfNamespace)})
			return true
		}
		sizes[r.namespace] += r.regexSize
		return false
	})
	return kept, problems
}

// compileSource reads match.source. The ingress has one name in every mesh: that of
// Istio 0.5's, alone or in the namespace where Istio had it, ours, or the rule's own.
func compileSource(source *istio.Service, namespace, domain string) (routeSource, error) {
	name, err := serviceName(source, namespace, domain)
	if err != nil {
		return routeSource{}, err
	}
	out := routeSource{service: name, labels: source.Labels}
	for _, of := range []string{istio.IngressNamespace, RootNamespace, namespace} {
		out.ingress = out.ingress || name.String() == istio.IngressService+"."+of+".svc."+domain
	}
	return out, nil
}

// unsupportedRouteField names a field that this version does not act on, "" if none
// is set. Validation refuses it first; a rule that slips past must not route as
// if the field were not there.
func unsupportedRouteField(spec *istio.RouteRuleSpec) string {
	switch {
	case spec.L4Fault != nil:
		return "l4Fault"
	case spec.Match != nil && spec.Match.UDP != nil:
		return "match.udp"
	}
	return ""
}

// compileDestination reads what a RouteRule refers to: a service of the mesh, or hosts
// outside it.
func compileDestination(service *istio.Service, namespace, domain string) (routed, error) {
	if service == nil || service.Name == "" && service.Service == "" {
		return routed{}, errors.New("name or service is mandatory for a service reference")
	}
	full := service.FullName(namespace, domain)
	if name, err := names.Parse(full); err == nil && strings.HasSuffix(name.String(), ".svc."+domain) {
		return routed{service: name}, nil
	}
	if service.Service == "" {
		return routed{}, fmt.Errorf("%s is not a service of the mesh: a host outside it is given as service", full)
	}
	hosts, err := route.ParseHosts(full)
	if err != nil {
		return routed{}, err
	}
	return routed{hosts: hosts}, nil
}

// compileTarget reads where a rule sends requests: a service, or one host.
func compileTarget(service *istio.Service, namespace, domain string) (of, host names.Name, err error) {
	to, err := compileDestination(service, namespace, domain)
	if err != nil || !to.service.IsZero() {
		return to.service, names.Name{}, err
	}
	host, ok := to.hosts.Exact()
	if !ok {
		return names.Name{}, names.Name{}, fmt.Errorf("%s stands for many hosts: name the one to send to", to.hosts)
	}
	return names.Name{}, host, nil
}

// serviceName is the full name of a service: service as it is, or
// name.namespace.domain with the object's namespace and svc.DOMAIN by default.
func serviceName(service *istio.Service, namespace, domain string) (names.Name, error) {
	of, err := compileDestination(service, namespace, domain)
	if err == nil && of.service.IsZero() {
		err = fmt.Errorf("%s is not a service of the mesh", of.hosts)
	}
	return of.service, err
}

func compileSubnets(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		subnet, err := istio.ParseSubnet(text)
		if err != nil {
			return nil, err
		}
		out = append(out, subnet)
	}
	return out, nil
}

func compileRequestMatch(request *istio.MatchRequest) (route.Match, error) {
	var out route.Match
	for _, header := range slices.Sorted(maps.Keys(request.Headers)) {
		match, err := compileStringMatch(request.Headers[header])
		if err != nil {
			return route.Match{}, fmt.Errorf("match.request.headers[%s]: %w", header, err)
		}
		switch header {
		case "uri":
			if match.Prefix == "/" {
				continue // every path starts so
			}
			out.URI = &match
			continue
		case "scheme", "method", "authority":
			header = ":" + header
		}
		if out.Headers == nil {
			out.Headers = make(map[string]route.StringMatch)
		}
		out.Headers[header] = match
	}
	return out, nil
}

func compileStringMatch(match istio.StringMatch) (route.StringMatch, error) {
	var out route.StringMatch
	set := 0
	for _, field := range []struct {
		from *string
		to   *string
	}{{match.Exact, &out.Exact}, {match.Prefix, &out.Prefix}, {match.Regex, &out.Regex}} {
		if field.from != nil {
			*field.to = *field.from
			set++
		}
	}
	if set != 1 || out == (route.StringMatch{}) {
		return route.StringMatch{}, errors.New("exactly one of exact, prefix and regex must be set and not empty")
	}
	if len(out.Regex) > route.MaxRegex { // a proxy would refuse the whole table
		return route.StringMatch{}, fmt.Errorf("regex longer than %d bytes", route.MaxRegex)
	}
	return out, nil
}

// compileTargets reads the weights. Without any the whole service is the target,
// as in Istio 0.5.
func compileTargets(weights []istio.DestinationWeight, namespace, domain string, destination routed) ([]route.Weighted, error) {
	if len(weights) == 0 {
		return []route.Weighted{{Weight: 100}}, nil
	}
	targets := make([]route.Weighted, 0, len(weights))
	total := 0
	for _, weight := range weights {
		target := route.Weighted{Labels: maps.Clone(weight.Labels), Weight: int(weight.Weight)}
		if d := weight.Destination; d != nil && d.FullName(namespace, domain) != destination.String() {
			var err error
			if target.Service, target.Host, err = compileTarget(d, namespace, domain); err != nil {
				return nil, fmt.Errorf("route destination: %w", err)
			}
		}
		if len(weights) == 1 && target.Weight == 0 {
			target.Weight = 100
		}
		if target.Weight < 0 || target.Weight > 100 {
			return nil, fmt.Errorf("weight invalid: percentage %d is not in range 0..100", target.Weight)
		}
		total += target.Weight
		targets = append(targets, target)
	}
	if total != 100 {
		return nil, fmt.Errorf("route weights total %d (must total 100)", total)
	}
	return targets, nil
}

// selects reports whether a rule holds for the calls of a workload that is behind callers. What
// leaves the mesh is led by its own namespace alone, or by the root, as egress rules let it
// leave: another's rule would lead away what it never sees, credentials among it.
func (r *compiledRoute) selects(w wire.Workload, callers []names.Name) bool {
	if r.destination.service.IsZero() && !holdsIn(r.namespace, w) {
		return false
	}
	return r.source.selects(w, callers)
}

// routesOf returns the routes that hold for the calls of a workload, in the order
// in which they are tried, each destination's list up to its first catch-all.
func (o *Output) routesOf(w wire.Workload) []*compiledRoute {
	var (
		found   []*compiledRoute
		closed  = make(map[routed]bool)
		callers = o.services.of(w)
	)
	for _, candidate := range o.routes {
		if closed[candidate.destination] {
			continue
		}
		if !candidate.selects(w, callers) {
			continue
		}
		found = append(found, candidate)
		if candidate.rule.Match.All() {
			closed[candidate.destination] = true
		}
	}
	return found
}

// routesValue groups routes by destination.
func routesValue(routes []*compiledRoute, destinations []*compiledDestination) *wire.Routes {
	byDestination := make(map[routed][]route.Rule)
	for _, r := range routes {
		byDestination[r.destination] = append(byDestination[r.destination], r.rule)
	}
	out := &wire.Routes{Services: []route.Rules{}}
	for of, rules := range byDestination {
		if of.service.IsZero() {
			out.Hosts = append(out.Hosts, route.Rules{Host: of.hosts, Rules: rules})
		} else {
			out.Services = append(out.Services, route.Rules{Service: of.service, Rules: rules})
		}
	}
	slices.SortFunc(out.Services, func(a, b route.Rules) int { return cmp.Compare(a.Service.String(), b.Service.String()) })
	slices.SortFunc(out.Hosts, func(a, b route.Rules) int { return cmp.Compare(a.Host.String(), b.Host.String()) })
	for _, destination := range destinations {
		out.Destinations = append(out.Destinations, destination.policy)
	}
	return out
}
