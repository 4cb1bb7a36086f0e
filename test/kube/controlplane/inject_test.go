package controlplane

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/google/go-cmp/cmp"
	"sluice.dev/sluice/deploy/webhook"
	"sluice.dev/sluice/internal/control/cluster"
	"sluice.dev/sluice/internal/kube/inject"
)

// sidecar is what the servers of these tests put into Pods.
var sidecar = inject.Options{Image: "registry.example.com/sluice-proxy:1"}

// injecting has the API server ask a server about Pods, by the manifest as it is but for the
// port. A Service leads to it that is an alias of localhost, as there is no kube-proxy.
func (m *mesh) injecting(s *control) (enabled string) {
	m.t.Helper()
	_, port, err := net.SplitHostPort(s.WebhookAddress())
	if err != nil {
		m.t.Fatal(err)
	}
	applied := strings.ReplaceAll(string(webhook.InjectManifest), "port: 15017", "port: "+port) + `---
apiVersion: v1
kind: Service
metadata: {name: sluice-server, namespace: ` + ours + `}
spec: {type: ExternalName, externalName: localhost}
`
	m.apply(applied)
	m.t.Cleanup(func() {
		if r := m.Kubectl(m.t, applied, "delete", "-f", "-"); r.Code != 0 {
			m.t.Errorf("%+v", r)
		}
	})
	enabled = m.Namespace(m.t, webhook.InjectLabel, webhook.InjectEnabled)
	eventually(m.t, "the webhook is asked and believed", func() bool {
		made, err := m.try(enabled, corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}})
		return err == nil && len(made.Spec.InitContainers) == 2
	})
	eventually(m.t, "the policies hold", func() bool {
		_, err := m.client.CoreV1().ConfigMaps(enabled).Create(m.t.Context(),
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: cluster.RootsConfigMap}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil && strings.Contains(err.Error(), "sluice-server's alone to write")
	})
	return enabled
}

// try asks for a Pod that is not stored.
func (m *mesh) try(namespace string, spec corev1.PodSpec) (*corev1.Pod, error) {
	return m.tryTemplate(namespace, &corev1.PodTemplateSpec{Spec: spec})
}

func (m *mesh) tryTemplate(namespace string, template *corev1.PodTemplateSpec) (*corev1.Pod, error) {
	pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: *template.Spec.DeepCopy()}
	pod.Name, pod.Namespace = "tried", namespace
	return m.client.CoreV1().Pods(namespace).Create(m.t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

// templates is those of the Deployments of a file, by name.
func templates(t *testing.T, data []byte) map[string]*corev1.PodTemplateSpec {
	t.Helper()
	all := make(map[string]*corev1.PodTemplateSpec)
	for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096); ; {
		var one appsv1.Deployment // of extensions/v1beta1 too: its template is the same
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if one.Kind == "Deployment" {
			all[one.Name] = &one.Spec.Template
		}
	}
}

