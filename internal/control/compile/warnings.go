package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/wire"
)

// Warning is what a user should know of an object that was compiled: it is in
// effect as it is, but may not mean what was meant.
type Warning struct {
	// SelectsNothing says that the object names what no workload is that runs now.
	// The next one may be; every other warning stays as long as the object does.
	SelectsNothing bool
	Text           string // completes a sentence that begins with the object's name
}

// Bounds of the warnings of one object.
const (
	maxUnselective = 16  // parts of one object that select nothing and are named
	maxLabelText   = 200 // bytes of the labels in one text
)

// Warnings returns the warnings of every object that has any, by its key. They are
// looked for when they are first asked for, and only once. An Output that was not
// compiled has none.
func (o *Output) Warnings() map[string][]Warning {
	if o.warnings == nil {
		return nil
	}
	return o.warnings()
}

// WarningsOf returns the warnings that an object has, or would have if it were
// among those that were compiled.
func (o *Output) WarningsOf(object *api.Object) []Warning {
	fresh := compileObject(object, o.services.domain)
	out := advice(fresh)
	if fresh.egress != nil && fresh.egress.selectsSome() {
		if !slices.ContainsFunc(o.population().classes, fresh.egress.selects) {
			out = append(out, fresh.egress.selectsNobody())
		}
	}
	return append(out, o.unselective(fresh)...)
}

// findWarnings looks at all objects.
func (o *Output) findWarnings() map[string][]Warning {
	found := make(map[string][]Warning)
	for _, object := range o.objects {
		if own := append(advice(object), o.unselective(object)...); len(own) > 0 {
			found[object.id] = own
		}
	}
	for _, rule := range o.egress.unselective(o.population().classes) {
		found[rule.rule.ID] = append(found[rule.rule.ID], rule.selectsNobody())
	}
	return found
}

// advice is what is to be known of an object whoever runs.
func advice(object *compiled) []Warning {
	if len(object.problems) > 0 {
		return nil // it has no effect, and its problem says why
	}
	var out []Warning
	for _, text := range object.advice() {
		out = append(out, Warning{Text: text})
	}
	return out
}

// unselective returns the parts of a RouteRule or MeshConfig that select nothing.
func (o *Output) unselective(object *compiled) []Warning {
	var texts []string
	switch {
	case object.route != nil:
		texts = o.population().ofRoute(object.route)
	case object.destination != nil:
		texts = o.population().ofDestination(object.destination)
	case object.mesh != nil:
		for _, namespace := range slices.Sorted(maps.Keys(object.mesh.spec.Namespaces)) {
			if !slices.ContainsFunc(o.population().classes, func(w wire.Workload) bool { return w.Namespace == namespace }) {
				texts = append(texts, fmt.Sprintf("names under spec.namespaces %s, in which no workload is running", namespace))
			}
		}
	}
	if more := len(texts) - maxUnselective; more > 0 {
		texts = append(texts[:maxUnselective], fmt.Sprintf("selects nothing in %d more places", more))
	}
	var out []Warning
	for _, text := range texts {
		out = append(out, Warning{SelectsNothing: true, Text: text})
	}
	return out
}

// population is who lives, as far as rules can tell workloads apart.
type population struct {
	classes   []wire.Workload                // one of each class
	behind    map[names.Name][]wire.Workload // by the services that they are behind
	endpoints map[names.Name][]wire.Endpoint // who serves a service
}

func (o *Output) countPopulation() *population {
	p := &population{behind: make(map[names.Name][]wire.Workload), endpoints: o.services.endpoints}
	seen := make(map[string]bool)
	for _, w := range o.workloads {
		key := w.ClassKey()
		if seen[key] {
			continue
		}
		seen[key] = true
		p.classes = append(p.classes, w)
		for _, service := range o.services.of(w) {
			p.behind[service] = append(p.behind[service], w)
		}
	}
	return p
}

// ofSource says whether nobody calls whom a rule is about.
func (p *population) ofSource(field string, source *routeSource) []string {
	if source.service.IsZero() {
		return nil
	}
	callers := p.behind[source.service]
	if source.ingress {
		for _, w := range p.classes {
			if isIngress(w) {
				callers = append(slices.Clip(callers), w)
			}
		}
	}
	switch {
	case len(callers) == 0:
		return []string{fmt.Sprintf("has a %s that selects no running workload: none is behind %s", field, source.service)}
	case !slices.ContainsFunc(callers, func(w wire.Workload) bool { return wire.Carries(w.Labels, source.labels) }):
		return []string{fmt.Sprintf("has a %s that selects no running workload: none behind %s has %s", field, source.service, labelText(source.labels))}
	}
	return nil
}

