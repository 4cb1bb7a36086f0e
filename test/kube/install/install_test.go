// Package install tries sluice install and uninstall on the real API server, with the
// controllers of Kubernetes that make Pods, collect garbage and end namespaces.
package install

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/test/kube/cluster"
)

// patience bounds every wait of these tests; none of them passes by waiting.
const patience = 5 * time.Minute

var shared = cluster.Shared{Prepare: func(c *cluster.Cluster) error {
	return c.StartControllers([]string{
		"namespace-controller", "garbage-collector-controller", "serviceaccount-controller", "deployment-controller", "replicaset-controller",
		"root-ca-certificate-publisher-controller",
	})
}}

func TestMain(m *testing.M) {
	code := m.Run()
	shared.Stop()
	os.Exit(code)
}

// program is a program of Sluice that make build made.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../../bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make test-kube, which builds it", err)
	}
	return path
}

// sluice runs sluice with the cluster as kubectl's current one.
func sluice(t *testing.T, c *cluster.Cluster, args ...string) cluster.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience) // Cleanup calls it too
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t, "sluice"), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = []string{"PATH=" + c.Binaries + ":/usr/bin:/bin", "HOME=" + c.Dir, "KUBECONFIG=" + c.Kubeconfig}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cluster.Result{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
}

// everything is each object of the cluster, of every type that can be listed, but events,
// which tell of objects and go after an hour.
func everything(t *testing.T, c *cluster.Cluster) (objects []string) {
	t.Helper()
	types := c.Kubectl(t, "", "api-resources", "--verbs=list", "-o", "name")
	if types.Code != 0 {
		t.Fatalf("%+v", types)
	}
	listed := slices.DeleteFunc(strings.Fields(types.Stdout), func(one string) bool { return strings.HasPrefix(one, "events") })
	said := c.Kubectl(t, "", "get", strings.Join(listed, ","), "--all-namespaces", "--ignore-not-found", "-o",
		`jsonpath={range .items[*]}{.kind}/{.metadata.namespace}/{.metadata.name}{"\n"}{end}`)
	if said.Code != 0 {
		t.Fatalf("%+v", said)
	}
	objects = strings.Fields(said.Stdout)
	slices.Sort(objects)
	return objects
}

// missing is what is in one list and not in another.
func missing(of, in []string) (gone []string) {
	for _, one := range of {
		if _, found := slices.BinarySearch(in, one); !found {
			gone = append(gone, one)
		}
	}
	return gone
}

