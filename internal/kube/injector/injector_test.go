package injector

import (
	"encoding/json"
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sluice.dev/sluice/internal/kube/inject"
)

func creation(t *testing.T, spec corev1.PodSpec) *admissionv1.AdmissionRequest {
	t.Helper()
	raw, err := json.Marshal(&corev1.Pod{Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	return &admissionv1.AdmissionRequest{Operation: admissionv1.Create, Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"}, Object: runtime.RawExtension{Raw: raw}}
}

func pods(allow bool) Pods {
	return Pods{Options: func() inject.Options { return inject.Options{Image: "images.test/sluice-proxy:1", AllowBypass: allow} }}
}

func TestAPodThatIsCreatedGetsTheSidecar(t *testing.T) {
	request := creation(t, corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}})
	answer := pods(false).Review(t.Context(), request)
	if !answer.Allowed || *answer.PatchType != admissionv1.PatchTypeJSONPatch || len(answer.Warnings) != 1 || len(answer.Warnings[0]) > maxWarning || !strings.HasPrefix(answer.Warnings[0], "sluice: container c may be or become root") {
		t.Fatalf("the answer is %+v", answer)
	}
	patch, err := jsonpatch.DecodePatch(answer.Patch)
	if err != nil {
		t.Fatal(err)
	}
	after, err := patch.Apply(request.Object.Raw)
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := json.Unmarshal(after, &pod); err != nil || len(pod.Spec.InitContainers) != 2 || pod.Spec.InitContainers[1].Name != inject.ProxyName {
		t.Errorf("the Pod becomes %s, %v", after, err)
	}
	request.Object.Raw = after
	if again := pods(false).Review(t.Context(), request); !again.Allowed || again.Patch != nil {
		t.Errorf("asked again it changes %s", again.Patch)
	}
}

func TestAPodThatASidecarCannotHoldIsNotCreated(t *testing.T) {
	yes := true
	for _, c := range []struct {
		name, want string
		spec       corev1.PodSpec
		allow      bool
	}{
		{"host network", "hostNetwork: true", corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "c"}}}, true},
		{"privileged", "the MeshConfig does not allow it (spec.allowBypass)", corev1.PodSpec{Containers: []corev1.Container{{Name: "c", SecurityContext: &corev1.SecurityContext{Privileged: &yes}}}}, false},
		{"several", "(and 1 more)", corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "istio-proxy"}}}, true},
	} {
		answer := pods(c.allow).Review(t.Context(), creation(t, c.spec))
		if answer.Allowed || answer.Patch != nil || !strings.Contains(answer.Result.Message, c.want) || !strings.Contains(answer.Result.Message, "gets no sidecar, and is not started without one") {
			t.Errorf("%s: %+v", c.name, answer)
		}
	}
	for _, raw := range []string{"", "{", "[]", "null", `{"spec":1}`, `{"spec":{"containers":[]},"spec":{}}`, `{"metadata":{}}`} {
		request := creation(t, corev1.PodSpec{})
		request.Object.Raw = []byte(raw)
		if answer := pods(true).Review(t.Context(), request); answer.Allowed {
			t.Errorf("%q is let through", raw)
		}
	}
}

func TestAContainerThatIsAddedToAPodDoesNotGetAroundItsSidecar(t *testing.T) {
	request := creation(t, corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}})
	patch, err := jsonpatch.DecodePatch(pods(false).Review(t.Context(), request).Patch)
	if err != nil {
		t.Fatal(err)
	}
	after, err := patch.Apply(request.Object.Raw)
	if err != nil {
		t.Fatal(err)
	}
	var injected corev1.Pod
	if err := json.Unmarshal(after, &injected); err != nil {
		t.Fatal(err)
	}
	uid, yes := int64(inject.DefaultUID), true
	for _, c := range []struct {
		name, want string
		edit       func(*corev1.PodSpec, *corev1.EphemeralContainer)
		allow      bool
	}{
		{"harmless", "", func(*corev1.PodSpec, *corev1.EphemeralContainer) {}, false},
		{"the proxy's user", "runs as the proxy's user 1337 would bypass", func(_ *corev1.PodSpec, e *corev1.EphemeralContainer) {
			e.SecurityContext = &corev1.SecurityContext{RunAsUser: &uid}
		}, false},
		{"a privileged one that is allowed", "", func(_ *corev1.PodSpec, e *corev1.EphemeralContainer) {
			e.SecurityContext = &corev1.SecurityContext{Privileged: &yes}
		}, true},
		{"the sidecar's processes", "shares the processes of the sidecar", func(_ *corev1.PodSpec, e *corev1.EphemeralContainer) { e.TargetContainerName = inject.ProxyName }, false},
		{"the sidecar's volume", "volume sluice-identity is the sidecar's alone", func(_ *corev1.PodSpec, e *corev1.EphemeralContainer) {
			e.VolumeMounts = []corev1.VolumeMount{{Name: "sluice-identity"}}
		}, true},
		{"a Pod without a sidecar", "", func(s *corev1.PodSpec, e *corev1.EphemeralContainer) {
			s.InitContainers, e.SecurityContext = nil, &corev1.SecurityContext{RunAsUser: &uid}
		}, false},
	} {
		pod := injected.DeepCopy()
		pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug"}}}
		c.edit(&pod.Spec, &pod.Spec.EphemeralContainers[0])
		request := creation(t, pod.Spec)
		request.Operation, request.SubResource = admissionv1.Update, ephemeral
		answer := pods(c.allow).Review(t.Context(), request)
		if answer.Allowed != (c.want == "") || answer.Patch != nil || !answer.Allowed && !strings.Contains(answer.Result.Message, c.want) {
			t.Errorf("%s: %+v", c.name, answer)
		}
	}
}

func TestWhatIsNotTheCreationOfAPodIsLeftAlone(t *testing.T) {
	for _, change := range []func(*admissionv1.AdmissionRequest){
		func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Update },
		func(r *admissionv1.AdmissionRequest) { r.Resource.Resource = "services" },
		func(r *admissionv1.AdmissionRequest) { r.SubResource = "binding" },
	} {
		request := creation(t, corev1.PodSpec{HostNetwork: true})
		change(request)
		if answer := pods(false).Review(t.Context(), request); !answer.Allowed || answer.Patch != nil {
			t.Errorf("%+v", answer)
		}
	}
}

func FuzzReview(f *testing.F) {
	f.Add([]byte(`{"spec":{"containers":[{"name":"c"}],"initContainers":null,"volumes":{}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		request := creation(t, corev1.PodSpec{})
		request.Object.Raw = raw
		answer := pods(true).Review(t.Context(), request)
		if answer.Patch != nil && !json.Valid(answer.Patch) {
			t.Errorf("the patch is %s", answer.Patch)
		}
	})
}
