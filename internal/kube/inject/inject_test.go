package inject

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

func options() Options { return Options{Image: "images.test/sluice-proxy:1"} }

func file(t *testing.T, text string, o Options) Result {
	t.Helper()
	result, err := File("file.yaml", []byte(text), o)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func samples(t testing.TB) map[string]string {
	paths, err := filepath.Glob("testdata/samples/*.yaml")
	if err != nil || len(paths) < 7 {
		t.Fatal(paths, err)
	}
	all := make(map[string]string)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(path)] = string(data)
	}
	return all
}

// objects decodes each document as an API server of today would, strictly.
func objects(t *testing.T, data []byte) (all []any) {
	t.Helper()
	for _, d := range split(data) {
		if len(strings.TrimSpace(string(stripComments(d.body)))) == 0 {
			continue
		}
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(d.body, &head); err != nil {
			t.Fatal(err)
		}
		var into any
		switch head.APIVersion + " " + head.Kind {
		case "apps/v1 Deployment":
			into = new(appsv1.Deployment)
		case "apps/v1 DaemonSet":
			into = new(appsv1.DaemonSet)
		case "apps/v1 ReplicaSet":
			into = new(appsv1.ReplicaSet)
		case "apps/v1 StatefulSet":
			into = new(appsv1.StatefulSet)
		case "batch/v1 Job":
			into = new(batchv1.Job)
		case "batch/v1 CronJob":
			into = new(batchv1.CronJob)
		case "v1 ReplicationController":
			into = new(corev1.ReplicationController)
		case "v1 PodTemplate":
			into = new(corev1.PodTemplate)
		case "v1 Pod":
			into = new(corev1.Pod)
		case "networking.k8s.io/v1 Ingress":
			into = new(networkingv1.Ingress)
		case "v1 Service":
			into = new(corev1.Service)
		case "v1 Secret":
			into = new(corev1.Secret)
		case "v1 ServiceAccount":
			into = new(corev1.ServiceAccount)
		default:
			t.Fatalf("%s %s is not served today", head.APIVersion, head.Kind)
		}
		if err := yaml.UnmarshalStrict(d.body, into); err != nil {
			t.Fatalf("%v in\n%s", err, d.body)
		}
		all = append(all, into)
	}
	return all
}

func podOf(t *testing.T, object any) *corev1.PodSpec {
	t.Helper()
	switch o := object.(type) {
	case *appsv1.Deployment:
		if o.Spec.Selector == nil || o.Spec.Selector.MatchLabels["app"] != o.Spec.Template.Labels["app"] {
			t.Errorf("%s: the selector is %v", o.Name, o.Spec.Selector)
		}
		return &o.Spec.Template.Spec
	case *appsv1.DaemonSet:
		return &o.Spec.Template.Spec
	case *appsv1.ReplicaSet:
		return &o.Spec.Template.Spec
	case *appsv1.StatefulSet:
		return &o.Spec.Template.Spec
	case *batchv1.Job:
		return &o.Spec.Template.Spec
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template.Spec
	case *corev1.ReplicationController:
		return &o.Spec.Template.Spec
	case *corev1.PodTemplate:
		return &o.Template.Spec
	case *corev1.Pod:
		return &o.Spec
	}
	return nil
}

// checkSidecar holds what the sidecar of a Pod must be.
func checkSidecar(t *testing.T, name string, spec *corev1.PodSpec) {
	t.Helper()
	if len(spec.InitContainers) < 2 || spec.InitContainers[0].Name != InitName || spec.InitContainers[1].Name != ProxyName {
		t.Fatalf("%s: the first containers are %v", name, spec.InitContainers)
	}
	first, proxy := spec.InitContainers[0], spec.InitContainers[1]
	if first.RestartPolicy != nil || !slices.Equal(first.SecurityContext.Capabilities.Add, []corev1.Capability{"NET_ADMIN"}) {
		t.Errorf("%s: the init container is %+v", name, first)
	}
	if proxy.RestartPolicy == nil || *proxy.RestartPolicy != corev1.ContainerRestartPolicyAlways {
		t.Errorf("%s: the proxy is no native sidecar", name)
	}
	if probe := proxy.StartupProbe; probe == nil || probe.HTTPGet.Path != ReadyPath || probe.HTTPGet.Port.IntVal != HealthPort {
		t.Errorf("%s: its start-up probe is %+v", name, proxy.StartupProbe)
	}
	if s := proxy.SecurityContext; *s.RunAsUser != DefaultUID || !*s.RunAsNonRoot || *s.AllowPrivilegeEscalation || len(s.Capabilities.Add) > 0 || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("%s: the proxy may %+v", name, s)
	}
}

