package advice

import (
	"fmt"
	"slices"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// Answer decides a question on a snapshot, for one of its workloads, by the calls
// that the proxy makes.
func Answer(q Question, snapshot *wire.Snapshot, workload wire.Workload) (Explanation, error) {
	if service := serviceOf(q.Chain.Dialled, snapshot.Directory, workload.Namespace); service != nil {
		if len(q.Answers) > 0 {
			return Explanation{}, &QuestionError{fmt.Sprintf("%s is a service of the mesh, which no DNS server outside is asked about: leave the answers out", service.Name)}
		}
		e := inside(service, q.Chain.Port)
		if e.Verdict != policy.Allow.String() {
			return e, nil
		}
		r, denied, err := routed(&q, route.Destination{Service: service.Name}, snapshot)
		e = led(e, r, denied, Options{Namespace: workload.Namespace, Labels: workload.Labels})
		if r != nil {
			e.lookAtSubnets(&q, snapshot.Routes.Services, func(of *route.Rules) bool { return of.Service == service.Name })
		}
		return e, err
	}
	if isIngress(workload) {
		return entering(&q, snapshot)
	}
	set, err := setOf(snapshot)
	if err != nil {
		return Explanation{}, err
	}
	opts := Options{Namespace: workload.Namespace, Labels: workload.Labels}
	e, v := ask(set, &q, opts)
	if !v.Passes() || v.Name.IsZero() || v.Treatment != policy.Forward && v.Treatment != policy.Originate {
		return e, nil
	}
	r, denied, err := routed(&q, route.Destination{Host: v.Name}, snapshot)
	e = led(e, r, denied, opts)
	if snapshot.Routes != nil {
		e.lookAtSubnets(&q, snapshot.Routes.Hosts, func(of *route.Rules) bool { return of.Host.Match(v.Name) })
	}
	return e, err
}

// led explains what the route rules do with what is allowed; where they lead to what is denied
// alone, it is that.
func led(e Explanation, r *Routed, denied *deniedTo, opts Options) Explanation {
	if denied != nil {
		e = Explain(denied.set, &denied.chain, denied.verdict, opts)
	}
	e.Route = r
	return e
}

// QuestionError is a question that cannot be answered as it is asked.
type QuestionError struct{ Text string }

func (e *QuestionError) Error() string { return e.Text }

// setOf compiles the rules of a snapshot as the proxy does.
func setOf(snapshot *wire.Snapshot) (*policy.Set, error) {
	options, err := snapshot.PolicyOptions()
	if err != nil {
		return nil, fmt.Errorf("compile the rules of snapshot %s: %w", snapshot.Version, err)
	}
	set, err := policy.NewSet(snapshot.Rules(), options)
	if err != nil {
		return nil, fmt.Errorf("compile the rules of snapshot %s: %w", snapshot.Version, err)
	}
	return set, nil
}

// ask explains what a proxy with these rules does with what is asked about.
func ask(set *policy.Set, q *Question, opts Options) (Explanation, policy.Verdict) {
	o := follow(set, &q.Chain, q.Answers)
	if len(o.refused) > 0 {
		opts.Refused = o.refused[0]
	}
	e := Explain(set, &q.Chain, o.verdict, opts)
	e.Answers = o.answers
	return e, o.verdict
}

// inside answers for a service of the mesh: there the address that was dialled
// decides, and calls are allowed.
func inside(service *wire.Service, at uint16) Explanation {
	e := Explanation{
		Verdict:     policy.Allow.String(),
		Destination: service.Name.String() + ":" + port(at),
		Treatment:   policy.Mesh.String(),
		Sentence:    fmt.Sprintf("%s is a service of the mesh; calls between its services are allowed.", service.Name),
		Proofs:      []Proof{{Link: "dialled", Value: service.Name.String(), ProvedBy: "its synthetic address, which stands for this service alone"}},
	}
	if _, ok := service.Find(at); ok {
		return e
	}
	e.Verdict, e.Treatment, e.Reason = VerdictError, "", refusal.NoSuchPort
	e.Sentence = fmt.Sprintf("%s is a service of the mesh; calls between its services are allowed, but it has no port %d.", service.Name, at)
	return e
}

// lookAtSubnets says that a route rule of a destination does, which nobody who asks shows.
func (e *Explanation) lookAtSubnets(q *Question, all []route.Rules, of func(*route.Rules) bool) {
	if q.followed == "" && slices.ContainsFunc(all, func(r route.Rules) bool {
		return of(&r) && slices.ContainsFunc(r.Rules, func(rule route.Rule) bool { return len(rule.Match.Source)+len(rule.Match.Destination) > 0 })
	}) {
		e.Unseen = append(e.Unseen, "where the connection comes from and goes to, which a RouteRule of this destination looks at (match.tcp): it is taken not to match")
	}
}

// serviceOf finds the service that a workload of namespace means by name, as its
// resolver does.
func serviceOf(name names.Name, directory *wire.Directory, namespace string) *wire.Service {
	if directory == nil || name.IsZero() {
		return nil
	}
	domain, _ := names.Parse(directory.Domain) // one that is not valid holds no full name
	key, ok := wire.SpelledService(name, domain, namespace)
	if !ok {
		return nil
	}
	for i := range directory.Services {
		if s := &directory.Services[i]; s.Short == key.Short && s.Namespace == key.Namespace {
			return s
		}
	}
	return nil
}
