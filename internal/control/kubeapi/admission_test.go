package kubeapi

import (
	"net/http"
	"runtime"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/istio"
)

func TestAWriteIsAnsweredWithTheTextsOfTheCommandLine(t *testing.T) {
	s := start(t, "", acceptAll)
	spec := &istio.EgressRuleSpec{
		Destination: &istio.Service{Service: "*.*.example.com"},
		Ports:       []istio.Port{{Port: 70000, Protocol: "https"}, {Port: 80, Protocol: "smtp"}},
	}
	want := api.Validate(&api.Object{
		APIVersion: "config.istio.io/v1alpha2", Kind: "EgressRule",
		Metadata: api.Meta{Name: "bad", Namespace: "default"}, Spec: spec,
	})
	if len(want) < 3 {
		t.Fatalf("the rule is to have three faults, and has %v", want)
	}
	body := `{"apiVersion":"config.istio.io/v1alpha2","kind":"EgressRule","metadata":{"name":"bad"},"spec":{"destination":{"service":"*.*.example.com"},"ports":[{"port":70000,"protocol":"https"},{"port":80,"protocol":"smtp"}]}}`
	for _, write := range []struct{ method, path, contentType string }{
		{"POST", egressRules, "application/json"},
		{"POST", egressRules, "application/yaml"},
		{"PATCH", egressRules + "/bad?fieldManager=kubectl", "application/apply-patch+yaml"},
	} {
		code, answer := s.do(t, write.method, write.path, write.contentType, body)
		status := decode[metav1.Status](t, answer)
		if code != http.StatusUnprocessableEntity || status.Details == nil || len(status.Details.Causes) != len(want) {
			t.Errorf("%s %s: %d %s", write.method, write.contentType, code, answer)
			continue
		}
		for i, fault := range want {
			if cause := status.Details.Causes[i]; cause.Field != fault.Path || cause.Message != fault.Message {
				t.Errorf("cause %d is %q %q, the command line says %q %q", i, cause.Field, cause.Message, fault.Path, fault.Message)
			}
			if !strings.Contains(status.Message, fault.Error()) {
				t.Errorf("the message %q lacks %q", status.Message, fault.Error())
			}
		}
	}
}

func TestAnUpdateIsValidatedTooAndAStatusIsNot(t *testing.T) {
	s := start(t, "", acceptAll)
	s.create(t, "rule", "one.example.com")
	if code, answer := s.do(t, "PATCH", egressRules+"/rule", "application/merge-patch+json", `{"spec":{"ports":[]}}`); code != http.StatusUnprocessableEntity {
		t.Errorf("a bad update: %d %s", code, answer)
	}
	if code, answer := s.do(t, "PATCH", egressRules+"/rule/status", "application/merge-patch+json", `{"status":{"observedGeneration":1}}`); code != http.StatusOK {
		t.Errorf("a status: %d %s", code, answer)
	}
}

// kubectl prints the warnings of an answer; a write that is refused has none.
func TestAValidObjectIsAnsweredWithItsWarnings(t *testing.T) {
	s := startWith(t, Config{DataDir: t.TempDir(), Peers: acceptAll, Warn: func(object *api.Object) []string {
		return []string{"allows \"" + object.Spec.(*istio.EgressRuleSpec).Destination.Service + `"`}
	}})
	post := func(host string) (int, []string) {
		response, err := s.client.Post("http://sluice"+egressRules, "application/json", strings.NewReader(egressRule("rule", host)))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode, response.Header.Values("Warning")
	}
	if code, got := post("not..valid"); code != http.StatusUnprocessableEntity || len(got) != 0 {
		t.Errorf("a bad rule: %d %q", code, got)
	}
	if code, got := post("one.example.com"); code != http.StatusCreated || len(got) != 1 || got[0] != `299 - "egress-rule/default/rule allows \"one.example.com\""` {
		t.Errorf("a good rule: %d %q", code, got)
	}
	if code, answer := s.do(t, "PATCH", egressRules+"/rule/status", "application/merge-patch+json", `{"status":{"observedGeneration":1}}`); code != http.StatusOK {
		t.Errorf("a status: %d %s", code, answer)
	}
}