func TestEveryDeploymentOfTheIstioSamplesGoesThrough(t *testing.T) {
	deployments := 0
	for name, text := range samples(t) {
		result := file(t, text, options())
		here := 0
		for _, object := range objects(t, result.Data) {
			if spec := podOf(t, object); spec != nil {
				checkSidecar(t, name, spec)
				here++
			}
		}
		if here != result.Injected {
			t.Errorf("%s: %d of %d have the sidecar", name, result.Injected, here)
		}
		deployments += here
		for _, want := range []string{"extensions/v1beta1", "apps/v1", "spec.selector"} {
			if !slices.ContainsFunc(result.Notes, func(p Problem) bool { return p.Line > 0 && strings.Contains(p.Text, want) }) {
				t.Errorf("%s: %s is not said: %v", name, want, result.Notes)
			}
		}
	}
	if deployments != 17 {
		t.Errorf("%d Deployments went through", deployments)
	}
}

func TestCommentsAndOrderAreKept(t *testing.T) {
	all := samples(t)
	all["wide.yaml"] = `# of the file
kind: Deployment # of a key
apiVersion: apps/v1
spec:
    # of a mapping
    template:
        spec:
            containers:
                # of an item
                - image: "a:1"   # quoted
                  name: web
                  command: ["sh", -c, 'echo "é"']
                  # last of an item
        metadata: &m
            labels: {app: web}
    selector: {matchLabels: {app: web}}
metadata:
    name: web
# of the end
`
	for name, text := range all {
		result := file(t, text, options())
		out := strings.Split(string(result.Data), "\n")
		at := 0
		for number, line := range strings.Split(text, "\n") {
			words := strings.Fields(line)
			if len(words) == 0 || words[0] == "apiVersion:" || words[0] == "backend:" || strings.HasPrefix(words[0], "service") {
				continue
			}
			for at < len(out) && !slices.Equal(strings.Fields(out[at]), words) {
				at++
			}
			if at == len(out) {
				t.Errorf("%s:%d: %q is not in the output, or not in its place:\n%s", name, number+1, line, result.Data)
				break
			}
			at++
		}
	}
}

func TestInjectingTwiceChangesNothing(t *testing.T) {
	for name, text := range samples(t) {
		once := file(t, text, options())
		twice := file(t, string(once.Data), options())
		if string(once.Data) != string(twice.Data) {
			t.Errorf("%s is changed by the second injection:\n%s", name, twice.Data)
		}
		newer := options()
		newer.Image = "images.test/sluice-proxy:2"
		upgraded := string(file(t, string(once.Data), newer).Data)
		if strings.Contains(upgraded, "sluice-proxy:1") || strings.Count(upgraded, "sluice-proxy:2") != strings.Count(string(once.Data), "sluice-proxy:1") {
			t.Errorf("%s: another image takes the place of the first in part only", name)
		}
	}
}

const podSpec = `{containers: [{name: c, image: i, ports: [{containerPort: 8080}], readinessProbe: {httpGet: {port: 8080}}}]}`

