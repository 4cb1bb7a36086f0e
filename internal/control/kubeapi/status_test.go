package kubeapi

import (
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/deploy/crds"
)

func conditionOf(status v1alpha1.Status, kind string) v1alpha1.Condition {
	for _, condition := range status.Conditions {
		if condition.Type == kind {
			return condition
		}
	}
	return v1alpha1.Condition{}
}

func ruleAt(generation, since int64) stored {
	return stored{since: since, Object: api.Object{APIVersion: "config.istio.io/v1alpha2", Kind: "EgressRule",
		Metadata: api.Meta{Name: "rule", Namespace: "default", Generation: generation}}}
}

func TestAStatusSaysHowManyProxiesRunTheRule(t *testing.T) {
	rule := ruleAt(1, 1)
	for _, step := range []struct {
		running, connected int
		says               string
		differs            bool
	}{
		{0, 3, "the proxies of 0 of 3 connected workloads run it", true},
		{2, 3, "the proxies of 2 of 3 connected workloads run it", true},
		{2, 3, "the proxies of 2 of 3 connected workloads run it", false},
		{3, 3, "the proxies of all 3 connected workloads run it; whoever connects later runs it from the start", true},
		// Somebody comes, and somebody goes: that is no news of this rule.
		{3, 4, "the proxies of all 3 connected workloads run it; whoever connects later runs it from the start", false},
		{2, 2, "the proxies of all 3 connected workloads run it; whoever connects later runs it from the start", false},
	} {
		status, differs := statusOf(&rule, &Report{Running: step.running, Connected: step.connected})
		if got := conditionOf(status, ConditionProgrammed); got.Message != step.says || differs != step.differs {
			t.Errorf("%d of %d: %v, %+v; want %v, %s", step.running, step.connected, differs, got, step.differs, step.says)
		}
		rule.status = status
	}
	rule.Metadata.Generation = 2
	status, _ := statusOf(&rule, &Report{})
	if got := conditionOf(status, ConditionProgrammed); got.Message != "no workload was connected; whoever connects runs it from the start" || got.Status != "True" {
		t.Errorf("alone: %+v", got)
	}
}

func TestANumberThatMovesHoldsUpNoOtherStatus(t *testing.T) {
	s := &Store{}
	pending := ruleAt(1, 1)
	pending.status, _ = statusOf(&pending, &Report{Connected: 9})
	fresh := ruleAt(1, 2)
	fresh.Metadata.Name = "fresh"
	s.objects = []stored{pending, fresh}
	s.report = Report{Revision: 5, Running: 4, Connected: 9}
	due := s.due()
	if len(due) != 2 || due[0].object.Metadata.Name != "fresh" || due[1].object.Metadata.Name != "rule" {
		t.Errorf("%+v", due)
	}
}

