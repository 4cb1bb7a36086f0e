package compile

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/addresses"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
)

// compiledEgress is one egress rule and whom it selects.
type compiledEgress struct {
	rule      policy.Rule
	namespace string
	from      *v1alpha1.WorkloadSelector // nil: every workload of the namespace
	domain    string                     // of an EgressRule, for its conflicts; "" for others
	json      []byte                     // of rule
	hash      wire.Hash                  // of json
	ends      bool                       // a part of rules ends behind this one
}

// chunkBytes is about how much JSON of rules comes in one part.
const chunkBytes = 2 << 10

// chunkLength says how many of the rules, which come in the order of their IDs, come in one
// part. Whether a part ends behind a rule is drawn from the rule alone, the likelier the
// larger it is: so a rule that comes or goes changes the part that it is in, and no other.
func chunkLength(rules []*compiledEgress) int {
	n := 1
	// Rules of one ID, which only a command line or files can have, stay together: the name
	// of a part is the ID of its first.
	for n < len(rules) && (!rules[n-1].ends || rules[n].rule.ID == rules[n-1].rule.ID) {
		n++
	}
	return n
}

// seal fixes the rule's JSON, by which it is addressed.
func (c *compiledEgress) seal() (*compiledEgress, error) {
	b, err := json.Marshal(c.rule)
	if err != nil {
		return nil, fmt.Errorf("encode rule: %w", err)
	}
	c.json, c.hash = b, wire.HashOf(b)
	drawn := sha256.Sum256([]byte(c.rule.ID))
	c.ends = uint64(binary.BigEndian.Uint32(drawn[:]))*chunkBytes < uint64(len(b))<<32
	return c, nil
}

// allowed makes a rule of --allow one for every workload.
func allowed(rule policy.Rule) (*compiledEgress, error) {
	return (&compiledEgress{rule: rule, namespace: RootNamespace}).seal()
}

// consenting returns the rules with one more consent to private answers for the names
// of each. Those that are cached stay as they are.
func (o *Output) consenting(rules []*compiledEgress, private []netip.Prefix) []*compiledEgress {
	out := make([]*compiledEgress, 0, len(rules))
	for _, rule := range rules {
		if len(rule.rule.Hosts) > 0 {
			more := *rule
			more.rule.PrivateAnswers = slices.Concat(rule.rule.PrivateAnswers, private)
			sealed, err := more.seal()
			if err != nil {
				o.report(rule.rule.ID, err.Error())
				continue
			}
			rule = sealed
		}
		out = append(out, rule)
	}
	return out
}

func compilePort(number int32, protocol string) (policy.Port, error) {
	port, err := portNumber(number)
	if err != nil {
		return policy.Port{}, err
	}
	p, err := policy.ParseProtocol(protocol)
	if err != nil {
		return policy.Port{}, err
	}
	return policy.Port{Port: port, Protocol: p}, nil
}

func portNumber(number int32) (uint16, error) {
	if number < 1 || number > 65535 {
		return 0, fmt.Errorf("port number %d must be in the range 1..65535", number)
	}
	return uint16(number), nil
}

func compileEgressPolicy(id, namespace string, spec *v1alpha1.EgressPolicySpec) (*compiledEgress, error) {
	out := &compiledEgress{namespace: namespace, from: spec.From, rule: policy.Rule{ID: id, MaxNewNames: int(spec.MaxNewNamesPerMinute)}}
	rule := &out.rule
	rule.Propagate = spec.Telemetry != nil && spec.Telemetry.Propagate
	for _, host := range spec.To.Hosts {
		pattern, err := names.ParsePattern(host)
		if err != nil {
			return nil, err
		}
		if address, ok := pattern.Addr(); ok {
			rule.CIDRs = append(rule.CIDRs, netip.PrefixFrom(address, address.BitLen()))
			continue
		}
		rule.Hosts = append(rule.Hosts, pattern)
	}
	cidrs, err := parseCIDRs(spec.To.CIDRs)
	if err != nil {
		return nil, err
	}
	rule.CIDRs = append(rule.CIDRs, cidrs...)
	if len(rule.Hosts)+len(rule.CIDRs) == 0 {
		return nil, errors.New("spec.to names neither hosts nor cidrs")
	}
	if len(spec.To.Ports) == 0 {
		return nil, errors.New("spec.to names no ports")
	}
	for _, port := range spec.To.Ports {
		compiled, err := compilePort(port.Port, port.Protocol)
		if err != nil {
			return nil, err
		}
		if port.IdleTimeout != "" {
			if compiled.IdleTimeout, err = port.IdleAfter(); err != nil {
				return nil, fmt.Errorf("idleTimeout of port %d: %w", port.Port, err)
			}
		}
		if up := port.Upstream; up != nil {
			to, err := compilePort(up.Port, up.Protocol)
			if err != nil {
				return nil, fmt.Errorf("upstream of port %d: %w", port.Port, err)
			}
			compiled.Upstream = policy.Upstream{Port: to.Port, Protocol: to.Protocol}
		}
		rule.Ports = append(rule.Ports, compiled)
	}
	if rule.PrivateAnswers, err = parseCIDRs(spec.PrivateAnswers); err != nil {
		return nil, err
	}
	if rule.TLS, err = compileTLS(namespace, spec.TLS); err != nil {
		return nil, err
	}
	for _, match := range spec.HTTP {
		compiled := policy.HTTPMatch{Paths: slices.Clone(match.Paths)}
		for _, method := range match.Methods {
			compiled.Methods = append(compiled.Methods, strings.ToUpper(method))
		}
		for _, upgrade := range match.Upgrades {
			compiled.Upgrades = append(compiled.Upgrades, strings.ToLower(upgrade))
		}
		rule.HTTP = append(rule.HTTP, compiled)
	}
	return out.seal()
}