func TestEveryKindOfWorkloadIsInjected(t *testing.T) {
	template := `{metadata: {labels: {app: a}}, spec: ` + podSpec + `}`
	selector := `selector: {matchLabels: {app: a}}`
	text := strings.Join([]string{
		`{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {` + selector + `, template: ` + template + `}}`,
		`{apiVersion: apps/v1beta1, kind: StatefulSet, metadata: {name: b}, spec: {serviceName: s, template: ` + template + `}}`,
		`{apiVersion: extensions/v1beta1, kind: DaemonSet, metadata: {name: c}, spec: {templateGeneration: 1, template: ` + template + `}}`,
		`{apiVersion: apps/v1beta2, kind: ReplicaSet, metadata: {name: d}, spec: {` + selector + `, template: ` + template + `}}`,
		`{apiVersion: v1, kind: ReplicationController, metadata: {name: e}, spec: {template: ` + template + `}}`,
		`{apiVersion: batch/v1, kind: Job, metadata: {name: f}, spec: {template: ` + template + `}}`,
		`{apiVersion: batch/v1beta1, kind: CronJob, metadata: {name: g}, spec: {schedule: "@daily", jobTemplate: {spec: {template: ` + template + `}}}}`,
		`{apiVersion: v1, kind: PodTemplate, metadata: {name: h}, template: ` + template + `}`,
		`{apiVersion: v1, kind: Pod, metadata: {name: i}, spec: ` + podSpec + `}`,
	}, "\n---\n")
	all := objects(t, file(t, text, options()).Data)
	if len(all) != 9 {
		t.Fatalf("%d objects", len(all))
	}
	for _, object := range all {
		spec := podOf(t, object)
		checkSidecar(t, "a workload", spec)
		if spec.Containers[0].ReadinessProbe == nil || spec.Containers[0].ReadinessProbe.HTTPGet.Port.IntVal != 8080 {
			t.Errorf("the probe of the application is %+v", spec.Containers[0].ReadinessProbe)
		}
		if !slices.Contains(spec.InitContainers[1].Args, "8080") {
			t.Errorf("the sidecar does not know the port: %v", spec.InitContainers[1].Args)
		}
	}
}

func TestTheItemsOfListsAreInjected(t *testing.T) {
	for _, text := range []string{
		`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"\ud834\udd1e"},"spec":{"containers":[{"name":"c"}]}}]}`,
		"apiVersion: extensions/v1beta1\nkind: DeploymentList\nitems:\n- metadata: {name: a}\n  spec: {template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c}]}}}\n",
		"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n  items:\n  - {apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c}]}}\n",
	} {
		result := file(t, text, options())
		if result.Injected != 1 || strings.Contains(string(result.Data), "v1beta1") {
			t.Errorf("%d injected:\n%s", result.Injected, result.Data)
		}
		if text[0] == '{' && (!json.Valid(result.Data) || !strings.Contains(string(result.Data), "𝄞")) {
			t.Errorf("JSON became\n%s", result.Data)
		}
		if again := file(t, string(result.Data), options()); string(again.Data) != string(result.Data) {
			t.Errorf("injecting twice changed\n%s\nto\n%s", result.Data, again.Data)
		}
	}
}

func TestOtherObjectsAreWrittenAsTheyAre(t *testing.T) {
	text := "%YAML 1.2\n---\n# alone\n---   # a comment\r\nkind:   Service   # odd spaces\napiVersion: v1\n\n\nspec: {a:   1}\n--- \n...\n--- {kind: ConfigMap, data: {x: 'it: |'}}\n"
	if got := string(file(t, text, options()).Data); got != text {
		t.Errorf("got %q", got)
	}
}

func TestAnAliasIsWrittenOutWhereAWorkloadIsChanged(t *testing.T) {
	result := file(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: &l {app: a}, annotations: *l}\nspec: {containers: [{name: c}]}\n", options())
	pod := objects(t, result.Data)[0].(*corev1.Pod)
	if len(pod.Labels) != 1 || pod.Annotations["app"] != "a" || pod.Annotations[annotationStatus] == "" {
		t.Errorf("labels %v, annotations %v", pod.Labels, pod.Annotations)
	}
}

func TestTheIngressOfTheSamplesKeepsItsPaths(t *testing.T) {
	for _, object := range objects(t, file(t, samples(t)["bookinfo.yaml"], options()).Data) {
		ingress, ok := object.(*networkingv1.Ingress)
		if !ok {
			continue
		}
		paths := ingress.Spec.Rules[0].HTTP.Paths
		last := paths[len(paths)-1]
		if last.Path != "/api/v1/products.*" || *last.PathType != networkingv1.PathTypeImplementationSpecific || last.Backend.Service.Name != "productpage" || last.Backend.Service.Port.Number != 9080 {
			t.Errorf("the last path is %+v", last)
		}
		return
	}
	t.Error("there is no Ingress")
}