// What the webhook of a cluster was not asked about is stored as it was written.
func TestAStoredObjectThatIsNotValidTakesNoEffectAndSaysWhy(t *testing.T) {
	store, err := NewStore(StoreConfig{API: &rest.Config{Host: "http://127.0.0.1:1"}, Kinds: api.Kinds(), Validate: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	sink := &kindSink{store: store, kind: api.Kinds()[0]}
	for _, object := range []string{"good", "bad"} {
		port := int64(443)
		if object == "bad" {
			port = 70000
		}
		if err := sink.Add(&unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"name": object, "namespace": "sluice-system", "generation": int64(1), "resourceVersion": "7"},
			"spec": map[string]any{
				"destination": map[string]any{"service": "one.example.com"},
				"ports":       []any{map[string]any{"port": port, "protocol": "https"}},
			},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	clear(store.missing)
	objects, _, _, ready := store.Objects()
	if !ready || len(objects) != 1 || objects[0].Metadata.Name != "good" {
		t.Errorf("%v %+v", ready, objects)
	}
	store.report.Revision = 7
	due := store.due()
	if len(due) != 2 {
		t.Errorf("%d statuses", len(due))
	}
	for _, one := range due {
		accepted := conditionOf(one.status, ConditionAccepted)
		if bad := one.object.Metadata.Name == "bad"; bad != (accepted.Status == "False") ||
			bad && !strings.Contains(accepted.Message, "spec.ports[0].port: port number 70000 must be in the range 1..65535") {
			t.Errorf("%s: %+v", one.object.Metadata.Name, accepted)
		}
	}
}

func TestAMeshConfigWithAFaultLeavesInForceWhatItWas(t *testing.T) {
	store, err := NewStore(StoreConfig{API: &rest.Config{Host: "http://127.0.0.1:1"}, Kinds: api.Kinds(), Validate: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(api.Kinds(), func(k *api.Kind) bool { return k.Name == "MeshConfig" })
	sink := &kindSink{store: store, kind: api.Kinds()[at]}
	clear(store.missing)
	item := func(generation int64, spec map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"name": "default", "generation": generation, "resourceVersion": strconv.FormatInt(generation, 10), "uid": "one"}, "spec": spec,
		}}
	}
	inForce := func() string {
		objects, _, _, _ := store.Objects()
		if len(objects) != 1 {
			return fmt.Sprintf("%d objects", len(objects))
		}
		return objects[0].Spec.(*v1alpha1.MeshConfigSpec).MaxStale
	}
	says := func() string {
		store.report.Revision = store.revision
		for _, one := range store.due() {
			if accepted := conditionOf(one.status, ConditionAccepted); accepted.Status == "False" {
				return accepted.Message
			}
		}
		return ""
	}
	good := func(stale string) map[string]any {
		return map[string]any{"maxStale": stale, "limits": map[string]any{"maxConnections": int64(7)}}
	}
	for i, step := range []struct {
		add     map[string]any
		replace bool
		want    string
		says    string // of the status
	}{
		{good("soon"), false, "0 objects", "maxStale"}, // there was nothing before it
		{good("1h"), false, "1h", ""},
		{good("soon"), false, "1h", "what it was before stays in force"},
		{good("sooner"), false, "1h", "what it was before stays in force"}, // a fault after a fault
		{map[string]any{"maxStale": int64(5)}, false, "1h", "spec cannot be read: "},
		{map[string]any{"maxStale": int64(6)}, true, "1h", "what it was before stays in force"},
		{good("2h"), true, "2h", ""},
		{good("soon"), true, "2h", "spec.maxStale"},
	} {
		fresh := item(int64(i+1), step.add)
		err := error(nil)
		if step.replace { // as where the watch broke
			err = sink.Replace([]any{fresh}, strconv.Itoa(i+1))
		} else {
			err = sink.Update(fresh)
		}
		if err != nil {
			t.Fatal(err)
		}
		// Somebody writes a status, which is no change of what is in force.
		again := fresh.DeepCopy()
		again.SetResourceVersion(strconv.Itoa(1000 + i))
		if err := sink.Update(again); err != nil {
			t.Fatal(err)
		}
		if got := inForce(); got != step.want {
			t.Errorf("step %d: in force is %s: want %s", i, got, step.want)
		}
		if got := says(); (got == "") != (step.says == "") || !strings.Contains(got, step.says) {
			t.Errorf("step %d: the status says %q: want %q", i, got, step.says)
		}
	}
	if err := sink.Delete(item(9, good("soon"))); err != nil {
		t.Fatal(err)
	}
	if got := inForce(); got != "0 objects" {
		t.Errorf("of one that was deleted %s is in force", got)
	}
}

func TestTheServerOfOneMachineRunsNoRulesInCEL(t *testing.T) {
	definitions, err := readDefinitions(crds.Files)
	if err != nil {
		t.Fatal(err)
	}
	rule := regexp.MustCompile(`\bself[ .]`) // no word of a description: each itself
	for _, definition := range definitions {
		if rule.MatchString(definition.String()) {
			t.Errorf("%s has rules in CEL", definition.Name)
		}
	}
}