func compileTLS(namespace string, spec *v1alpha1.EgressTLS) (policy.TLS, error) {
	if spec == nil {
		return policy.TLS{}, nil
	}
	out := policy.TLS{Mode: policy.TLSMode(spec.Mode), CABundle: spec.CABundle}
	switch out.Mode {
	case "", policy.TLSAuto, policy.TLSOriginate, policy.TLSPassthrough:
	default:
		return policy.TLS{}, fmt.Errorf("tls mode %q is not supported yet", spec.Mode)
	}
	if spec.ServerName != "" {
		name, err := names.Parse(spec.ServerName)
		if err != nil {
			return policy.TLS{}, fmt.Errorf("tls server name: %w", err)
		}
		out.ServerName = name
	}
	switch out.MinVersion = policy.TLSVersion(spec.MinVersion); out.MinVersion {
	case "", policy.TLS12, policy.TLS13:
	default:
		return policy.TLS{}, fmt.Errorf("tls version %q is not one that can be asked for", spec.MinVersion)
	}
	if c := spec.ClientCertificate; c != nil {
		out.ClientCertificate = policy.ClientCertificate{Namespace: namespace, CertFile: c.CertFile, KeyFile: c.KeyFile}
	}
	return out, nil
}

func parseCIDRs(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		prefix, err := addresses.ParseCIDR(text)
		if err != nil {
			return nil, err
		}
		out = append(out, prefix)
	}
	return out, nil
}

// egressIndex finds the rules of a class without looking at those of others. It is
// immutable.
type egressIndex struct {
	namespaces map[string]*namespaceRules
}

// in returns the rules of a namespace, perhaps none.
func (x *egressIndex) in(namespace string) *namespaceRules {
	if of := x.namespaces[namespace]; of != nil {
		return of
	}
	return &namespaceRules{parts: func() ([]*wire.Part, error) { return nil, nil }}
}

// selectorIndex files each rule under one label that it asks for, so that a
// class looks only at rules that name one of its labels. Rules that select by
// account alone are under the zero label.
type selectorIndex map[label][]*compiledEgress

type label struct{ key, value string }

// under returns the label that a rule is filed under: the last key in order, for that tells
// workloads apart ("version") rather than what many share ("app").
func (c *compiledEgress) under() (under label) {
	if len(c.from.Labels) > 0 {
		under.key = slices.Max(slices.Collect(maps.Keys(c.from.Labels)))
		under.value = c.from.Labels[under.key]
	}
	return under
}

// add files a rule. Lists that another index has stay as they are.
func (s selectorIndex) add(rule *compiledEgress) {
	under := rule.under()
	s[under] = append(slices.Clip(s[under]), rule)
}

// remove takes a rule out. Lists that another index has stay as they are.
func (s selectorIndex) remove(rule *compiledEgress) {
	under := rule.under()
	left := slices.DeleteFunc(slices.Clone(s[under]), func(other *compiledEgress) bool { return other == rule })
	if s[under] = left; len(left) == 0 {
		delete(s, under)
	}
}

// indexEgress indexes rules of any namespaces, sorted by ID.
func indexEgress(rules []*compiledEgress, encode encoder) *egressIndex {
	sorted := make(map[string][]*compiledEgress)
	for _, rule := range rules {
		sorted[rule.namespace] = append(sorted[rule.namespace], rule)
	}
	index := &egressIndex{namespaces: make(map[string]*namespaceRules)}
	for namespace, of := range sorted {
		fresh := indexRules(of)
		fresh.cut(nil, prefixOf(namespace), encode)
		index.namespaces[namespace] = fresh
	}
	return index
}

// selecting returns the rules whose selector the workload satisfies, sorted by ID
// as all rules are.
func (x *egressIndex) selecting(w wire.Workload) []*compiledEgress {
	var found []*compiledEgress
	look := func(in selectorIndex) {
		try := func(under label) {
			for _, rule := range in[under] {
				if selects(rule.from, w) {
					found = append(found, rule)
				}
			}
		}
		try(label{})
		for key, value := range w.Labels {
			try(label{key, value})
		}
	}
	look(x.in(RootNamespace).own)
	if w.Namespace != RootNamespace {
		look(x.in(w.Namespace).own)
	}
	slices.SortFunc(found, compareEgress)
	return found
}

// selects reports whether the workload carries all labels and, where accounts
// are listed, runs as one of them.
func selects(from *v1alpha1.WorkloadSelector, w wire.Workload) bool {
	return wire.Carries(w.Labels, from.Labels) &&
		(len(from.ServiceAccounts) == 0 || slices.Contains(from.ServiceAccounts, w.Account))
}