// comparable is what of a Pod tells it from another: its own names for the volume of the
// cluster's token, and the order of volumes, do not.
func comparable(t *testing.T, pod *corev1.Pod) string {
	t.Helper()
	token := ""
	slices.SortFunc(pod.Spec.Volumes, func(a, b corev1.Volume) int { return strings.Compare(a.Name, b.Name) })
	for _, volume := range pod.Spec.Volumes {
		if strings.HasPrefix(volume.Name, "kube-api-access-") {
			token = volume.Name
		}
	}
	data, err := json.MarshalIndent(map[string]any{"labels": pod.Labels, "annotations": pod.Annotations, "spec": pod.Spec}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if token == "" {
		t.Fatal("the Pod has no token of the cluster")
	}
	return strings.ReplaceAll(string(data), token, "kube-api-access")
}

func TestTheAPIServerMakesOfEveryDeploymentOfTheSamplesThePodThatKubeInjectMakes(t *testing.T) {
	m := newMesh(t)
	enabled, plain := m.injecting(m.server("one")), m.Namespace(t)
	for _, namespace := range []string{enabled, plain} {
		for _, account := range []string{"bookinfo-reviews", "bookinfo-productpage", "bookinfo-ratings-v2"} {
			if _, err := m.client.CoreV1().ServiceAccounts(namespace).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := filepath.Glob("../../../internal/kube/inject/testdata/samples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		injected, err := inject.File(file, data, sidecar)
		if err != nil {
			t.Fatal(err)
		}
		made := templates(t, injected.Data)
		for name, template := range templates(t, data) {
			want, err := m.tryTemplate(plain, made[name])
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := m.tryTemplate(enabled, template)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if a, b := comparable(t, got), comparable(t, want); a != b {
				t.Errorf("%s: the webhook makes another Pod than kube-inject (-):\n%s", name, cmp.Diff(b, a))
			}
			twice, err := m.tryTemplate(enabled, made[name])
			if err != nil || comparable(t, twice) != comparable(t, want) {
				t.Errorf("%s: what kube-inject made is made another: %v", name, err)
			}
			compared++
		}
	}
	if compared != 17 {
		t.Errorf("%d Deployments were compared", compared)
	}
	if made, err := m.try(plain, corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}); err != nil || len(made.Spec.InitContainers) > 0 {
		t.Errorf("without the label: %v, %v", made, err)
	}
}

func TestNobodyGetsAroundTheSidecarOfANamespaceUnlessTheMeshConfigAllowsIt(t *testing.T) {
	m := newMesh(t)
	s := m.server("one")
	enabled := m.injecting(s)
	privileged := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i", SecurityContext: &corev1.SecurityContext{Privileged: new(true)}}}}
	around := func() error { _, err := m.try(enabled, privileged); return err }
	const forbidden = "the MeshConfig does not allow it (spec.allowBypass)"
	if err := around(); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), forbidden) {
		t.Errorf("privileged: %v", err)
	}
	if _, err := m.try(enabled, corev1.PodSpec{HostNetwork: true, Containers: privileged.Containers}); err == nil || !strings.Contains(err.Error(), "hostNetwork: true") {
		t.Errorf("on the network of the node: %v", err)
	}
	config := "{apiVersion: sluice.dev/v1alpha1, kind: MeshConfig, metadata: {name: default}, spec: {allowBypass: true}}"
	m.apply(config)
	eventually(t, "the MeshConfig allows it", func() bool { return around() == nil })
	if r := m.Kubectl(t, config, "delete", "-f", "-"); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	eventually(t, "it allows it no more", func() bool { return around() != nil })

	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "i"}}}}
	made, err := m.client.CoreV1().Pods(enabled).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// A container that is added to it.
	debug := func(context *corev1.SecurityContext) error {
		with := made.DeepCopy()
		with.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: "debug", Image: "i", TerminationMessagePolicy: corev1.TerminationMessageReadFile, SecurityContext: context,
		}}}
		_, err := m.client.CoreV1().Pods(enabled).UpdateEphemeralContainers(t.Context(), made.Name, with, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	if err := debug(&corev1.SecurityContext{RunAsUser: new(int64(inject.DefaultUID))}); err == nil || !strings.Contains(err.Error(), "gets no further container: ephemeral container debug runs as the proxy's user 1337 would bypass the sidecar: "+forbidden) {
		t.Errorf("a container of the proxy's user: %v", err)
	}
	if err := debug(nil); err != nil {
		t.Errorf("a harmless container: %v", err)
	}
	// Another program in the place of the sidecar.
	for i, name := range []string{inject.InitName, inject.ProxyName} {
		other := made.DeepCopy()
		other.Spec.InitContainers[i].Image = "registry.example.com/mine:1"
		if _, err := m.client.CoreV1().Pods(enabled).Update(t.Context(), other, metav1.UpdateOptions{}); err == nil || !strings.Contains(err.Error(), "the image of the sidecar stays as it is") {
			t.Errorf("another image of %s: %v", name, err)
		}
	}
	// A program within the sidecar.
	for _, verb := range []string{"exec", "attach"} {
		for container, refused := range map[string]bool{inject.InitName: true, inject.ProxyName: true, "web": false, "": false} {
			err := m.client.CoreV1().RESTClient().Post().Namespace(enabled).Resource("pods").Name(made.Name).SubResource(verb).
				VersionedParams(&corev1.PodExecOptions{Container: container, Command: []string{"/sluice-proxy"}, Stdout: true}, scheme.ParameterCodec).Do(t.Context()).Error()
			if got := err != nil && strings.Contains(err.Error(), "nothing is run in the sidecar of a Pod"); got != refused || err == nil {
				t.Errorf("%s in %q: %v", verb, container, err) // no kubelet answers what is let through
			}
		}
	}
	other := made.DeepCopy()
	other.Spec.Containers[0].Image = "another:1"
	if _, err := m.client.CoreV1().Pods(enabled).Update(t.Context(), other, metav1.UpdateOptions{}); err != nil {
		t.Errorf("another image of the application: %v", err)
	}
	// While no server runs nothing is created there, as nobody would hold it.
	s.stop()
	if _, err := m.try(enabled, pod.Spec); err == nil || !strings.Contains(err.Error(), `failed calling webhook "inject.sluice.dev"`) {
		t.Errorf("without a server: %v", err)
	}
}

