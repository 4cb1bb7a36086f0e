package inject

import (
	"encoding/json"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
)

// patched is a Pod as the API server makes it of the webhook's answer.
func patched(t *testing.T, pod *corev1.Pod, o Options) *corev1.Pod {
	t.Helper()
	data, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	operations, _, err := Patch(data, o)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatch.DecodePatch(operations)
	if err != nil {
		t.Fatalf("%v: %s", err, operations)
	}
	after, err := patch.Apply(data)
	if err != nil {
		t.Fatal(err)
	}
	result := new(corev1.Pod)
	if err := json.Unmarshal(after, result); err != nil {
		t.Fatal(err)
	}
	return result
}

func asJSON(t *testing.T, value any) string {
	t.Helper()
	data, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