func TestUnknownFieldsAreErrorsForWhoeverWrites(t *testing.T) {
	s := start(t, "", acceptAll)
	body := strings.Replace(egressRule("rule", "one.example.com"), `"spec":{`, `"spec":{"egress":true,`, 1)
	code, answer := s.do(t, "POST", egressRules, "application/json", body)
	if code != http.StatusBadRequest || !strings.Contains(answer, `unknown field \"spec.egress\"`) {
		t.Errorf("%d %s", code, answer)
	}
}

func TestProtobufIsRefused(t *testing.T) {
	s := start(t, "", acceptAll)
	if code, answer := s.do(t, "POST", egressRules, "application/vnd.kubernetes.protobuf", "k8s\x00"); code != http.StatusUnsupportedMediaType {
		t.Errorf("%d %s", code, answer)
	}
}

func TestABodyBeyondTheBoundIsRefused(t *testing.T) {
	s := start(t, "", acceptAll)
	body := strings.Replace(egressRule("rule", "one.example.com"), `"metadata":{`, `"metadata":{"annotations":{"a":"`+strings.Repeat("x", maxRequestBody)+`"},`, 1)
	if code, _ := s.do(t, "POST", egressRules, "application/json", body); code != http.StatusRequestEntityTooLarge {
		t.Errorf("%d", code)
	}
}

func TestAnObjectOfManyValuesCostsAtMost64MiBToRefuse(t *testing.T) {
	s := start(t, "", acceptAll)
	var before, after runtime.MemStats
	for _, written := range []struct{ method, path, contentType, head, unit, tail string }{
		{"POST", egressRules, "application/yaml", "[", "x,", "]"},
		{"POST", egressRules, "application/yaml", "", "a:\n", ""},
		{"POST", egressRules, "application/yaml", "", "- #\n", ""},
		{"POST", egressRules, "application/yaml", "[", "[],", "]"},
		{"POST", egressRules, "application/json", `{"kind":"EgressRule","spec":[`, "[],", "1]}"},
		{"POST", egressRules, "application/json", `{"kind":"EgressRule","spec":[`, `{"a":1},`, "1]}"},
		{"PATCH", egressRules + "/rule?fieldManager=a", "application/apply-patch+yaml", "{", "a,", "}"},
		{"PATCH", egressRules + "/rule", "application/merge-patch+json", `{"spec":[`, "[],", "1]}"},
		{"PATCH", egressRules + "/rule", "application/json-patch+json", `[`, `{"op":"test"},`, "1]"},
	} {
		body := written.head + strings.Repeat(written.unit, (maxRequestBody-64)/len(written.unit)) + written.tail
		runtime.ReadMemStats(&before)
		code, answer := s.do(t, written.method, written.path, written.contentType, body)
		runtime.ReadMemStats(&after)
		if cost := (after.TotalAlloc - before.TotalAlloc) >> 20; code < 400 || cost > 64 {
			t.Errorf("%s of %q: %d after %d MiB: %.100s", written.contentType, written.unit, code, cost, answer)
		}
	}
}

func TestDiscoveryAndSchemasAreServed(t *testing.T) {
	s := start(t, "", acceptAll)
	_, answer := s.do(t, "GET", "/apis", "", "")
	groups := decode[metav1.APIGroupList](t, answer)
	found := make(map[string]bool)
	for _, group := range groups.Groups {
		found[group.Name] = true
	}
	for _, group := range []string{"apiextensions.k8s.io", "config.istio.io", "sluice.dev"} {
		if !found[group] {
			t.Errorf("group %s is missing in %s", group, answer)
		}
	}
	waitFor(t, "the schemas", func() bool {
		code, answer := s.do(t, "GET", "/openapi/v3/apis/config.istio.io/v1alpha2", "", "")
		return code == http.StatusOK && strings.Contains(answer, "EgressRule lets workloads reach")
	})
	if code, _ := s.do(t, "GET", "/nothing", "", ""); code != http.StatusNotFound {
		t.Errorf("an unknown path: %d", code)
	}
	if code, answer := s.do(t, "GET", "/healthz", "", ""); code != http.StatusOK || answer != "ok" {
		t.Errorf("healthz: %d %s", code, answer)
	}
}
