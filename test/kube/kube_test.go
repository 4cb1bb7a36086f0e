package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// place is a server with folders of its own, and a kubectl.
type place struct {
	dir, bin, kubectl string
	env               []string
	log               *bytes.Buffer // of the server; read once it ended
	server            *exec.Cmd
}

// newPlace starts a server with a TCP port.
func newPlace(t *testing.T) *place {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, "sluice-server")); err != nil {
		t.Fatalf("%v: run make test-kube, which builds it", err)
	}
	dir, err := os.MkdirTemp("", "kube") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &place{dir: dir, bin: bin, kubectl: filepath.Join(dir, "kubectl"), log: new(bytes.Buffer)}
	if out, err := exec.Command("go", "build", "-o", p.kubectl, "./kubectl").CombinedOutput(); err != nil {
		t.Fatalf("build kubectl: %v\n%s", err, out)
	}
	p.env = []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir,
		"SLUICE_RUNTIME=" + filepath.Join(dir, "run"), "SLUICE_DATA=" + filepath.Join(dir, "data"),
		"KUBE_EDITOR=sed -i s/google.com/wikipedia.org/",
	}
	p.server = exec.Command(filepath.Join(bin, "sluice-server"), "--api-listen", "127.0.0.1:0", "--log-level", "debug")
	p.server.Env, p.server.Stderr = p.env, p.log
	if err := p.server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(t) })
	p.await(t, "the server", func() bool { code, _ := p.run(t, "", "sluice", "status"); return code == 0 })
	for _, role := range []string{"reader", "editor"} {
		code, said := p.run(t, "", "sh", "-c", "sluice kubeconfig --name jason --role "+role+" > "+p.config(role))
		if code != 0 {
			t.Fatalf("sluice kubeconfig: %s", said)
		}
	}
	return p
}

func (p *place) config(role string) string { return filepath.Join(p.dir, role) }

// stop ends the server; later calls do nothing.
func (p *place) stop(t *testing.T) {
	if p.server.ProcessState != nil {
		return
	}
	_ = p.server.Process.Signal(syscall.SIGTERM)
	if err := p.server.Wait(); err != nil {
		t.Errorf("the server ended with %v\n%s", err, p.log)
	}
}

