package compile

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
)

// compileEgressRule compiles an EgressRule of Istio 0.5. Its destination is a CIDR, an
// address (which opens that address), or a pattern of names. TCP to a name, which
// made no sense then, does: the name is known from our own DNS.
func compileEgressRule(id, namespace string, spec *istio.EgressRuleSpec) (*compiledEgress, error) {
	if spec.Destination == nil || spec.Destination.Service == "" {
		return nil, errors.New("destination of egress rule must have destination field")
	}
	if spec.UseEgressProxy {
		return nil, errors.New("directing traffic through egress proxy is not implemented yet")
	}
	if len(spec.Ports) == 0 {
		return nil, errors.New("egress rule must have a ports list")
	}
	domain := spec.Destination.Service
	out := &compiledEgress{namespace: namespace, domain: domain, rule: policy.Rule{ID: id}}
	if istio.IsCIDR(domain) {
		prefix, err := istio.ParseSubnet(domain)
		if err != nil {
			return nil, err
		}
		out.rule.CIDRs = []netip.Prefix{prefix}
	} else {
		pattern, err := names.ParseIstioPattern(domain)
		if err != nil {
			return nil, err
		}
		if address, ok := pattern.Addr(); ok {
			out.rule.CIDRs = []netip.Prefix{netip.PrefixFrom(address, address.BitLen())}
		} else {
			out.rule.Hosts = []names.Pattern{pattern}
		}
	}
	for _, port := range spec.Ports {
		compiled, err := compilePort(port.Port, port.Protocol)
		if err != nil {
			return nil, err
		}
		out.rule.Ports = append(out.rule.Ports, compiled)
	}
	return out.seal()
}

// family is what two protocols must share to be on one port, as in Istio 0.5.
func family(p policy.Protocol) string {
	switch p {
	case policy.ProtocolHTTP, policy.ProtocolHTTPS, policy.ProtocolHTTP2, policy.ProtocolGRPC:
		return "HTTP"
	case policy.ProtocolMongo:
		return "MONGO"
	default:
		return "TCP"
	}
}

// maxNamedRules is how many of the rules that another one conflicts with its status
// names; of the others it says how many they are.
const maxNamedRules = 3

// portHolder is the rules that hold one port in one namespace.
type portHolder struct {
	protocol string
	rules    []string // the first ones
	more     int      // further ones
	last     string   // that was added
}

// add counts a rule; one that has the port twice comes twice, one time after the
// other.
func (h *portHolder) add(id string) {
	switch {
	case h.last == id:
	case len(h.rules) < maxNamedRules:
		h.rules = append(h.rules, id)
	default:
		h.more++
	}
	h.last = id
}

// String lists the rules as Istio 0.5 did: "[a b]", but only the first of many:
// "[a b c and 7 more]".
func (h *portHolder) String() string {
	if h.more == 0 {
		return fmt.Sprint(h.rules)
	}
	return fmt.Sprintf("[%s and %d more]", strings.Join(h.rules, " "), h.more)
}

// dropConflicts drops each EgressRule of a namespace that conflicts with one of a smaller
// key: the same destination, or another protocol family on a port. The rules come sorted by
// key. Policies of our own never conflict.
func dropConflicts(rules []*compiledEgress) (kept []*compiledEgress, problems []Problem) {
	domains := make(map[string]string)
	ports := make(map[uint16]*portHolder)
	report := func(id, text string) { problems = append(problems, Problem{Object: id, Text: text}) }
	for _, rule := range rules {
		if rule.domain == "" {
			kept = append(kept, rule)
			continue
		}
		if other, ok := domains[rule.domain]; ok {
			report(rule.rule.ID, fmt.Sprintf("rule %s conflicts with rule %s on domain %s, is rejected", rule.rule.ID, other, rule.domain))
			continue
		}
		conflict := ""
		for _, port := range rule.rule.Ports {
			holder := ports[port.Port]
			if holder != nil && holder.protocol != family(port.Protocol) {
				conflict = fmt.Sprintf("rule %s is rejected since it conflicts rules %s on port %d, protocol %s vs. protocol %s",
					rule.rule.ID, holder, port.Port, family(port.Protocol), holder.protocol)
				break
			}
		}
		if conflict != "" {
			report(rule.rule.ID, conflict)
			continue
		}
		domains[rule.domain] = rule.rule.ID
		for _, port := range rule.rule.Ports {
			if ports[port.Port] == nil {
				ports[port.Port] = &portHolder{protocol: family(port.Protocol)}
			}
			ports[port.Port].add(rule.rule.ID)
		}
		kept = append(kept, rule)
	}
	return kept, problems
}
