package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// contexts writes a kubeconfig with a cluster, a server of kubectl's and a current context.
func contexts(t *testing.T, current string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(`apiVersion: v1
kind: Config
current-context: `+current+`
clusters:
- {name: cluster, cluster: {server: "https://192.0.2.1:6443"}}
- {name: mesh, cluster: {server: "https://192.0.2.2:15010", tls-server-name: sluice-server}}
contexts:
- {name: prod, context: {cluster: cluster, namespace: books}}
- {name: mesh, context: {cluster: mesh}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAPluginOfKubectlIsAboutItsClusterUnlessAServerIsNamed(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, each := range []struct {
		what                 string
		called               string // by which name
		current, environment string // current context; SLUICE_SERVER
		flags                string
		cluster              bool
		namespace, err       string
	}{
		{"kubectl's current context", "kubectl-sluice", "prod", "", "", true, "books", ""},
		{"another context", "kubectl-sluice", "mesh", "", "--context prod", true, "books", ""},
		{"a server by flag", "kubectl-sluice", "prod", "", "--server=/run/x", false, "", ""},
		{"a server by variable", "kubectl-sluice", "prod", "/run/x", "", false, "", ""},
		{"a context in the place of the variable's server", "kubectl-sluice", "prod", "/run/x", "--context=prod", true, "books", ""},
		{"no context", "kubectl-sluice", `""`, "", "", false, "", ""},
		{"a context of sluice kubeconfig", "kubectl-sluice", "mesh", "", "", false, "", ""},
		{"sluice itself", "sluice", "prod", "", "", false, "", ""},
		{"a file that is missing", "kubectl-sluice", "prod", "", "--kubeconfig " + missing, false, "", ""},
		{"a context that is missing", "kubectl-sluice", "prod", "", "--context other", false, "", `there is no context "other"`},
		{"two", "kubectl-sluice", "prod", "", "--context prod --server /run/x", false, "", "name one server"},
	} {
		t.Setenv("KUBECONFIG", contexts(t, each.current))
		t.Setenv("SLUICE_SERVER", each.environment)
		g, err := flagsOf(strings.Fields("status -A " + each.flags))
		if err != nil {
			t.Fatal(err)
		}
		got, err := targetOf(each.called != parent, g)
		if each.err != "" {
			if err == nil || !strings.Contains(err.Error(), each.err) {
				t.Errorf("%s: %v", each.what, err)
			}
			continue
		}
		if err != nil || got.cluster != each.cluster {
			t.Errorf("%s: cluster %v, %v", each.what, got.cluster, err)
		}
		if got.cluster {
			if namespace, _, err := got.config("").Namespace(); err != nil || namespace != each.namespace {
				t.Errorf("%s: namespace %s, %v", each.what, namespace, err)
			}
		}
	}
	// A file that is named in place of KUBECONFIG.
	t.Setenv("SLUICE_SERVER", "")
	t.Setenv("KUBECONFIG", contexts(t, "mesh"))
	if got, err := targetOf(true, given{kubeconfig: contexts(t, "prod")}); err != nil || !got.cluster {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestFlagsOfTheTargetAreTakenOutOfThoseOfSluice(t *testing.T) {
	for line, want := range map[string]string{
		"flows --context a --from web":  "flows --from web",
		"flows --kubeconfig=f -n books": "flows -n books",
		"why --server x https://a":      "why --server=x https://a",
		"flows --last 5 -- --context a": "flows --last 5 -- --context a",
	} {
		g, err := flagsOf(strings.Fields(line))
		if err != nil || !slices.Equal(g.rest, strings.Fields(want)) {
			t.Errorf("%s: %q, %v", line, g.rest, err)
		}
	}
	if _, err := flagsOf([]string{"flows", "--context"}); err == nil {
		t.Error("a flag without its value is taken")
	}
}

func TestWhatKubectlDoesItselfOnAClusterIsRefusedWithItsCommand(t *testing.T) {
	for verb, want := range map[string]string{"apply": "kubectl apply does it", "backup": "for a sluice-server of one machine", "flows": ""} {
		err := refusal(verb)
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

// elsewhere is the commands of sluice that ask no server, or find the cluster themselves.
var elsewhere = []string{"run", "demo", "validate", "kube-inject", "install", "uninstall", "version", "doctor"}

// A command that nobody thought of would ask the server of this machine for the cluster's.
func TestEachCommandOfSluiceIsAboutOneKindOfServer(t *testing.T) {
	reference, err := os.ReadFile("../../docs/reference/commands.md") // which is made of the commands
	if err != nil {
		t.Fatal(err)
	}
	root := newRootCommand("kubectl-sluice", genericiooptions.NewTestIOStreamsDiscard())
	lists, found := slices.Concat(asking, kubectls, machines, elsewhere), 0
	for _, match := range regexp.MustCompile(`(?m)^### sluice ([a-z-]+)$`).FindAllStringSubmatch(string(reference), -1) {
		word, in := match[1], 0
		for _, other := range lists {
			if other == word {
				in++
			}
		}
		if found += in; !isOther(root, word) { // it is kubectl's own
			in++
		}
		if in != 1 {
			t.Errorf("%s is in %d lists, want one", word, in)
		}
	}
	if found != len(lists) {
		t.Errorf("%d of the %d commands in %q are in the reference", found, len(lists), lists)
	}
	if !slices.Contains(asking, "top") {
		t.Error("top does not ask the servers of the cluster")
	}
}
