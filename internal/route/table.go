package route

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"sluice.dev/sluice/internal/names"
)

// MaxRules is the bound on the route rules of all destinations of a Table.
const MaxRules = 1 << 16

// Request is what a route rule may look at.
type Request struct {
	Method    string
	Path      string // with its query
	Authority string // the Host as it was sent
	HTTPS     bool   // its target was an https URL
	Fields    Fields // nil when there are no header fields
	Look      *Look  // of whoever plans one request after another; may be nil
	Ends      Ends
}

// Ends is the two ends of a connection; zero where they are not known.
type Ends struct{ Source, Destination netip.Addr }

// Fields looks up the header fields of a request.
type Fields interface {
	// Values calls yield with the value of each field of that name, which is given
	// in lower case, in the order in which they came, until yield returns false.
	Values(lower string, yield func(value string) bool)
}

// Table is the route rules of one class of workloads, compiled. It is immutable
// and safe for concurrent use.
type Table struct {
	services map[names.Name][]compiledRule
	hosts    *names.Index     // outside the mesh: at of ofHosts; nil: none
	ofHosts  [][]compiledRule // by what hosts holds
	policies map[policyKey]*DestinationPolicy

	limited   *names.Index // hosts with a policy: at of ofLimited; nil: none
	ofLimited []*DestinationPolicy
}

// compiledRule is one rule with its matchers ready.
type compiledRule struct {
	id      string
	fields  []field // all must hold
	targets []target
	total   uint64
	actions *actions // nil: none

	source, destination []netip.Prefix // none: any
}

// actions is the Actions of a rule with what they need of its match.
type actions struct {
	Actions
	prefix int         // length of the prefix of the URI that was matched; 0: none was
	mirror Destination // of Mirror
}

func compileActions(rule *Rule) (*actions, error) {
	if err := rule.Actions.check(); err != nil {
		return nil, err
	}
	if reflect.ValueOf(rule.Actions).IsZero() {
		return nil, nil
	}
	a := &actions{Actions: rule.Actions}
	if uri := rule.Match.URI; uri != nil {
		a.prefix = len(uri.Prefix)
	}
	if m := rule.Mirror; m != nil {
		a.mirror = compileTarget(&Weighted{Service: m.Service, Host: m.Host, Labels: m.Labels}).to
	}
	return a, nil
}

// target is one destination with its share.
type target struct {
	to     Destination // the zero Destination for what was asked for
	weight uint64
}

// compileTarget makes the text of the labels once, not for each request.
func compileTarget(w *Weighted) target {
	return target{to: Destination{Service: w.Service, Host: w.Host, Labels: w.Labels, Set: SetOf(w.Labels)}, weight: uint64(w.Weight)}
}

// SetOf is labels as one text: Destination.Set.
func SetOf(labels map[string]string) string {
	var set strings.Builder
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&set, "%q=%q ", key, labels[key])
	}
	return set.String()
}

// governed gives the destinations of a rule their policies; service is what it is for, zero of a
// host.
func (t *Table) governed(rule *compiledRule, service names.Name) {
	for i := range rule.targets {
		to := &rule.targets[i].to
		switch {
		case !to.Service.IsZero():
			to.Policy = t.PolicyOf(to.Service, to.Set)
		case to.Host.IsZero():
			to.Policy = t.PolicyOf(service, to.Set)
		}
	}
	if rule.actions != nil && rule.actions.Mirror != nil {
		to := &rule.actions.mirror
		to.Policy = t.PolicyOf(to.Service, to.Set)
	}
}

// NewTable compiles route rules. It keeps what they point to: they must not
// change afterwards. A destination that is there twice has the rules of both, in
// that order; of several policies for one destination the first holds.
func NewTable(of []Rules, policies ...DestinationPolicy) (*Table, error) {
	t := &Table{services: make(map[names.Name][]compiledRule, len(of))}
	if err := t.addPolicies(policies); err != nil {
		return nil, err
	}
	edit := t.hosts.Change()
	count := 0
	for _, destination := range of {
		if destination.Service.IsZero() == destination.Host.IsZero() {
			return nil, errors.New("compile route rules: a destination is a service or a host")
		}
		if count += len(destination.Rules); count > MaxRules {
			return nil, fmt.Errorf("compile route rules: more than %d", MaxRules)
		}
		compiled := make([]compiledRule, 0, len(destination.Rules))
		for i := range destination.Rules {
			rule, err := compile(&destination.Rules[i])
			if err != nil {
				return nil, fmt.Errorf("compile route rule %s: %w", destination.Rules[i].ID, err)
			}
			t.governed(&rule, destination.Service)
			compiled = append(compiled, rule)
		}
		if destination.Host.IsZero() {
			t.services[destination.Service] = append(t.services[destination.Service], compiled...)
			continue
		}
		if at, known := edit.Get(destination.Host); known {
			t.ofHosts[at] = append(t.ofHosts[at], compiled...)
			continue
		}
		if !edit.Put(destination.Host, uint32(len(t.ofHosts))) {
			continue // an address, or what else no name matches
		}
		t.ofHosts = append(t.ofHosts, compiled)
	}
	if len(t.ofHosts) > 0 {
		t.hosts = edit.Done()
	}
	return t, nil
}

