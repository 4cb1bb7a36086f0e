package rules

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/test/kube/cluster"
)

// binaries is where make build puts Sluice's own.
const binaries = "../../../bin"

// manifest is what an operator applies.
const manifest = "../../../deploy/webhook/validating.yaml"

// server is a sluice-server of the cluster.
type server struct {
	cmd  *exec.Cmd
	port string // of the webhook
}

// start starts sluice-server and waits until it is ready.
func start(t *testing.T, c *cluster.Cluster) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "kube") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	binary, err := filepath.Abs(filepath.Join(binaries, "sluice-server"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("%v: run make test-kube, which builds it", err)
	}
	s := &server{cmd: exec.Command(binary, "--kubeconfig", c.Kubeconfig, "--runtime-dir", filepath.Join(dir, "run"),
		"--webhook-listen", "127.0.0.1:0", "--push-listen", "127.0.0.1:0")}
	said, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop(t) })
	late := time.AfterFunc(2*time.Minute, func() { _ = s.cmd.Process.Kill() }) // then it says no more
	defer late.Stop()
	lines := bufio.NewScanner(said)
	var log bytes.Buffer
	for lines.Scan() {
		fmt.Fprintln(&log, lines.Text())
		if match := regexp.MustCompile(`msg=ready .* webhook=127\.0\.0\.1:(\d+) `).FindStringSubmatch(lines.Text()); match != nil {
			s.port = match[1]
			go func() {
				for lines.Scan() {
				}
			}()
			return s
		}
	}
	t.Fatalf("the server did not start:\n%s", &log)
	return nil
}

func (s *server) stop(t *testing.T) {
	if s.cmd.ProcessState != nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("the server ended with %v", err)
	}
}

// judged returns a cluster whose API server asks a sluice-server about rules, by the
// manifest as it is but for the port. A Service leads to it that is an alias of localhost,
// as there is no kube-proxy.
func judged(t *testing.T) (*cluster.Cluster, *server) {
	t.Helper()
	c := shared.Get(t)
	s := start(t, c)
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	applied := strings.ReplaceAll(string(text), "port: 15017", "port: "+s.port) + `---
apiVersion: v1
kind: Service
metadata: {name: sluice-server, namespace: sluice-system}
spec: {type: ExternalName, externalName: localhost}
`
	if r := c.Kubectl(t, applied, "apply", "-f", "-"); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	t.Cleanup(func() {
		if r := c.Kubectl(t, "", "delete", "validatingwebhookconfiguration", "sluice"); r.Code != 0 {
			t.Errorf("%+v", r)
		}
	})
	probe := object("egressrules", "config.istio.io/v1alpha2", "probe", "{}")
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		// Refused by the webhook, where the API server can reach and believe it.
		r := c.Kubectl(t, probe, "create", "--dry-run=server", "-f", "-")
		if strings.Contains(r.Stderr, "egress rule must have a ports list") {
			return c, s
		}
		if time.Now().After(end) {
			t.Fatalf("the webhook is not asked: %+v", r)
		}
	}
}

const good = "{destination: {service: www.example.com}, ports: [{port: 443, protocol: https}]}"

func TestAValidRuleIsTakenWithTheWarningsOfTheCommandLine(t *testing.T) {
	c, _ := judged(t)
	r := c.Kubectl(t, object("egressrules", "config.istio.io/v1alpha2", "warned", good), "create", "-f", "-")
	if r.Code != 0 || !strings.Contains(r.Stderr, "Warning: egress-rule/default/warned applies to the workloads of namespace default; in Istio 0.5 it applied to all namespaces") {
		t.Errorf("%+v", r)
	}
	if r := c.Kubectl(t, "", "patch", "er", "warned", "--type=merge", "-p", `{"spec":{"ports":[]}}`); r.Code == 0 || !strings.Contains(r.Stderr, "spec.ports: egress rule must have a ports list") {
		t.Errorf("a bad update: %+v", r)
	}
}

func TestWithoutItsServerNoRuleIsStoredOutsideOfItsOwnNamespace(t *testing.T) {
	c, s := judged(t)
	namespace := c.Namespace(t)
	s.stop(t)
	rule := object("egressrules", "config.istio.io/v1alpha2", "rule", good)
	if r := c.Kubectl(t, rule, "-n", namespace, "create", "-f", "-"); r.Code == 0 || !strings.Contains(r.Stderr, `failed calling webhook "rules.sluice.dev"`) {
		t.Errorf("in another namespace: %+v", r)
	}
	if r := c.Kubectl(t, rule, "-n", "sluice-system", "create", "-f", "-"); r.Code != 0 {
		t.Errorf("in its own: %+v", r)
	}
	bad := object("egressrules", "config.istio.io/v1alpha2", "bad", "{destination: {service: a.com}, ports: [{port: 70000, protocol: http}]}")
	if r := c.Kubectl(t, bad, "-n", "sluice-system", "create", "-f", "-"); r.Code != 0 {
		t.Errorf("what the schema lets through: %+v", r)
	}
	start(t, c)
	r := c.Kubectl(t, "", "-n", "sluice-system", "wait", "--for=condition=Accepted=false", "er/bad", "--timeout=60s")
	if r.Code != 0 {
		t.Errorf("%+v", r)
	}
	said := c.Kubectl(t, "", "-n", "sluice-system", "get", "er", "bad", "-o", `jsonpath={.status.conditions[?(@.type=="Accepted")].message}`).Stdout
	if said != "spec.ports[0].port: port number 70000 must be in the range 1..65535" {
		t.Errorf("its status says %q", said)
	}
	if r := c.Kubectl(t, "", "-n", "sluice-system", "wait", "--for=condition=Programmed", "er/rule", "--timeout=60s"); r.Code != 0 {
		t.Errorf("%+v", r)
	}
	if r := c.Kubectl(t, "", "-n", "sluice-system", "delete", "er", "--all"); r.Code != 0 {
		t.Errorf("%+v", r)
	}
}
