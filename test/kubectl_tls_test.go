package test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

// TestTheVerbsOfKubectlSpeakTLSToTheServerOfAKubeconfig has a server whose socket the client
// does not know: what comes to it came over TCP, with the certificates of the file.
func TestTheVerbsOfKubectlSpeakTLSToTheServerOfAKubeconfig(t *testing.T) {
	at, elsewhere := mesh.NewPlace(t, mesh.User{Name: "user", UID: -1}), mesh.NewPlace(t, mesh.User{Name: "user", UID: -1})
	at.StartServer(t, "--api-listen", "127.0.0.1:0")
	client := mesh.NewPlace(t, mesh.User{Name: "user", UID: -1}) // where no server runs
	rule, err := os.ReadFile(filepath.Join(at.Samples, "bookinfo", "kube", "egress-rule-google-apis.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Dir(client.Runtime)
	issued := func(place *mesh.Place, file string, args ...string) {
		t.Helper()
		r := place.Run(t, "", "sluice", append([]string{"kubeconfig"}, args...)...)
		if r.Code != 0 {
			t.Fatalf("sluice kubeconfig: %s", r.Stderr)
		}
		if err := os.WriteFile(filepath.Join(folder, file), []byte(r.Stdout), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	issued(at, "editor", "--role", "editor", "--name", "jason")
	issued(at, "reader", "--name", "ada")
	issued(at, "books", "--name", "ada", "-n", "books")
	address := regexp.MustCompile(`https://(\S+)`).FindStringSubmatch(read(t, filepath.Join(folder, "editor")))[1]
	elsewhere.StartServer(t, "--api-listen", "127.0.0.1:0")
	issued(elsewhere, "stranger", "--role", "editor", "--address", address)

	const said = "egressrule.config.istio.io/googleapis "
	const forbidden = "the role reader reads only: ask for a kubeconfig with sluice kubeconfig --role editor"
	for _, step := range []struct {
		line, input string
		code        int
		says        string
	}{
		{"sluice --kubeconfig editor create -f -", string(rule), 0, "Created config egress-rule/default/googleapis"},
		{"kubectl-sluice --kubeconfig reader get er -o name", "", 0, strings.TrimSpace(said) + "\n"},
		{"sluice --kubeconfig reader wait --for=condition=Accepted er/googleapis --timeout=30s", "", 0, said + "condition met\n"},
		{"sluice label er googleapis team=books --kubeconfig editor", "", 0, said + "labeled\n"},
		{"sluice --server editor annotate er/googleapis ticket=42", "", 0, said + "annotated\n"},
		{"kubectl-sluice --server reader get egress-rule/default/googleapis -o jsonpath={.metadata.annotations.ticket}", "", 0, "42"},
		{"env SLUICE_SERVER=reader sluice get er -l team=books -o name", "", 0, strings.TrimSpace(said) + "\n"},
		{"sluice --kubeconfig reader get er -w --no-headers --request-timeout=1s", "", 1, "unknown flag: --request-timeout"},
		{"sluice --kubeconfig reader explain ep.spec.to.ports", "", 0, "FIELD: ports <[]Object>"},
		{"sluice --kubeconfig editor patch er googleapis -p {\"metadata\":{\"labels\":{\"team\":null}}}", "", 0, said + "patched\n"},
		{"sluice --kubeconfig editor diff -f -", strings.Replace(string(rule), "*.googleapis.com", "*.google.com", 1), 1, "+    service: '*.google.com'\n"},
		{"sluice --kubeconfig editor edit er googleapis", "", 0, said + "edited\n"},
		{"kubectl-sluice --kubeconfig reader get er googleapis -o jsonpath={.spec.destination.service}", "", 0, "*.wikipedia.org"},

		// What the file says beside the address counts too.
		{"kubectl-sluice --kubeconfig books get er", "", 0, ""},
		{"kubectl-sluice --kubeconfig books -n default get er -o name", "", 0, strings.TrimSpace(said) + "\n"},

		// Who may not, and who is not known.
		{"sluice --kubeconfig reader label er googleapis a=b", "", 1, forbidden},
		{"kubectl-sluice --kubeconfig reader patch er googleapis -p {}", "", 1, forbidden},
		{"kubectl-sluice --kubeconfig stranger get er", "", 1, "error: sluice-server at " + address + ": tls: failed to verify certificate: x509: certificate signed by unknown authority"},
		{"sluice --kubeconfig stranger label er googleapis a=b", "", 1, "the kubeconfig is of another server, or of an earlier authority of it; write it anew with sluice kubeconfig\n"},
		{"kubectl-sluice --server " + address + " get er", "", 1, "error: " + address + " speaks TLS, and wants a client certificate: write a file with sluice kubeconfig on its machine, and name it here: --kubeconfig FILE\n"},
		{"kubectl-sluice --server https://" + address + " get er", "", 1, "over TLS a client certificate is needed"},
		{"kubectl-sluice --kubeconfig missing get er", "", 1, "error: --kubeconfig missing: it is not there, or not a regular file\n"},
		{"kubectl-sluice --kubeconfig reader --server reader get er", "", 1, "error: --server and --kubeconfig name a server each: give one\n"},
		{"kubectl-sluice get er", "", 1, "error: no sluice-server answers at " + client.Socket("api.sock") + "; start one with sluice-server (or sluice demo) as the same user, or name another with --server\n"},
	} {
		words := strings.Fields(step.line)
		var with []string
		if words[0] == "env" {
			with, words = words[1:2], words[2:]
		}
		cmd := client.Command(context.Background(), words[0], words[1:]...)
		cmd.Dir = folder
		cmd.Env = append(append(cmd.Env, "KUBE_EDITOR=sed -i s/googleapis.com/wikipedia.org/", "KUBECONFIG=/nonexistent"), with...)
		r := mesh.Finish(t, cmd, step.input)
		text := r.Stdout
		if step.code != 0 && !strings.Contains(step.line, " diff ") {
			text = r.Stderr
		}
		if r.Code != step.code || !strings.Contains(text, step.says) || step.code != 0 && strings.Contains(r.Stderr, "memcache.go") {
			t.Errorf("%s: exit %d, %q and %q; want %d and %q", step.line, r.Code, r.Stdout, r.Stderr, step.code, step.says)
		}
	}
	history := at.Run(t, "", "sluice", "history", "er/googleapis").Stdout
	for _, line := range []string{"create", "patch"} {
		if !regexp.MustCompile(`(?m)^\d+ +\S+ +jason +editor +` + line + ` +127\.0\.0\.1:\d+$`).MatchString(history) {
			t.Errorf("the history says of no %s by jason over TCP:\n%s", line, history)
		}
	}
	if strings.Contains(history, "api.sock") {
		t.Errorf("a change came by the socket:\n%s", history)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
