package advice

import (
	"fmt"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/wire"
)

// Answer decides a question on a snapshot, for one of its workloads.
func Answer(q Question, snapshot *wire.Snapshot, workload wire.Workload) (Explanation, error) {
	if inside, ok := answerInside(q, snapshot, workload.Namespace); ok {
		return inside, nil
	}
	var rules []policy.Rule
	if snapshot.Policy != nil {
		rules = snapshot.Policy.Rules
	}
	set, err := policy.NewSet(rules, policy.Options{Version: snapshot.Version})
	if err != nil {
		return Explanation{}, fmt.Errorf("compile the rules of snapshot %s: %w", snapshot.Version, err)
	}
	return Explain(set, &q.Chain, set.Decide(&q.Chain), Options{
		Namespace: workload.Namespace, Labels: workload.Labels,
	}), nil
}

// answerInside answers for a service of the mesh: there the address that was
// dialled decides, and calls are allowed.
func answerInside(q Question, snapshot *wire.Snapshot, namespace string) (Explanation, bool) {
	service := serviceOf(q.Chain.Dialled, snapshot.Directory, namespace)
	if service == nil {
		return Explanation{}, false
	}
	e := Explanation{
		Verdict:     policy.Allow.String(),
		Destination: service.Name.String() + ":" + port(q.Chain.Port),
		Treatment:   "mesh",
		Sentence:    fmt.Sprintf("%s is a service of the mesh; calls between its services are allowed.", service.Name),
		Proofs:      []Proof{{Link: "dialled", Value: service.Name.String(), ProvedBy: "its synthetic address, which stands for this service alone"}},
	}
	for _, p := range service.Ports {
		if p.Port == q.Chain.Port {
			return e, true
		}
	}
	e.Verdict, e.Treatment, e.Reason = policy.Deny.String(), "", refusal.NoRule
	e.Sentence = fmt.Sprintf("%s is a service of the mesh and has no port %d.", service.Name, q.Chain.Port)
	return e, true
}

// serviceOf finds the service that a workload of namespace means by name: the
// full name, or a short one as its resolver completes it.
func serviceOf(name names.Name, directory *wire.Directory, namespace string) *wire.Service {
	if directory == nil || name.IsZero() {
		return nil
	}
	for i := range directory.Services {
		service := &directory.Services[i]
		short := service.Short + "." + service.Namespace
		switch name.String() {
		case service.Name.String(), short, short + ".svc":
			return service
		case service.Short:
			if service.Namespace == namespace {
				return service
			}
		}
	}
	return nil
}
