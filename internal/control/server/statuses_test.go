package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/control/compile"
)

const routeRules = "/apis/config.istio.io/v1alpha2/namespaces/default/routerules"

// conditions reads the conditions of an object, by type.
func conditions(t *testing.T, c Config, path string) map[string]v1alpha1.Condition {
	t.Helper()
	_, answer := ask(t, c, "GET", path, "")
	var status v1alpha1.Status
	_ = json.Unmarshal(decode[api.Object](t, answer).Status, &status)
	all := make(map[string]v1alpha1.Condition)
	for _, condition := range status.Conditions {
		all[condition.Type] = condition
	}
	return all
}

func TestTheStatusOfARuleThatLosesAConflictSaysSo(t *testing.T) {
	c := config(t)
	if _, err := start(t, c); err != nil {
		t.Fatal(err)
	}
	create(t, c, "first", "*.googleapis.com")
	create(t, c, "second", "*.googleapis.com")
	of := func(name string) map[string]v1alpha1.Condition { return conditions(t, c, egressRules+"/"+name) }
	waitFor(t, "both statuses", func() bool { return len(of("first")) > 0 && len(of("second")) > 0 })
	if first := of("first"); first["Accepted"].Status != "True" || first["Programmed"].Status != "True" {
		t.Errorf("the winner: %+v", first)
	}
	second := of("second")
	if second["Accepted"].Status != "False" || !strings.Contains(second["Accepted"].Message, "conflicts with rule") {
		t.Errorf("the loser: %+v", second)
	}
}

// Whoever creates a rule that selects nobody is warned at once, its status says the
// same, and no longer once somebody runs whom it selects.
func TestARuleThatSelectsNobodySaysSoUntilItSelectsSomebody(t *testing.T) {
	c := config(t)
	if _, err := start(t, c); err != nil {
		t.Fatal(err)
	}
	const nobody = "has a spec.destination that selects no running workload: none serves details.default.svc.cluster.local"
	code, header, answer := askForHeader(t, c, "POST", routeRules,
		`{"apiVersion":"config.istio.io/v1alpha2","kind":"RouteRule","metadata":{"name":"details"},"spec":{"destination":{"name":"details"},"route":[{"labels":{"version":"v1"}}]}}`)
	if got := header.Values("Warning"); code != http.StatusCreated || len(got) != 1 || got[0] != `299 - "route-rule/default/details `+nobody+`"` {
		t.Fatalf("%d, warnings %q, %s", code, got, answer)
	}
	warning := func() v1alpha1.Condition { return conditions(t, c, routeRules+"/details")["Warning"] }
	waitFor(t, "the condition", func() bool { return warning().Status == "True" })
	if got := warning(); got.Reason != "SelectsNothing" || got.Message != nobody || got.LastTransitionTime == "" || got.ObservedGeneration != 1 {
		t.Errorf("the condition: %+v", got)
	}
	if all := conditions(t, c, routeRules+"/details"); all["Accepted"].Status != "True" {
		t.Errorf("it is not in effect: %+v", all)
	}
	details := newProxy(t, c).joinDetails(t)
	waitFor(t, "details to join", details.Connected)
	waitFor(t, "the condition to go", func() bool { return warning() == v1alpha1.Condition{} })
	details.Leave()
	waitFor(t, "the condition to come back", func() bool { return warning().Status == "True" })
}

// What validation alone can warn of is in the answer, and stays in the status.
func TestARuleThatMayNotMeanWhatItSaysKeepsItsWarning(t *testing.T) {
	c := config(t)
	if _, err := start(t, c); err != nil {
		t.Fatal(err)
	}
	const policies = "/apis/sluice.dev/v1alpha1/namespaces/default/egresspolicies"
	code, header, answer := askForHeader(t, c, "POST", policies,
		`{"apiVersion":"sluice.dev/v1alpha1","kind":"EgressPolicy","metadata":{"name":"wide"},"spec":{"to":{"cidrs":["0.0.0.0/0"],"ports":[{"port":22,"protocol":"tcp"}]}}}`)
	if got := header.Values("Warning"); code != http.StatusCreated || len(got) != 1 || !strings.HasPrefix(got[0], `299 - "egress-policy/default/wide allows 0.0.0.0/0, which is not consent to the special addresses in it`) {
		t.Fatalf("%d, warnings %q, %s", code, got, answer)
	}
	waitFor(t, "the condition", func() bool { return conditions(t, c, policies+"/wide")["Warning"].Reason == "Advice" })
}

func TestTheMessageOfAConditionIsBounded(t *testing.T) {
	var objects []api.Object
	spec := &v1alpha1.EgressPolicySpec{To: v1alpha1.EgressDestinations{Ports: []v1alpha1.EgressPort{{Port: 443, Protocol: "tcp"}}}}
	for range 1000 {
		spec.To.Hosts = append(spec.To.Hosts, "*."+strings.Repeat("a", 60)+".example.com")
	}
	objects = append(objects, api.Object{APIVersion: "sluice.dev/v1alpha1", Kind: "EgressPolicy", Metadata: api.Meta{Name: "p", Namespace: "default"}, Spec: spec})
	report := reportOf(compile.Compile(compile.Input{Objects: objects}), 1, 1)
	if text := report.Warnings["egress-policy/default/p"].Text; len(text) > 8<<10 || !strings.HasSuffix(text, "; has 984 more warnings") {
		t.Errorf("%d bytes: %s", len(text), text)
	}
}