// ofDestination says what of a policy selects nothing.
func (p *population) ofDestination(d *compiledDestination) []string {
	texts := p.ofSource("spec.source", &d.source)
	serving := p.endpoints[d.policy.Service]
	switch {
	case !d.policy.Hosts.IsZero():
	case len(serving) == 0:
		texts = append(texts, fmt.Sprintf("has a spec.destination that selects no running workload: none serves %s", d.policy.Service))
	case !slices.ContainsFunc(serving, func(e wire.Endpoint) bool { return wire.Carries(e.Labels, d.policy.Labels) }):
		texts = append(texts, fmt.Sprintf("has spec.destination.labels that select no running workload: none that serves %s has %s", d.policy.Service, labelText(d.policy.Labels)))
	}
	return texts
}

// ofRoute says what of a route rule selects nothing.
func (p *population) ofRoute(r *compiledRoute) (texts []string) {
	texts = p.ofSource("spec.match.source", &r.source)
	if r.destination.service.IsZero() {
		return texts
	}
	if len(p.endpoints[r.destination.service]) == 0 {
		texts = append(texts, fmt.Sprintf("has a spec.destination that selects no running workload: none serves %s", r.destination.service))
	}
	for i := range r.rule.Targets {
		target := &r.rule.Targets[i]
		if !target.Host.IsZero() {
			continue
		}
		service := r.destination.service
		if !target.Service.IsZero() {
			if service = target.Service; len(p.endpoints[service]) == 0 {
				texts = append(texts, fmt.Sprintf("has a spec.route[%d].destination that selects no running workload: none serves %s", i, service))
			}
		}
		serving := p.endpoints[service]
		if len(serving) > 0 && !slices.ContainsFunc(serving, func(e wire.Endpoint) bool { return wire.Carries(e.Labels, target.Labels) }) {
			texts = append(texts, fmt.Sprintf("has spec.route[%d].labels that select no running workload: none that serves %s has %s", i, service, labelText(target.Labels)))
		}
	}
	return texts
}

// selectsSome reports whether the rule names workloads, in place of all.
func (c *compiledEgress) selectsSome() bool {
	return c.from != nil && len(c.from.Labels)+len(c.from.ServiceAccounts) > 0
}

// selects reports whether the rule holds for a workload.
func (c *compiledEgress) selects(w wire.Workload) bool {
	return (c.namespace == RootNamespace || c.namespace == w.Namespace) && (c.from == nil || selects(c.from, w))
}

// selectsNobody is the warning of a rule that holds for no workload that runs.
func (c *compiledEgress) selectsNobody() Warning {
	where := "in namespace " + c.namespace
	if c.namespace == RootNamespace {
		where = "in any namespace"
	}
	var asked []string
	if len(c.from.Labels) > 0 {
		asked = append(asked, "has "+labelText(c.from.Labels))
	}
	if len(c.from.ServiceAccounts) > 0 {
		asked = append(asked, "runs as "+cut(strings.Join(c.from.ServiceAccounts, " or ")))
	}
	return Warning{SelectsNothing: true, Text: fmt.Sprintf("has a spec.from that selects no running workload: none %s %s", where, strings.Join(asked, " and "))}
}

// unselective returns the rules that name workloads and hold for none of these, in
// time that does not multiply the two: a rule is looked at until it holds for one.
func (x *egressIndex) unselective(classes []wire.Workload) []*compiledEgress {
	pending := make(map[string]selectorIndex)
	for namespace, rules := range x.namespaces {
		pending[namespace] = maps.Clone(rules.own)
	}
	for _, w := range classes {
		for _, namespace := range []string{RootNamespace, w.Namespace} {
			in := pending[namespace]
			if in == nil {
				continue
			}
			in.drop(label{}, w)
			for key, value := range w.Labels {
				in.drop(label{key, value}, w)
			}
		}
	}
	var left []*compiledEgress
	for _, in := range pending {
		for _, rules := range in {
			left = append(left, rules...)
		}
	}
	return left
}

// drop takes out the rules under a label that hold for the workload.
func (s selectorIndex) drop(under label, w wire.Workload) {
	rules := s[under]
	if len(rules) == 0 {
		return
	}
	var left []*compiledEgress
	for _, rule := range rules {
		if !selects(rule.from, w) {
			left = append(left, rule)
		}
	}
	s[under] = left
}

// labelText writes labels in order: "the labels app=details,version=v2".
func labelText(labels map[string]string) string {
	pairs := make([]string, 0, len(labels))
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, key+"="+labels[key])
	}
	if len(pairs) == 1 {
		return "the label " + cut(pairs[0])
	}
	return "the labels " + cut(strings.Join(pairs, ","))
}

func cut(text string) string {
	if len(text) > maxLabelText {
		return text[:maxLabelText] + "..."
	}
	return text
}

// prepareWarnings lets the warnings be found when they are first asked for.
func (o *Output) prepareWarnings() {
	o.population = sync.OnceValue(o.countPopulation)
	o.warnings = sync.OnceValue(o.findWarnings)
}
