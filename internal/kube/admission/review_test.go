package admission

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sluice.dev/sluice/api"
)

func requestOf(object string) *admissionv1.AdmissionRequest {
	var named struct{ APIVersion, Kind string }
	_ = json.Unmarshal([]byte(object), &named) // a test's own text
	group, version, _ := strings.Cut(named.APIVersion, "/")
	return &admissionv1.AdmissionRequest{
		UID: "1", Operation: admissionv1.Create, Namespace: "books",
		Kind:     metav1.GroupVersionKind{Group: group, Version: version, Kind: named.Kind},
		Resource: metav1.GroupVersionResource{Group: group, Version: version, Resource: strings.ToLower(named.Kind) + "s"},
		Object:   runtime.RawExtension{Raw: []byte(object)},
	}
}

const good = `{"apiVersion":"config.istio.io/v1alpha2","kind":"EgressRule","metadata":{"name":"rule"},"spec":{"destination":{"service":"one.example.com"},"ports":[{"port":443,"protocol":"https"}]}}`

func TestAReviewSaysEveryFaultWithItsFieldAsTheCommandLineDoes(t *testing.T) {
	bad := strings.NewReplacer("443", "70000", "one.example.com", "*.*.example.com").Replace(good)
	objects, err := api.Decode("f", strings.NewReader(bad))
	if err != nil {
		t.Fatal(err)
	}
	objects[0].SetNamespace("books")
	want := api.Validate(&objects[0])
	if len(want) != 2 {
		t.Fatalf("the rule is to have two faults: %v", want)
	}
	answer := Rules{}.Review(t.Context(), requestOf(bad))
	if answer.Allowed || answer.Result.Code != http.StatusUnprocessableEntity || answer.Result.Reason != metav1.StatusReasonInvalid {
		t.Fatalf("%+v", answer)
	}
	for i, fault := range want {
		if cause := answer.Result.Details.Causes[i]; cause.Field != fault.Path || cause.Message != fault.Message {
			t.Errorf("cause %d: %+v, want %v", i, cause, fault)
		}
	}
}

func TestAValidObjectIsAllowedWithItsWarnings(t *testing.T) {
	answer := Rules{Warn: api.Warnings}.Review(t.Context(), requestOf(good))
	if !answer.Allowed || len(answer.Warnings) != 1 || !strings.HasPrefix(answer.Warnings[0], "egress-rule/books/rule applies to the workloads of namespace books") {
		t.Errorf("%+v", answer)
	}
	if answer := (Rules{}).Review(t.Context(), requestOf(good)); !answer.Allowed || answer.Warnings != nil {
		t.Errorf("without a Warn: %+v", answer)
	}
}

func TestAnObjectThatIsGoingIsNotHeldUp(t *testing.T) {
	bad := strings.Replace(good, "443", "70000", 1)
	going := strings.Replace(bad, `"name":"rule"`, `"name":"rule","deletionTimestamp":"2018-02-01T00:00:00Z"`, 1)
	if answer := (Rules{}).Review(t.Context(), requestOf(going)); !answer.Allowed {
		t.Errorf("%+v", answer)
	}
}

func TestWhatIsNotARuleIsRefused(t *testing.T) {
	status, deletion := requestOf(good), requestOf(good)
	status.SubResource = "status"
	deletion.Operation = admissionv1.Delete
	heavy := strings.Replace(good, `"ports":[`, `"ports":[`+strings.Repeat("[],", api.MaxObjectWeight), 1)
	for name, c := range map[string]struct {
		request *admissionv1.AdmissionRequest
		says    string
	}{
		"a Pod":        {requestOf(`{"apiVersion":"v1","kind":"Pod"}`), "is not one that this webhook judges"},
		"another kind": {requestOf(`{"apiVersion":"sluice.dev/v1alpha1","kind":"AccessPolicy"}`), "is not one that this webhook judges"},
		"a status":     {status, "on egressrules/status is not one that this webhook judges"},
		"a deletion":   {deletion, "operation DELETE"},
		"no object":    {requestOf(""), "is not one"},
		"half": {func() *admissionv1.AdmissionRequest {
			r := requestOf(good)
			r.Object.Raw = []byte(`{"spec":`)
			return r
		}(), "read the object"},
		"a heavy one": {requestOf(heavy), "too many values for one object"},
	} {
		answer := Rules{}.Review(t.Context(), c.request)
		if answer.Allowed || answer.Result == nil || answer.Result.Code < 400 || !strings.Contains(answer.Result.Message, c.says) {
			t.Errorf("%s: %+v", name, answer)
		}
	}
}

// Whatever an object is, the answer is that of the command line: nothing is allowed that
// api.Validate refuses, and a refusal says why.
func FuzzReview(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(strings.Replace(good, "443", "70000", 1)))
	f.Add([]byte(`{"apiVersion":"sluice.dev/v1alpha1","kind":"MeshConfig","metadata":{"name":"default"},"spec":{"outboundDefault":"Allow"}}`))
	f.Add([]byte(`{"apiVersion":"sluice.dev/v1alpha1","kind":"EgressPolicy","metadata":{"name":"p","labels":{"a":"b"}},"spec":{"to":{"hosts":["a.b"],"ports":[{"port":1e3}]}}}`))
	f.Add([]byte(`{"apiVersion":"sluice.dev/v1alpha1","kind":"MeshService","metadata":null,"spec":[[]]}`))
	f.Fuzz(func(t *testing.T, object []byte) {
		request := requestOf(string(object))
		answer := Rules{Warn: api.Warnings}.Review(t.Context(), request)
		if !answer.Allowed && (answer.Result == nil || answer.Result.Message == "" || answer.Result.Code < 400) {
			t.Fatalf("refused without a reason: %+v", answer)
		}
		if !answer.Allowed {
			return
		}
		objects, err := api.Decode("f", bytes.NewReader(object))
		if err != nil || len(objects) != 1 {
			return // a field beside spec, which the API server judges
		}
		if bytes.Contains(object, []byte("deletionTimestamp")) {
			return // it may be going
		}
		objects[0].SetNamespace("books")
		if faults := api.Validate(&objects[0]); len(faults) > 0 {
			t.Fatalf("allowed: %v", faults)
		}
	})
}