// until asks until something holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func TestUninstallLeavesNothingOfWhatInstallBroughtAndServersMade(t *testing.T) {
	c := shared.Get(t)
	others := c.Namespace(t)
	until(t, "the namespaces have what each namespace has", func() bool {
		r := c.Kubectl(t, "", "get", "configmaps,serviceaccounts", "--all-namespaces", "-o", "name")
		return strings.Count(r.Stdout, "configmap/kube-root-ca.crt") == 5 && strings.Count(r.Stdout, "serviceaccount/default") == 5 // four of Kubernetes, and ours
	})
	theirs := `{apiVersion: v1, kind: ConfigMap, metadata: {name: theirs, namespace: ` + others + `, labels: {app.kubernetes.io/managed-by: sluice-server}}}`
	if r := c.Kubectl(t, theirs, "apply", "-f", "-"); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	before := everything(t, c)

	if r := sluice(t, c, "install", "--wait=false"); r.Code != 0 || r.Stderr != "" {
		t.Fatalf("%+v", r)
	}
	// The servers' Pods are let into their namespace, whose level of Pod security is restricted.
	until(t, "the controller made the Pods of the servers", func() bool {
		return len(strings.Fields(c.Kubectl(t, "", "-n", "sluice-system", "get", "pods", "-o", "name").Stdout)) == 2
	})
	printed := sluice(t, c, "install", "--print")
	if r := c.Kubectl(t, printed.Stdout, "get", "-f", "-", "-o", "name"); r.Code != 0 || len(strings.Fields(r.Stdout)) < 15 {
		t.Errorf("what is printed is not what was applied: %+v", r)
	}
	if r := c.Kubectl(t, printed.Stdout, "diff", "--server-side", "--field-manager=sluice-install", "-f", "-"); r.Code != 0 {
		t.Errorf("to apply it again would change something: %+v", r)
	}
	if r := c.Kubectl(t, "", "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	if r := sluice(t, c, "install", "--wait=false", "--replicas", "3", "--tag", "2"); r.Code != 0 || r.Stderr != "" {
		t.Fatalf("%+v", r)
	}
	if r := c.Kubectl(t, "", "-n", "sluice-system", "get", "deployment", "sluice-server", "-o", "jsonpath={.spec.replicas} {.spec.template.spec.containers[*].image}"); r.Stdout != "3 sluice.dev/sluice-server:2" {
		t.Errorf("%+v", r)
	}

	// A server makes what servers make, and ends without a chance to take it back.
	end := serve(t, c)
	until(t, "a server made its Secret and a lease", func() bool {
		r := c.Kubectl(t, "", "-n", "sluice-system", "get", "secret,lease", "-o", "name")
		return strings.Contains(r.Stdout, "secret/sluice-server-ca") && strings.Contains(r.Stdout, "lease.coordination.k8s.io/sluice-server-")
	})
	end()
	made := strings.ReplaceAll(`
apiVersion: v1
kind: List
items:
- {apiVersion: config.istio.io/v1alpha2, kind: EgressRule, metadata: {name: rule, namespace: sluice-system}, spec: {destination: {service: a.com}, ports: [{port: 80, protocol: http}]}}
- apiVersion: v1
  kind: Pod
  metadata: {name: meshed, namespace: NS}
  spec: {initContainers: [{name: sluice-proxy, image: a}], containers: [{name: a, image: a}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: plain, namespace: NS}
  spec: {containers: [{name: sluice-proxy, image: a}]}
`, "NS", others)
	if r := c.Kubectl(t, made, "apply", "-f", "-"); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	roots := `{apiVersion: v1, kind: ConfigMap, metadata: {name: sluice-roots, namespace: ` + others + `, labels: {app.kubernetes.io/managed-by: sluice-server}}, data: {root-cert.pem: x}}`
	if r := c.Kubectl(t, roots, "apply", "-f", "-", "--as=system:serviceaccount:sluice-system:sluice-server", "--as-group=system:masters"); r.Code != 0 {
		t.Fatalf("%+v", r) // nobody else may write it
	}

	there := everything(t, c)
	if r := sluice(t, c, "uninstall"); r.Code != 1 || !strings.Contains(r.Stderr, "nothing is removed: Pods still have a sidecar, which would not start again: "+others+"/meshed;") {
		t.Errorf("%+v", r)
	}
	if gone := missing(there, everything(t, c)); len(gone) > 0 {
		t.Errorf("a refused uninstall removed %q", gone)
	}
	if r := c.Kubectl(t, "", "-n", others, "delete", "pod", "meshed", "plain", "--grace-period=0", "--force"); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	if r := sluice(t, c, "uninstall"); r.Code != 0 || !strings.HasSuffix(r.Stdout, "Sluice is removed\n") {
		t.Fatalf("%+v", r)
	}
	after := everything(t, c)
	if left := missing(after, before); len(left) > 0 {
		t.Errorf("uninstall left %q", left)
	}
	if gone := missing(before, after); len(gone) > 0 {
		t.Errorf("uninstall took what is not Sluice's: %q", gone)
	}
	if r := sluice(t, c, "uninstall"); r.Code != 0 {
		t.Errorf("where nothing is installed: %+v", r)
	}
}

// serve starts a server of the cluster and returns what kills it.
func serve(t *testing.T, c *cluster.Cluster) (end func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "kube") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	process, err := cluster.Launch(filepath.Join(dir, "log"), program(t, "sluice-server"), "--kubeconfig", c.Kubeconfig,
		"--runtime-dir", filepath.Join(dir, "run"), "--webhook-listen", "127.0.0.1:0", "--push-listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Kill()
		if t.Failed() {
			t.Logf("the server said:\n%s", process.Tail())
		}
	})
	return process.Kill
}

func TestAnInstallationWhoseServersDoNotRunSaysWhereToLook(t *testing.T) {
	c := shared.Get(t)
	t.Cleanup(func() {
		if r := sluice(t, c, "uninstall"); r.Code != 0 {
			t.Errorf("%+v", r)
		}
	})
	var r cluster.Result
	for _, timeout := range []string{"5s", "30s", "2m"} { // there is no node to run them
		if r = sluice(t, c, "install", "--timeout", timeout); !strings.Contains(r.Stderr, "kubectl apply did not end") {
			break // else the machine is too busy
		}
	}
	if r.Code != 1 || !strings.Contains(r.Stderr, "kubectl --namespace=sluice-system describe pods and logs deployment/sluice-server say why") {
		t.Errorf("%+v", r)
	}
}

func TestAKubeconfigAndAContextSayWhichClusterIsMeant(t *testing.T) {
	c := shared.Get(t)
	r := sluice(t, c, "install", "--context", "elsewhere")
	if r.Code != 1 || !strings.Contains(r.Stderr, `"elsewhere"`) {
		t.Errorf("%+v", r)
	}
	if r := sluice(t, c, "uninstall", "--kubeconfig", filepath.Join(c.Dir, "missing.conf")); r.Code != 1 || !strings.Contains(r.Stderr, "missing.conf") {
		t.Errorf("%+v", r)
	}
	if r := c.Kubectl(t, "", "get", "namespace", "sluice-system", "--ignore-not-found", "-o", "name"); cmp.Or(r.Stdout, r.Stderr) != "" {
		t.Errorf("%+v", r)
	}
}