func TestIncludeIPRangesIsHonouredWhereTheMeshConfigAllowsIt(t *testing.T) {
	text := "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: " + podSpec + "\n"
	o := options()
	o.IncludeIPRanges = "10.0.0.1/24,172.30.0.0/16"
	if _, err := File("a.yaml", []byte(text), o); err == nil || !strings.Contains(err.Error(), "a.yaml:4: Pod a: destinations outside 10.0.0.0/24, 172.30.0.0/16 would bypass the sidecar: the MeshConfig does not allow it (spec.allowBypass)") {
		t.Errorf("without the MeshConfig's word: %v", err)
	}
	o.AllowBypass = true
	result := file(t, text, o)
	pod := objects(t, result.Data)[0].(*corev1.Pod)
	if got := pod.Spec.InitContainers[0].Args; !slices.Equal(got, []string{"redirect", "--proxy-uid", "1337", "--proxy-gid", "34105", "--include-ranges", "10.0.0.0/24,172.30.0.0/16"}) {
		t.Errorf("the init container is given %q", got)
	}
	if got := pod.Spec.InitContainers[1].Args; !slices.Contains(got, "--bypassed") {
		t.Errorf("the sidecar is given %q", got)
	}
	// The webhook knows no flags: the annotation tells it.
	webhook := options()
	webhook.AllowBypass = true
	if again := file(t, string(result.Data), webhook); string(again.Data) != string(result.Data) {
		t.Errorf("without the flag it becomes\n%s", again.Data)
	}
}

