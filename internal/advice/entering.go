package advice

import (
	"fmt"
	"strings"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/internal/edge"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// isIngress reports whether what is asked about a workload comes in by it.
func isIngress(w wire.Workload) bool { return w.Labels[istio.IngressLabel] == istio.IngressLabelValue }

// entering answers for a request that comes in by an ingress: by the rule of its host and path,
// and the route rules of the service that this leads to.
func entering(q *Question, snapshot *wire.Snapshot) (Explanation, error) {
	if q.Chain.Sniffed != policy.HTTP {
		return Explanation{}, &QuestionError{"an ingress takes requests: ask about http://HOST/PATH"}
	}
	var rules *edge.Rules
	if snapshot.Routes != nil {
		rules = snapshot.Routes.Ingress
	}
	table, err := edge.NewTable(rules)
	if err != nil {
		return Explanation{}, fmt.Errorf("compile the ingress rules of snapshot %s: %w", snapshot.Version, err)
	}
	e := Explanation{Verdict: policy.Deny.String(), Destination: q.authority, Reason: refusal.NoRoute}
	found := table.Find(edge.Listener{Port: q.Chain.Port}, q.Chain.Host.Name, q.Chain.Path)
	if found.Rule == nil {
		e.Sentence = notLed(rules, q, found.Ambiguous)
		return e, nil
	}
	service := serviceNamed(found.Rule.Service, snapshot)
	e.Rule, e.Destination = found.Rule.ID, found.Rule.Service.String()+":"+port(found.Rule.To)
	if service == nil {
		e.Verdict, e.Reason = VerdictError, refusal.NoHealthyUpstream
		e.Sentence = fmt.Sprintf("%s leads it to %s, which has no workload yet.", found.Rule.ID, found.Rule.Service)
		return e, nil
	}
	behind := inside(service, found.Rule.To)
	behind.Rule, behind.Proofs = found.Rule.ID, nil
	behind.Sentence = fmt.Sprintf("%s leads it to %s.", found.Rule.ID, found.Rule.Service)
	if behind.Verdict != policy.Allow.String() {
		behind.Sentence = fmt.Sprintf("%s leads it to port %d of %s, which has no such port.", found.Rule.ID, found.Rule.To, found.Rule.Service)
		return behind, nil
	}
	led := *q
	led.Chain.Port = found.Rule.To
	r, _, err := routed(&led, route.Destination{Service: found.Rule.Service}, snapshot)
	behind.Route = r
	return behind, err
}

// maxNamed bounds the paths that a sentence names.
const maxNamed = 8

// notLed says why no rule leads a request.
func notLed(rules *edge.Rules, q *Question, ambiguous bool) string {
	switch {
	case ambiguous:
		return "The path can be read in more than one way, and rules of this ingress look at paths: none of them leads it."
	case rules.Empty():
		return "No Ingress or IngressRule has a rule for the ingress."
	}
	var paths []string
	for i := range rules.Hosts {
		if r := &rules.Hosts[i]; r.Host == q.Chain.Host.Name.String() && len(paths) <= maxNamed {
			paths = append(paths, r.Path+" ("+r.ID+")")
		}
	}
	switch {
	case len(paths) > maxNamed:
		return fmt.Sprintf("None of the paths of %s leads it.", q.Chain.Host)
	case len(paths) > 0:
		return fmt.Sprintf("The rules of %s are for other paths: %s.", q.Chain.Host, strings.Join(paths, ", "))
	}
	return fmt.Sprintf("No rule is for the host %s and this path.", q.Chain.Host)
}

// serviceNamed finds a service by its full name.
func serviceNamed(full names.Name, snapshot *wire.Snapshot) *wire.Service {
	if snapshot.Directory == nil {
		return nil
	}
	for i := range snapshot.Directory.Services {
		if s := &snapshot.Directory.Services[i]; s.Name == full && s.Alias.IsZero() {
			return s
		}
	}
	return nil
}
