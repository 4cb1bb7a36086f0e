package compile

import (
	"fmt"
	"strings"
	"testing"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/wire"
)

// ingress is the workload as which sluice-proxy --ingress joins.
func ingress(t *testing.T) wire.Workload {
	t.Helper()
	w, err := wire.Workload{Instance: "istio-ingress/1", Namespace: "default", Labels: map[string]string{"app": "istio-ingress", "istio": "ingress"}}.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// policyFrom opens a host for the workloads that from selects.
func policyFrom(name, namespace string, from *v1alpha1.WorkloadSelector) api.Object {
	policy := egressPolicy(namespace, name, nil, "cnn.com")
	policy.Spec.(*v1alpha1.EgressPolicySpec).From = from
	return policy
}

func routeFrom(name string, source istio.Service) api.Object {
	return routeRule(name, &istio.RouteRuleSpec{Destination: &istio.Service{Name: "details"}, Match: &istio.MatchCondition{Source: &source}})
}

func TestTheIngressIsASourceUnderItsNameInIstio(t *testing.T) {
	for name, c := range map[string]struct {
		source istio.Service
		want   bool
	}{
		"the name alone":              {istio.Service{Name: "istio-ingress"}, true},
		"in Istio's namespace":        {istio.Service{Name: "istio-ingress", Namespace: "istio-system"}, true},
		"in ours":                     {istio.Service{Name: "istio-ingress", Namespace: "sluice-system"}, true},
		"with its label":              {istio.Service{Name: "istio-ingress", Labels: map[string]string{"istio": "ingress"}}, true},
		"as a whole name":             {istio.Service{Service: "istio-ingress.istio-system.svc.cluster.local"}, true},
		"with a label of another":     {istio.Service{Name: "istio-ingress", Labels: map[string]string{"istio": "egress"}}, false},
		"in a namespace of no matter": {istio.Service{Name: "istio-ingress", Namespace: "shop"}, false},
		"another name":                {istio.Service{Name: "ingress"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			out := Compile(Input{Objects: []api.Object{routeFrom("r", c.source)}, Workloads: []wire.Workload{ingress(t), workload(t, "details-v1/1", "default")}})
			if got := len(snapshotOf(t, out, ingress(t)).Routes.Services) == 1; got != c.want {
				t.Errorf("the ingress is routed: %t", got)
			}
			if len(snapshotOf(t, out, workload(t, "productpage-v1/1", "default")).Routes.Services) != 0 {
				t.Error("a workload that is not the ingress is routed")
			}
			if warned := len(out.Warnings()) > 0; warned == c.want {
				t.Errorf("warnings: %v", out.Warnings())
			}
		})
	}
}

func TestWhatSelectsNoRunningWorkloadIsWarnedOf(t *testing.T) {
	labels := func(version string) map[string]string { return map[string]string{"version": version} }
	client := workload(t, "client-v1/1", "shop")
	client.Ports = nil
	running := []wire.Workload{workload(t, "details-v1/1", "default"), workload(t, "reviews-v2/1", "default"), client}
	for name, c := range map[string]struct {
		object api.Object
		want   string
	}{
		"a source": {routeFrom("r", istio.Service{Name: "ratings"}),
			"has a spec.match.source that selects no running workload: none is behind ratings.default.svc.cluster.local"},
		"a source's labels": {routeFrom("r", istio.Service{Name: "reviews", Labels: map[string]string{"version": "v9", "a": "b"}}),
			"has a spec.match.source that selects no running workload: none behind reviews.default.svc.cluster.local has the labels a=b,version=v9"},
		"an ingress that does not run": {routeFrom("r", istio.Service{Name: "istio-ingress"}),
			"has a spec.match.source that selects no running workload: none is behind istio-ingress.default.svc.cluster.local"},
		"a source that runs": {routeFrom("r", istio.Service{Name: "reviews", Labels: labels("v2")}), ""},
		"a destination": {routeRule("r", &istio.RouteRuleSpec{Destination: &istio.Service{Name: "detials"}, Route: []istio.DestinationWeight{{Labels: labels("v1")}}}),
			"has a spec.destination that selects no running workload: none serves detials.default.svc.cluster.local"},
		"a destination that calls and does not serve": {routeRule("r", &istio.RouteRuleSpec{Destination: &istio.Service{Name: "client", Namespace: "shop"}}),
			"has a spec.destination that selects no running workload: none serves client.shop.svc.cluster.local"},
		"a version": {routeRule("r", &istio.RouteRuleSpec{Destination: &istio.Service{Name: "details"}, Route: []istio.DestinationWeight{{Labels: labels("v1"), Weight: 50}, {Labels: labels("v2"), Weight: 50}}}),
			"has spec.route[1].labels that select no running workload: none that serves details.default.svc.cluster.local has the label version=v2"},
		"another destination": {routeRule("r", &istio.RouteRuleSpec{Destination: &istio.Service{Name: "details"}, Route: []istio.DestinationWeight{{Destination: &istio.Service{Name: "ratings"}, Labels: labels("v1")}}}),
			"has a spec.route[0].destination that selects no running workload: none serves ratings.default.svc.cluster.local"},
		"a version that runs": {routeRule("r", &istio.RouteRuleSpec{Destination: &istio.Service{Name: "details"}, Route: []istio.DestinationWeight{{Labels: labels("v1")}}}), ""},
		"labels": {policyFrom("p", "default", &v1alpha1.WorkloadSelector{Labels: labels("v9")}),
			"has a spec.from that selects no running workload: none in namespace default has the label version=v9"},
		"labels of another namespace's": {policyFrom("p", "shop", &v1alpha1.WorkloadSelector{Labels: labels("v2")}),
			"has a spec.from that selects no running workload: none in namespace shop has the label version=v2"},
		"labels anywhere": {policyFrom("p", "sluice-system", &v1alpha1.WorkloadSelector{Labels: labels("v9"), ServiceAccounts: []string{"a", "b"}}),
			"has a spec.from that selects no running workload: none in any namespace has the label version=v9 and runs as a or b"},
		"accounts": {policyFrom("p", "default", &v1alpha1.WorkloadSelector{ServiceAccounts: []string{"a"}}),
			"has a spec.from that selects no running workload: none in namespace default runs as a"},
		"labels that run":          {policyFrom("p", "default", &v1alpha1.WorkloadSelector{Labels: labels("v2")}), ""},
		"labels that run anywhere": {policyFrom("p", "sluice-system", &v1alpha1.WorkloadSelector{Labels: labels("v2")}), ""},
		"everyone":                 {policyFrom("p", "empty", nil), ""},
		"a namespace": {object("sluice.dev/v1alpha1", "MeshConfig", "", "default", &v1alpha1.MeshConfigSpec{
			Namespaces: map[string]v1alpha1.NamespaceConfig{"shop": {OutboundDefault: "Deny"}, "shpo": {OutboundDefault: "Deny"}}}),
			"names under spec.namespaces shpo, in which no workload is running"},
	} {
		t.Run(name, func(t *testing.T) {
			out := Compile(Input{Objects: []api.Object{c.object}, Workloads: running})
			if len(out.Problems) > 0 {
				t.Fatal(out.Problems)
			}
			for asked, got := range map[string][]Warning{
				"among all": out.Warnings()[c.object.ID()], "before it is stored": Compile(Input{Workloads: running}).WarningsOf(&c.object),
			} {
				var texts []string
				for _, warning := range got {
					if !warning.SelectsNothing {
						t.Errorf("%s: %q is said to stay", asked, warning.Text)
					}
					texts = append(texts, warning.Text)
				}
				if text := strings.Join(texts, "|"); text != c.want {
					t.Errorf("%s:\n got %s\nwant %s", asked, text, c.want)
				}
			}
		})
	}
}

// What a rule may mean by mistake whoever runs is among the warnings too, and stays.
func TestWarningsHoldWhatValidationKnows(t *testing.T) {
	rule := egressRule("sluice-system", "r", "cnn.com", "443/http")
	out := Compile(Input{Objects: []api.Object{rule, egressRule("sluice-system", "refused", "cnn.com", "443/gopher")}})
	got := out.Warnings()
	if len(got) != 1 || len(got[rule.ID()]) != 1 || got[rule.ID()][0].SelectsNothing || !strings.HasPrefix(got[rule.ID()][0].Text, "has port: 443 protocol: http,") {
		t.Errorf("got %v", got)
	}
}

func TestWarningsAreBounded(t *testing.T) {
	spec := &v1alpha1.MeshConfigSpec{Namespaces: map[string]v1alpha1.NamespaceConfig{}}
	for i := range 1000 {
		spec.Namespaces[fmt.Sprintf("n%04d", i)] = v1alpha1.NamespaceConfig{OutboundDefault: "Deny"}
	}
	from := &v1alpha1.WorkloadSelector{Labels: map[string]string{}}
	for i := range 64 {
		from.Labels[fmt.Sprintf("a-long-label-%d", i)] = strings.Repeat("v", 63)
	}
	out := Compile(Input{Objects: []api.Object{object("sluice.dev/v1alpha1", "MeshConfig", "", "default", spec), policyFrom("p", "default", from)}})
	config, rule := out.Warnings()["mesh-config/default"], out.Warnings()["egress-policy/default/p"]
	if len(config) != maxUnselective+1 || config[maxUnselective].Text != "selects nothing in 984 more places" {
		t.Errorf("%d warnings, the last is %v", len(config), config[len(config)-1])
	}
	if len(rule) != 1 || len(rule[0].Text) > 400 {
		t.Errorf("got %v", rule)
	}
}

// A thousand rules that select nobody and share a label with a thousand workloads
// of one class are looked at once.
func BenchmarkWarnings(b *testing.B) {
	var in Input
	for i := range 1000 {
		in.Objects = append(in.Objects, policyFrom(fmt.Sprint("p", i), "default", &v1alpha1.WorkloadSelector{Labels: map[string]string{"app": "a", "version": "v1"}, ServiceAccounts: []string{"nobody"}}))
		in.Workloads = append(in.Workloads, wire.Workload{Instance: fmt.Sprint("a/", i), Namespace: "default", Labels: map[string]string{"app": "a", "version": "v1"}})
	}
	out := Compile(in)
	for b.Loop() {
		out.prepareWarnings()
		if len(out.Warnings()) != 1000 {
			b.Fatal(len(out.Warnings()))
		}
	}
}