func TestWhatASidecarCannotHoldIsRefusedWithItsLine(t *testing.T) {
	pod := func(metadata, spec string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: a" + metadata + "}\nspec:\n" + spec
	}
	const containers = "  containers: [{name: c}]\n"
	annotated := func(annotation string) string {
		return pod(", annotations: {"+annotation+"}", containers)
	}
	for _, c := range []struct{ name, text, want string }{
		{"host network", pod("", "  hostNetwork: true\n"+containers), "file.yaml:5: Pod a: hostNetwork: true: its Pods share the network of their node"},
		{"no containers", pod("", "  volumes: []\n"), "Pod a: spec.containers of the Pod is missing"},
		{"no template", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {}\n", "file.yaml:1: Deployment a: spec.template.spec is missing"},
		{"turned off", annotated(`sidecar.istio.io/inject: "false"`), "would leave the Pod without a sidecar"},
		{"turned off by a label", pod(`, labels: {sidecar.istio.io/inject: "no"}`, containers), "would leave the Pod without a sidecar"},
		{"privileged", pod("", "  containers: [{name: c, securityContext: {privileged: true}}]\n"), "container c is privileged would bypass the sidecar: the MeshConfig does not allow it"},
		{"NET_ADMIN", pod("", "  initContainers: [{name: d, securityContext: {capabilities: {add: [cap_net_admin]}}}]\n"+containers), "init container d has the capability NET_ADMIN would bypass"},
		{"the proxy's user", pod("", "  containers: [{name: c, securityContext: {runAsUser: 1337}}]\n"), "runs as the proxy's user 1337 would bypass"},
		{"the proxy's user for all", pod("", "  securityContext: {runAsUser: 1337}\n"+containers), "containers that run as the proxy's user 1337 would bypass"},
		{"the proxy's user in another notation", pod("", "  containers: [{name: c, securityContext: {runAsUser: 0x539}}]\n"), "runs as the proxy's user 1337 would bypass"},
		{"the proxy's user as a fraction", pod("", "  securityContext: {runAsUser: 1337.0}\n"+containers), "containers that run as the proxy's user 1337 would bypass"},
		{"the proxy's group", pod("", "  containers: [{name: c, securityContext: {runAsGroup: 34105}}]\n"), "runs in the proxy's group 34105 would bypass"},
		{"the proxy's group for all", pod("", "  securityContext: {runAsGroup: 34105}\n"+containers), "containers that run in the proxy's group 34105 would bypass"},
		{"the files' group", pod("", "  securityContext: {fsGroup: 34105}\n"+containers), "containers that are in the proxy's group 34105 would bypass"},
		{"a further group", pod("", "  securityContext: {supplementalGroups: [7, 34105.0]}\n"+containers), "containers that are in the proxy's group 34105 would bypass"},
		{"the sidecar's processes", pod("", "  shareProcessNamespace: true\n"+containers), "containers that share the processes of the sidecar (shareProcessNamespace) would bypass"},
		{"the node's processes", pod("", "  hostPID: true\n"+containers), "containers that share the processes of the sidecar (hostPID) would bypass"},
		{"a port of ours", pod("", "  containers: [{name: c, ports: [{containerPort: 15006}]}]\n"), "container c: port 15006 is the sidecar's: take another"},
		{"a name of ours", pod("", "  containers: [{name: sluice-proxy}]\n"), "container sluice-proxy: that name is the sidecar's"},
		{"our token", pod("", "  containers: [{name: c, volumeMounts: [{name: sluice-identity, mountPath: /x}]}]\n"), "container c: volume sluice-identity is the sidecar's alone"},
		{"Istio's sidecar", pod("", "  containers: [{name: c}, {name: istio-proxy}]\n"), "the Pod has the sidecar of Istio"},
		{"Windows", pod("", "  os: {name: windows}\n"+containers), "os windows: not supported"},
		{"excluded ranges", annotated(`traffic.sidecar.istio.io/excludeOutboundIPRanges: "10.0.0.0/8"`), "destinations in 10.0.0.0/8 would bypass"},
		{"a bad range", annotated(`traffic.sidecar.istio.io/includeOutboundIPRanges: "10.0.0.0"`), `"10.0.0.0" is not a CIDR such as 10.0.0.0/8`},
		{"nothing included", annotated(`traffic.sidecar.istio.io/includeOutboundIPRanges: ""`), "would take nothing through the sidecar"},
		{"a bad port", annotated(`traffic.sidecar.istio.io/excludeInboundPorts: "80,x"`), `"x" is not a port from 1 to 65535`},
		{"an unknown annotation", annotated(`sidecar.istio.io/proxyImage: x`), "annotation sidecar.istio.io/proxyImage is not supported: leave it out"},
		{"no labels", "apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: a}\nspec: {template: {spec: {containers: [{name: c}]}}}\n", "its Pods have no labels to make it of"},
		{"not YAML", "a: b\n---\nkind: Pod\n x: [\n", "file.yaml:4: cannot be read:"},
		{"no kind", "a: b\n", "file.yaml:1: kind is missing"},
		{"a duplicate key", pod("", containers+"  hostNetwork: false\n  hostNetwork: true\n"), "file.yaml:7: cannot be read: duplicate key hostNetwork"},
		{"a merge key", "x: &x {a: b}\nkind: Pod\nmetadata: {<<: *x}\n", "merge keys are not supported"},
		{"an alias of itself", "kind: Pod\nmetadata: &m {x: *m}\n", "leads to itself"},
		{"many aliases", "kind: Pod\na: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n", "more than 200000 values, aliases followed"},
		{"UTF-16", "\xff\xfea", "UTF-16 is not supported"},
		{"a large file", strings.Repeat("#\n", MaxBytes/2+1), "split the file"},
		{"lists in lists", strings.Repeat("{kind: List, items: [", 6) + strings.Repeat("]}", 6), "more than 4 lists within one another"},
	} {
		result, err := File("file.yaml", []byte(c.text), options())
		var problems Problems
		if !errors.As(err, &problems) || !strings.Contains(err.Error(), c.want) || result.Data != nil {
			t.Errorf("%s: got %v\n%s", c.name, err, result.Data)
		}
	}
}

func TestAContainerOfWhichItsImageAloneSaysTheUserIsNoted(t *testing.T) {
	const restricted = "runAsNonRoot: true, allowPrivilegeEscalation: false"
	for _, c := range []struct {
		name, pod, container string
		noted                bool
	}{
		{"nobody says it", "", restricted, true},
		{"null says nothing", "runAsUser: null", restricted + ", runAsGroup: null", true},
		{"the container's user", "", restricted + ", runAsUser: 1000", false},
		{"the container's group", "", restricted + ", runAsGroup: 1000", false},
		{"the Pod's user", "runAsUser: 1000", restricted, false},
		{"the Pod's group", "runAsGroup: 1000", restricted, false},
	} {
		text := "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  securityContext: {" + c.pod + "}\n  containers: [{name: c, securityContext: {" + c.container + "}}]\n"
		const want = "container c: the image alone says as whom it runs, and one that is made for user 1337 in group 34105 is taken for the sidecar"
		notes := file(t, text, options()).Notes
		if got := slices.ContainsFunc(notes, func(p Problem) bool { return strings.Contains(p.Text, want) }); got != c.noted {
			t.Errorf("%s: %v", c.name, notes)
		}
	}
}

