package route

import (
	"fmt"
	"slices"
	"strings"

	"sluice.dev/sluice/internal/names"
)

// MaxRules is the bound on the route rules of all services of a Table.
const MaxRules = 1 << 16

// Request is what a route rule may look at.
type Request struct {
	Method    string
	Path      string // with its query
	Authority string // the Host as it was sent
	// Header returns the value of a header by its lower-case name, several lines
	// joined by ", ", and "" where there is none; nil when there are no headers.
	Header func(lower string) string
}

// Table is the route rules of one class of workloads, compiled. It is immutable
// and safe for concurrent use.
type Table struct {
	services map[names.Name][]compiledRule
}

// compiledRule is one rule with its matchers ready.
type compiledRule struct {
	id      string
	fields  []field // all must hold
	targets []Weighted
	total   uint64
}

// NewTable compiles route rules. It keeps what they point to: they must not
// change afterwards. A service that stands there twice has the rules of both, in
// that order.
func NewTable(services []ServiceRules) (*Table, error) {
	t := &Table{services: make(map[names.Name][]compiledRule, len(services))}
	count := 0
	for _, service := range services {
		if count += len(service.Rules); count > MaxRules {
			return nil, fmt.Errorf("compile route rules: more than %d", MaxRules)
		}
		for i := range service.Rules {
			rule, err := compile(&service.Rules[i])
			if err != nil {
				return nil, fmt.Errorf("compile route rule %s: %w", service.Rules[i].ID, err)
			}
			t.services[service.Service] = append(t.services[service.Service], rule)
		}
	}
	return t, nil
}

func compile(rule *Rule) (compiledRule, error) {
	c := compiledRule{id: rule.ID, targets: rule.Targets}
	if len(rule.Targets) == 0 {
		c.targets, c.total = []Weighted{{Weight: 100}}, 100
	}
	for _, target := range rule.Targets {
		if target.Weight < 0 || target.Weight > 100 {
			return c, fmt.Errorf("weight %d is not within 0 and 100", target.Weight)
		}
		c.total += uint64(target.Weight)
	}
	// One target may leave its weight out: it has all of it.
	if len(rule.Targets) == 1 && c.total == 0 {
		c.targets, c.total = slices.Clone(rule.Targets), 100
		c.targets[0].Weight = 100
	}
	if c.total != 100 {
		return c, fmt.Errorf("weights total %d, not 100", c.total)
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
	if rule.Match.URI != nil {
		f, err := compileField("", *rule.Match.URI)
		if err != nil {
			return c, fmt.Errorf("uri: %w", err)
		}
		c.fields = append(c.fields, f)
	}
	return c, nil
}

// Pick returns where a request for service goes: the target of the first rule
// that matches, drawn by its weights with the random number r, and that rule's
// ID. Without a rule that matches it is the destination itself, with no labels,
// and ok is false. The target's Service is never zero. Pick does not allocate
// but where a rule matches by a regular expression.
func (t *Table) Pick(service names.Name, request Request, r uint64) (target Weighted, ruleID string, ok bool) {
	rules := t.services[service]
	for i := range rules {
		if rule := &rules[i]; rule.matches(&request) {
			target = rule.draw(r)
			if target.Service.IsZero() {
				target.Service = service
			}
			return target, rule.id, true
		}
	}
	return Weighted{Service: service, Weight: 100}, "", false
}

func (c *compiledRule) matches(request *Request) bool {
	for i := range c.fields {
		if !c.fields[i].matches(request) {
			return false
		}
	}
	return true
}

// draw picks a target by weight. r is taken modulo the total: over 64 random
// bits the bias is below 2^-57.
func (c *compiledRule) draw(r uint64) Weighted {
	r %= c.total
	for _, target := range c.targets {
		if r < uint64(target.Weight) {
			return target
		}
		r -= uint64(target.Weight)
	}
	return c.targets[len(c.targets)-1] // not reached: the weights add up to total
}

// lookup returns what a field's matcher looks at, and whether the request has it
// at all.
func (f *field) lookup(request *Request) (value string, there bool) {
	switch f.name {
	case "":
		if f.pathOnly {
			path, _, _ := strings.Cut(request.Path, "?")
			return path, true
		}
		return request.Path, true
	case ":method":
		return request.Method, true
	case ":authority":
		return request.Authority, true
	case ":scheme":
		return "http", true // inside the mesh a request is plain before it is carried
	}
	if request.Header == nil {
		return "", false
	}
	value = request.Header(f.name)
	return value, value != ""
}