func (p *place) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// run runs a command and returns its exit status and all that it said.
func (p *place) run(t *testing.T, input string, name string, args ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	switch name {
	case "kubectl":
		name = p.kubectl
	case "sluice":
		name = filepath.Join(p.bin, name)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Stdin, cmd.Dir = p.env, strings.NewReader(input), p.dir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

const rule = `apiVersion: config.istio.io/v1alpha2
kind: EgressRule
metadata:
  name: googleapis
  namespace: default
spec:
  destination:
    service: '*.googleapis.com'
  ports:
  - port: 443
    protocol: https
`

func TestTheVerbsOfKubectlWorkOverTheNetworkAsARoleAllows(t *testing.T) {
	p := newPlace(t)
	google := strings.Replace(rule, "*.googleapis.com", "*.google.com", 1)
	said := "egressrule.config.istio.io/googleapis "
	for _, x := range []struct {
		role, line, input string
		code              int
		says              string
	}{
		{"editor", "apply -f -", rule, 0, said + "created\n"},
		{"editor", "wait --for=condition=Accepted er/googleapis --timeout=60s", "", 0, said + "condition met\n"},
		{"reader", "get egressrules", "", 0, "googleapis   *.googleapis.com "},
		{"reader", "get er googleapis -o yaml", "", 0, "service: '*.googleapis.com'"},
		{"reader", "get er -o wide -A", "", 0, "PROGRAMMED"},
		{"reader", "explain egresspolicy.spec.to.ports", "", 0, "FIELD: ports <[]Object>"},
		{"reader", "api-resources --api-group=sluice.dev", "", 0, "EgressPolicy"},
		{"reader", "describe er googleapis", "", 0, "Service:  *.googleapis.com"},
		{"reader", "diff -f -", google, 2, "the role reader reads only"}, // it is a change that is tried only
		{"editor", "diff -f -", google, 1, "+    service: '*.google.com'\n"},
		{"editor", "diff -f -", rule, 0, ""},
		{"editor", "apply -f -", google, 0, said + "configured\n"},
		{"editor", "edit er googleapis", "", 0, said + "edited\n"},
		{"editor", "label er googleapis team=books", "", 0, said + "labeled\n"},
		{"editor", "annotate er googleapis ticket=42", "", 0, said + "annotated\n"},
		{"editor", "apply --server-side --force-conflicts -f -", rule, 0, said + "serverside-applied\n"},
		{"editor", "apply -f -", strings.Replace(rule, "port: 443", "port: 70000", 1), 1, "port number 70000 must be in the range 1..65535"},
		{"reader", "apply -f -", google, 1, "the role reader reads only: ask for a kubeconfig with sluice kubeconfig --role editor"},
		{"reader", "label er googleapis a=b", "", 1, "(Forbidden)"},
		{"reader", "delete er googleapis", "", 1, "(Forbidden)"},
		{"editor", "patch er googleapis --subresource=status --type=merge -p {\"status\":{}}", "", 1, "statuses are the server's alone to write"},
		{"editor", "delete crd egressrules.config.istio.io", "", 1, "the definitions of the kinds are the server's alone to write"},
		{"editor", "--as=system:admin --as-group=system:masters get er", "", 1, "may not act as somebody else"},
		{"editor", "--token=secret-of-somebody get er", "", 0, "googleapis"},
		{"reader", "get er nothing", "", 1, `Error from server (NotFound): egressrules.config.istio.io "nothing" not found`},
		{"editor", "delete er googleapis", "", 0, `egressrule.config.istio.io "googleapis" deleted`},
		{"reader", "wait --for=delete er/googleapis --timeout=60s", "", 0, ""},
	} {
		code, text := p.run(t, x.input, "kubectl", append([]string{"--kubeconfig", p.config(x.role)}, strings.Fields(x.line)...)...)
		if code != x.code || !strings.Contains(text, x.says) {
			t.Errorf("%s: %s: exit %d, %q; want %d and %q", x.role, x.line, code, text, x.code, x.says)
		}
	}

	_, text := p.run(t, "", "sluice", "history", "egress-rule/default/googleapis")
	var verbs []string
	for _, match := range regexp.MustCompile(`(?m)^\d+ +\S+ +jason +editor +(\S+) +127\.0\.0\.1:\d+$`).FindAllStringSubmatch(text, -1) {
		verbs = append(verbs, match[1])
	}
	if want := "[create patch patch patch patch apply delete]"; fmt.Sprint(verbs) != want {
		t.Errorf("the history has %v, want %s:\n%s", verbs, want, text)
	}

	p.stop(t)
	log := p.log.String()
	if n := strings.Count(log, "msg=changed who=jason role=editor"); n < len(verbs) { // and those of who manages which field
		t.Errorf("the log has %d changes, want at least %d", n, len(verbs))
	}
	config, err := os.ReadFile(p.config("editor"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(config), "client-key-data: ")
	key, _, _ := strings.Cut(rest, "\n")
	for _, secret := range []string{"PRIVATE KEY", key, "secret-of-somebody"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %.20q", secret)
		}
	}
}

func TestAWatchShowsEachChangeAsItIsMade(t *testing.T) {
	p := newPlace(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch := exec.CommandContext(ctx, p.kubectl, "--kubeconfig", p.config("reader"), "get", "er", "-w", "-o", "custom-columns=S:.spec.destination.service", "--no-headers")
	watch.Env, watch.Dir = p.env, p.dir
	out, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = watch.Wait() // killed
	}()
	if code, said := p.run(t, rule, "kubectl", "--kubeconfig", p.config("editor"), "apply", "-f", "-"); code != 0 {
		t.Fatal(said)
	}
	late := time.AfterFunc(2*time.Minute, cancel)
	defer late.Stop()
	line := make([]byte, len("*.googleapis.com\n"))
	if n, err := out.Read(line); string(line[:n]) != "*.googleapis.com\n" {
		t.Errorf("%q %v", line[:n], err)
	}
}

func TestWithoutItsCertificateKubectlIsAskedForCredentials(t *testing.T) {
	p := newPlace(t)
	config, err := os.ReadFile(p.config("editor"))
	if err != nil {
		t.Fatal(err)
	}
	bare := regexp.MustCompile(`(?m)^    client-(certificate|key)-data: .*\n`).ReplaceAllString(string(config), "")
	bare = strings.Replace(bare, "  user:\n", "  user: {token: secret-of-somebody}\n", 1)
	if err := os.WriteFile(p.config("bare"), []byte(bare), 0o600); err != nil {
		t.Fatal(err)
	}
	code, said := p.run(t, "", "kubectl", "--kubeconfig", p.config("bare"), "get", "er")
	if code == 0 || !strings.Contains(said, "(Unauthorized)") && !strings.Contains(said, "must be logged in") {
		t.Errorf("exit %d, %q", code, said)
	}
}