func TestAContainerThatMayBecomeTheProxysUserLowersTheLevelAndIsNoted(t *testing.T) {
	const held, user = "allowPrivilegeEscalation: false", "runAsUser: 1000"
	for _, c := range []struct {
		name, pod, container string
		lowered              bool
	}{
		{"nothing is said", "", "", true},
		{"root", "", "runAsUser: 0, " + held, true},
		{"root by the image, perhaps", "", held, true},
		{"another user, whom a setuid program makes root", "", user, true},
		{"a setuid program needs no capability", "", user + ", capabilities: {drop: [ALL]}", true},
		{"a setuid program that root makes needs neither", "", "runAsUser: 0, capabilities: {drop: [SETUID, NET_RAW]}", true},
		{"said, and not", "", user + ", allowPrivilegeEscalation: true", true},
		{"null says nothing", "", user + ", allowPrivilegeEscalation: null", true},
		{"runAsNonRoot, and root said", "runAsNonRoot: true", "runAsUser: 0, " + held, true},
		{"another user for good", "", user + ", " + held, false},
		{"another user of the Pod for good", user, held, false},
		{"no root for good", "runAsNonRoot: true, runAsGroup: 7", held, false},
		{"root without what it takes", "", "runAsUser: 0, " + held + ", capabilities: {drop: [cap_setuid, NET_RAW]}", false},
		{"root without anything", "", "runAsUser: 0, " + held + ", capabilities: {drop: [ALL]}", false},
	} {
		text := "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  securityContext: {" + c.pod + "}\n  containers: [{name: c, securityContext: {" + c.container + "}}]\n"
		result := file(t, text, options())
		arguments := objects(t, result.Data)[0].(*corev1.Pod).Spec.InitContainers[1].Args
		noted := slices.ContainsFunc(result.Notes, func(p Problem) bool { return strings.Contains(p.Text, "container c may be or become root") })
		at := slices.Index(arguments, "--lowered")
		if (at >= 0) != c.lowered || noted != c.lowered || c.lowered && arguments[at+1] != "container c may be or become root or the proxy's user" {
			t.Errorf("%s: %q, %v", c.name, arguments, result.Notes)
		}
	}
}

