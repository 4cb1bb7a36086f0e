package compile

import (
	"strings"
	"testing"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/wire"
)

// knownService is a service of a census with one endpoint.
func knownService(t *testing.T, short, instance string, selector map[string]string) *Service {
	t.Helper()
	name, err := names.Parse(short + ".default.svc.cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	return &Service{
		Service:   wire.Service{Name: name, Short: short, Namespace: "default", Ports: []wire.ServicePort{{Port: 80}}},
		Selector:  selector,
		Endpoints: []wire.Endpoint{{Instance: instance, Ports: []uint16{80}}},
	}
}

func TestTheServicesThatACensusKnowsAreThoseOfTheMeshAndNoOthers(t *testing.T) {
	web := knownService(t, "web", "web-1.default", map[string]string{"app": "web"})
	alias := knownService(t, "broken", "x", nil)
	alias.Problem = "spec.externalName: not a name"
	out := Compile(Input{
		Services: []*Service{web, alias},
		Objects: []api.Object{{
			APIVersion: "sluice.dev/v1alpha1", Kind: "MeshService", Metadata: api.Meta{Name: "mine", Namespace: "default"},
			Spec: &v1alpha1.MeshServiceSpec{Ports: []v1alpha1.ServicePort{{Port: 80}}},
		}},
		Workloads: []wire.Workload{{Instance: "web-1.default", Namespace: "default", Service: "claimed", Ports: []uint16{80}, Labels: map[string]string{"app": "web"}}},
	})
	snapshot, err := out.ForWorkload(wire.Workload{Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	if all := snapshot.Directory.Services; len(all) != 1 || all[0].Short != "web" {
		t.Errorf("the services are %+v", all)
	}
	if all := snapshot.Endpoints; len(all) != 1 || len(all[0].Endpoints) != 1 || all[0].Endpoints[0].Instance != "web-1.default" {
		t.Errorf("the endpoints are %+v", all)
	}
	var texts []string
	for _, problem := range out.Problems {
		texts = append(texts, problem.Object+": "+problem.Text)
	}
	if all := strings.Join(texts, "\n"); !strings.Contains(all, "mesh-service/default/mine: has no effect on a cluster") || !strings.Contains(all, "service/default/broken: spec.externalName") {
		t.Errorf("the problems are\n%s", all)
	}
}

func TestAServiceThatDidNotChangeIsNotEncodedAgain(t *testing.T) {
	web, other := knownService(t, "web", "web-1.default", nil), knownService(t, "other", "other-1.default", nil)
	var compiler Compiler
	part := func(services ...*Service) *wire.Part {
		view, err := compiler.Compile(Input{Services: services}).View(wire.Workload{Namespace: "default"})
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range view.Parts {
			if part.Name == wire.PartEndpoints+web.Name.String() {
				return part
			}
		}
		return nil
	}
	first := part(web, other)
	if second := part(web, knownService(t, "other", "other-2.default", nil)); second != first || first == nil {
		t.Error("the part of a service was made again though it is the same")
	}
	if changed := part(knownService(t, "web", "web-2.default", nil), other); changed == nil || changed.Hash == first.Hash {
		t.Error("the part of a service that changed is the old one")
	}
}