// Check refuses a rule that NewTable would refuse.
func (rule *Rule) Check() error {
	_, err := compile(rule)
	return err
}

func compile(rule *Rule) (compiledRule, error) {
	c := compiledRule{id: rule.ID, targets: make([]target, 0, max(len(rule.Targets), 1))}
	for i := range rule.Targets {
		if weight := rule.Targets[i].Weight; weight < 0 || weight > 100 {
			return c, fmt.Errorf("weight %d is not within 0 and 100", weight)
		}
		if w := &rule.Targets[i]; !w.Host.IsZero() {
			switch {
			case !w.Service.IsZero():
				return c, errors.New("a target is a service or a host, not both")
			case len(w.Labels) > 0:
				return c, errLabels
			}
		}
		c.targets = append(c.targets, compileTarget(&rule.Targets[i]))
		c.total += c.targets[i].weight
	}
	if len(c.targets) == 0 {
		c.targets = append(c.targets, target{})
	}
	// One target may leave its weight out: it has all of it.
	if len(c.targets) == 1 && c.total == 0 {
		c.targets[0].weight, c.total = 100, 100
	}
	if c.total != 100 {
		return c, fmt.Errorf("weights total %d, not 100", c.total)
	}
	var err error
	if c.actions, err = compileActions(rule); err != nil {
		return c, err
	}
	// A map has no order: sort, so that every proxy tries the same one first.
	headers := make([]string, 0, len(rule.Match.Headers))
	for name := range rule.Match.Headers {
		headers = append(headers, name)
	}
	slices.Sort(headers)
	for _, name := range headers {
		f, err := compileField(name, rule.Match.Headers[name])
		if err != nil {
			return c, fmt.Errorf("header %q: %w", name, err)
		}
		c.fields = append(c.fields, f)
	}
	c.source, c.destination = rule.Match.Source, rule.Match.Destination
	if rule.Match.URI != nil {
		f, err := compileField("", *rule.Match.URI)
		if err != nil {
			return c, fmt.Errorf("uri: %w", err)
		}
		c.fields = append(c.fields, f)
	}
	return c, nil
}

// Plan returns what the first rule that matches says of a request for service; a
// request that none matches goes to the service itself. With a Look it does not allocate but
// where a rule looks at a field that is repeated.
func (t *Table) Plan(service names.Name, request Request) Plan {
	plan := first(t.services[service], &request, service, false)
	if plan.total == 0 {
		plan.policy = t.PolicyOf(service, "")
	}
	return plan
}

// Unruled is the plan of a call to a service, or to an endpoint of it, about which no rule is asked.
func Unruled(service names.Name) Plan { return Plan{asked: service} }

// RoutesHosts reports whether PlanHost may find a rule.
func (t *Table) RoutesHosts() bool { return t.hosts != nil }

// PlanHost is Plan for a host outside the mesh. Of the patterns that match it the most
// specific decides: no other's rules are tried.
func (t *Table) PlanHost(host names.Name, request Request) Plan {
	var rules []compiledRule
	t.hosts.Walk(host, func(m names.Match) bool {
		rules = t.ofHosts[m.Value]
		return false
	})
	return first(rules, &request, host, true)
}

func first(rules []compiledRule, request *Request, asked names.Name, outside bool) Plan {
	for i := range rules {
		if rule := &rules[i]; rule.matches(request) {
			return Plan{Rule: rule.id, asked: asked, outside: outside, targets: rule.targets, total: rule.total, actions: rule.actions}
		}
	}
	return Plan{asked: asked, outside: outside}
}

func (c *compiledRule) matches(request *Request) bool {
	for i := range c.fields {
		if !c.fields[i].matches(request) {
			return false
		}
	}
	return within(request.Ends.Source, c.source) && within(request.Ends.Destination, c.destination)
}

// within reports whether one of the prefixes holds an address; where there are none, all
// is within. An address that is not known is in none.
func within(a netip.Addr, prefixes []netip.Prefix) bool {
	return len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}
