package compile

import (
	"strings"
	"testing"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

func destinationPolicy(name string, spec *istio.DestinationPolicySpec) api.Object {
	return object("config.istio.io/v1alpha2", "DestinationPolicy", "default", name, spec)
}

func balanced(labels map[string]string, source *istio.Service, by string) *istio.DestinationPolicySpec {
	return &istio.DestinationPolicySpec{Destination: &istio.Service{Name: "details", Labels: labels}, Source: source, LoadBalancing: &istio.LoadBalancing{Name: by}}
}

func TestOfSeveralDestinationPoliciesTheSmallestKeyThatHoldsForTheCallerCounts(t *testing.T) {
	v1 := map[string]string{"version": "v1"}
	out := Compile(Input{
		Objects: []api.Object{
			destinationPolicy("c", balanced(nil, nil, "RANDOM")),
			destinationPolicy("a", balanced(nil, &istio.Service{Name: "productpage"}, "LEAST_CONN")),
			destinationPolicy("b", balanced(v1, nil, "LEAST_CONN")),
			destinationPolicy("d", balanced(v1, nil, "RANDOM")),
		},
		Workloads: []wire.Workload{workload(t, "details-v1/1", "default")},
	})
	if len(out.Problems) > 0 {
		t.Fatal(out.Problems)
	}
	for caller, want := range map[string]string{
		"productpage-v1/1": "destination-policy/default/a LeastLoaded, destination-policy/default/b LeastLoaded",
		"reviews-v1/1":     "destination-policy/default/b LeastLoaded, destination-policy/default/c Random",
	} {
		var got []string
		for _, p := range snapshotOf(t, out, workload(t, caller, "default")).Routes.Destinations {
			got = append(got, p.ID+" "+string(p.Balance.By))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: %v", caller, got)
		}
	}
}

func TestAChangeOfADestinationPolicyReachesTheSnapshot(t *testing.T) {
	var c Compiler
	caller := workload(t, "productpage-v1/1", "default")
	in := Input{Workloads: []wire.Workload{workload(t, "details-v1/1", "default")}}
	versions := make(map[string]bool)
	for _, objects := range [][]api.Object{
		nil,
		{destinationPolicy("a", balanced(nil, nil, "RANDOM"))},
		{destinationPolicy("a", balanced(nil, nil, "LEAST_CONN"))},
	} {
		in.Objects = objects
		out := c.Compile(in)
		s := snapshotOf(t, out, caller)
		if len(s.Routes.Destinations) != len(objects) {
			t.Errorf("%d policies of %d", len(s.Routes.Destinations), len(objects))
		}
		versions[s.Version] = true
	}
	if len(versions) != 3 {
		t.Errorf("%d versions of three snapshots", len(versions))
	}
}

func TestADestinationPolicyThatSelectsNobodyHasAWarning(t *testing.T) {
	out := Compile(Input{
		Objects: []api.Object{
			destinationPolicy("a", &istio.DestinationPolicySpec{Destination: &istio.Service{Name: "nobody"}, LoadBalancing: &istio.LoadBalancing{Name: "RANDOM"}}),
			destinationPolicy("b", balanced(map[string]string{"version": "v9"}, &istio.Service{Name: "nobody"}, "RANDOM")),
		},
		Workloads: []wire.Workload{workload(t, "details-v1/1", "default")},
	})
	for id, want := range map[string][]string{
		"destination-policy/default/a": {"has a spec.destination that selects no running workload: none serves nobody.default.svc.cluster.local"},
		"destination-policy/default/b": {
			"has a spec.source that selects no running workload: none is behind nobody.default.svc.cluster.local",
			"has spec.destination.labels that select no running workload: none that serves details.default.svc.cluster.local has the label version=v9",
		},
	} {
		var got []string
		for _, w := range out.Warnings()[id] {
			got = append(got, w.Text)
		}
		equal(t, id, got, want)
	}
}

func TestWhatAProxyCouldNotDoIsAProblem(t *testing.T) {
	for want, spec := range map[string]*istio.DestinationPolicySpec{
		"destination is required":             {LoadBalancing: &istio.LoadBalancing{Name: "RANDOM"}},
		`load balancing "MAGLEV"`:             balanced(nil, nil, "MAGLEV"),
		"a ring hash without a header":        {Destination: &istio.Service{Name: "details"}, LoadBalancing: &istio.LoadBalancing{Custom: &istio.CustomBalancing{RingHash: &istio.RingHash{}}}},
		"circuitBreaker takes simpleCb":       {Destination: &istio.Service{Name: "details"}, CircuitBreaker: &istio.CircuitBreaker{}},
		"a policy about hosts has limits":     {Destination: &istio.Service{Service: "*.googleapis.com"}},
		"is outside the mesh, where no endpo": {Destination: &istio.Service{Service: "*.googleapis.com"}, LoadBalancing: &istio.LoadBalancing{Name: "RANDOM"}},
		"101 to 1000":                         {Destination: &istio.Service{Name: "details"}, LoadBalancing: &istio.LoadBalancing{Custom: &istio.CustomBalancing{RingHash: &istio.RingHash{Header: "a", MaxLoad: 7}}}},
	} {
		out := Compile(Input{Objects: []api.Object{destinationPolicy("a", spec)}})
		if len(out.Problems) != 1 || !strings.Contains(out.Problems[0].Text, want) {
			t.Errorf("%s: %v", want, out.Problems)
		}
		if n := len(snapshotOf(t, out, workload(t, "details-v1/1", "default")).Routes.Destinations); n != 0 {
			t.Errorf("%s: %d policies are sent", want, n)
		}
	}
	if err := (&route.DestinationPolicy{}).Check(); err == nil {
		t.Error("a policy for nothing is taken")
	}
}

// What leaves the mesh is bounded by its own namespace alone, or by the root.
func TestAPolicyAboutHostsHoldsInItsOwnNamespace(t *testing.T) {
	breaker := &istio.CircuitBreaker{SimpleCb: &istio.SimpleCircuitBreaker{HTTPMaxRequests: 7}}
	about := func(namespace, name, host string) api.Object {
		return object("config.istio.io/v1alpha2", "DestinationPolicy", namespace, name, &istio.DestinationPolicySpec{Destination: &istio.Service{Service: host}, CircuitBreaker: breaker})
	}
	caller := workload(t, "productpage-v1/1", "default")
	out := Compile(Input{
		Objects: []api.Object{
			about("default", "b", "*.googleapis.com"), about("default", "c", "*.googleapis.com"), about("other", "a", "www.googleapis.com"), about(RootNamespace, "d", "example.com"),
		},
		Workloads: []wire.Workload{caller},
	})
	if len(out.Problems) > 0 {
		t.Fatal(out.Problems)
	}
	var got []string
	for _, p := range snapshotOf(t, out, caller).Routes.Destinations {
		got = append(got, p.ID+" "+p.Hosts.String())
	}
	if want := "destination-policy/default/b *.googleapis.com, destination-policy/" + RootNamespace + "/d example.com"; strings.Join(got, ", ") != want {
		t.Errorf("%q, want %s", got, want)
	}
	if said := out.Warnings()["destination-policy/default/b"]; len(said) > 0 {
		t.Errorf("warned of: %v", said)
	}
}