func TestTheSidecarsOfEachNamespaceKnowTheServerByItsConfigMapAndNobodyElseWritesIt(t *testing.T) {
	m := newMesh(t)
	// Somebody was there before the mesh, with an authority of his own that nobody can change.
	early, late, bare := m.Namespace(t), m.Namespace(t), m.Namespace(t)
	foreign := func(namespace string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: cluster.RootsConfigMap, Namespace: namespace}, Data: map[string]string{"root-cert.pem": "mine"}, Immutable: new(true)}
	}
	eventually(t, "nothing of another test keeps him from it", func() bool {
		_, err := m.client.CoreV1().ConfigMaps(early).Create(t.Context(), foreign(early), metav1.CreateOptions{})
		return err == nil
	})
	m.pod(early, "web", "10.1.0.1", nil)
	if _, err := m.client.CoreV1().Pods(bare).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "no-sidecar"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s := m.server("one")
	root := func(namespace string) string {
		found, err := m.client.CoreV1().ConfigMaps(namespace).Get(t.Context(), cluster.RootsConfigMap, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		return found.Data["root-cert.pem"]
	}
	right := func(namespace string) func() bool {
		return func() bool { return root(namespace) == string(s.CA()) }
	}
	eventually(t, "an authority of somebody else is replaced", right(early))
	m.pod(late, "web", "10.1.0.2", nil)
	eventually(t, "a namespace gets it with its first Pod", right(late))
	if got := root(bare); got != "" {
		t.Errorf("a namespace without sidecars has %q", got)
	}
	// It is kept.
	if err := m.client.CoreV1().ConfigMaps(late).Delete(t.Context(), cluster.RootsConfigMap, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is made again", right(late))
	if r := m.Kubectl(t, "", "-n", late, "patch", "configmap", cluster.RootsConfigMap, "-p", `{"data":{"root-cert.pem":"other"}}`); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	eventually(t, "it is put right", right(late))

	// With the webhook nobody can have one of his own even for a moment.
	m.injecting(s)
	client, err := kubernetes.NewForConfig(m.User(t, "owner"))
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"role", "owner", "--verb=*", "--resource=configmaps"}, {"rolebinding", "owner", "--role=owner", "--user=owner"}} {
		if r := m.Kubectl(t, "", append([]string{"-n", bare, "create"}, args...)...); r.Code != 0 {
			t.Fatal(r.Stderr)
		}
	}
	if _, err := client.CoreV1().ConfigMaps(bare).Create(t.Context(), foreign(bare), metav1.CreateOptions{}); err == nil || !strings.Contains(err.Error(), "sluice-server's alone to write") {
		t.Errorf("who owns the namespace may write it: %v", err)
	}
	if r := m.Kubectl(t, "", "-n", late, "patch", "configmap", cluster.RootsConfigMap, "-p", `{"data":{"root-cert.pem":"other"}}`); r.Code == 0 || !strings.Contains(r.Stderr, "sluice-server's alone to write") {
		t.Errorf("an administrator may change it: %+v", r)
	}
	if err := m.client.CoreV1().ConfigMaps(late).Delete(t.Context(), cluster.RootsConfigMap, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server may write it", right(late))
	// The right to create one is bound to its name.
	server, err := kubernetes.NewForConfig(m.asServer())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"other", cluster.RootsConfigMap} {
		if _, err := server.CoreV1().ConfigMaps(bare).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("the server may create ConfigMap %s: %v", name, err)
		}
	}
	if _, err := server.CoreV1().ConfigMaps(bare).List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("the server may read every ConfigMap: %v", err)
	}
}