func TestOptionsThatNoPodCouldRunWithAreRefused(t *testing.T) {
	for _, c := range []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.Server = "foo" }, `serverAddress "foo" must be HOST:PORT`},
		{func(o *Options) { o.Server = ":1" }, `serverAddress ":1" must be HOST:PORT`},
		{func(o *Options) { o.Server = "a b:1" }, `serverAddress "a b:1" must be HOST:PORT`},
		{func(o *Options) { o.Server = "foo:0" }, `"0" is not a port from 1 to 65535`},
		{func(o *Options) { o.Server = "foo:http" }, `"http" is not a port from 1 to 65535`},
		{func(o *Options) { o.Image = "my hub/sluice-proxy:1" }, "holds white space"},
		{func(o *Options) { o.Image = "hub/sluice-proxy:1\n" }, "holds white space"},
	} {
		o := options()
		c.change(&o)
		if _, err := File("file.yaml", []byte("kind: Pod\n"), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestEveryProblemOfAFileIsSaidAtOnce(t *testing.T) {
	one := "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: true, containers: [{name: c}]}\n---\n"
	_, err := File("file.yaml", []byte(strings.Repeat(one, maxProblems+10)), options())
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != maxProblems || problems[1].Line != 9 {
		t.Errorf("%d problems, the second on line %d", len(problems), problems[1].Line)
	}
}

// A Pod that its template was not injected into, and one that was, are the same once the
// webhook has seen them.
func TestTheWebhookGivesThePodOfKubeInject(t *testing.T) {
	for name, text := range samples(t) {
		for _, object := range objects(t, file(t, text, options()).Data) {
			deployment, ok := object.(*appsv1.Deployment)
			if !ok {
				continue
			}
			want := corev1.Pod{ObjectMeta: deployment.Spec.Template.ObjectMeta, Spec: deployment.Spec.Template.Spec}
			plain := want.DeepCopy()
			plain.Annotations, plain.Spec.InitContainers, plain.Spec.Volumes = nil, nil, nil // the samples have none of their own
			got := patched(t, plain, options())
			if a, b := asJSON(t, got), asJSON(t, &want); a != b {
				t.Errorf("%s: the webhook gives\n%s\nkube-inject\n%s", name, a, b)
			}
			data, _ := json.Marshal(&want)
			if patch, _, err := Patch(data, options()); err != nil || patch != nil {
				t.Errorf("%s: the webhook changes what kube-inject made: %s, %v", name, patch, err)
			}
		}
	}
}

func TestAPodCannotSayWhereItsSidecarFindsNamesAndItsServer(t *testing.T) {
	allowed := options()
	allowed.AllowBypass = true
	for _, c := range []struct {
		name, want string
		spec       corev1.PodSpec
		o          Options
	}{
		{"nameservers", "the addresses of names, which nameservers of the Pod's own say (dnsConfig) would bypass the sidecar", corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.1"}}}, options()},
		{"nameservers that are allowed", "", corev1.PodSpec{DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.1"}}}, allowed},
		{"search", "", corev1.PodSpec{DNSConfig: &corev1.PodDNSConfig{Searches: []string{"example.com"}}}, options()},
		{"the server's name", "hostAliases: sluice-server.sluice-system.svc is the server that the sidecar has its rules from", corev1.PodSpec{HostAliases: []corev1.HostAlias{{IP: "192.0.2.1", Hostnames: []string{"a", "Sluice-Server.sluice-system.svc."}}}}, allowed},
		{"another name", "", corev1.PodSpec{HostAliases: []corev1.HostAlias{{IP: "192.0.2.1", Hostnames: []string{"a"}}}}, options()},
		{"the Pod's name", "hostnameOverride: sluice-server.sluice-system.svc is", corev1.PodSpec{HostnameOverride: new("sluice-server.sluice-system.svc")}, allowed},
	} {
		c.spec.Containers = []corev1.Container{{Name: "c"}}
		data, _ := json.Marshal(&corev1.Pod{Spec: c.spec})
		if _, _, err := Patch(data, c.o); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestAPodCannotBringASidecarOfItsOwn(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "first"}, {Name: ProxyName, Image: "mine", RestartPolicy: &always}, {Name: InitName, Image: "mine"}},
		Containers:     []corev1.Container{{Name: "c"}},
		Volumes:        []corev1.Volume{{Name: "sluice-identity"}},
	}}
	pod.Annotations = map[string]string{annotationStatus: `{"version":"mine","initContainers":[],"volumes":[]}`}
	got := patched(t, pod, options())
	checkSidecar(t, "the Pod", &got.Spec)
	for _, c := range got.Spec.InitContainers {
		if c.Image == "mine" {
			t.Errorf("%s is the Pod's own", c.Name)
		}
	}
	if len(got.Spec.InitContainers) != 3 || got.Spec.InitContainers[2].Name != "first" || got.Spec.Volumes[0].Projected == nil {
		t.Errorf("the Pod has %+v", got.Spec)
	}
	refused := &corev1.Pod{Spec: corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "c"}}}}
	data, _ := json.Marshal(refused)
	if _, _, err := Patch(data, options()); err == nil || !strings.Contains(err.Error(), "hostNetwork") {
		t.Errorf("hostNetwork gives %v", err)
	}
}

func FuzzFile(f *testing.F) {
	for _, text := range samples(f) {
		f.Add([]byte(text))
	}
	f.Add([]byte("--- &a {kind: List, items: [*a]}"))
	f.Add([]byte(`{"kind":"Pod","apiVersion":"v1","spec":{"containers":[{}],"initContainers":{}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		once, err := File("f", data, options())
		if err != nil {
			return
		}
		twice, err := File("f", once.Data, options())
		if err != nil {
			t.Fatalf("what was written is refused: %v\n%s", err, once.Data)
		}
		if string(twice.Data) != string(once.Data) {
			t.Fatalf("the second injection changes %q to %q", once.Data, twice.Data)
		}
	})
}
