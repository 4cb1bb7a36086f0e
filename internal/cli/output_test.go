package cli

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/control/history"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/rest/fakeapi"
	"sluice.dev/sluice/internal/telemetry/trace"
)

// full takes so many bytes and fails then, as a disk does.
type full struct{ left int }

var errFull = errors.New("no space left on the disk")

func (f *full) Write(b []byte) (int, error) {
	if len(b) > f.left {
		n := f.left
		f.left = 0
		return n, errFull
	}
	f.left -= len(b)
	return len(b), nil
}

// beside answers what commands ask beside the rules.
func beside() http.Handler {
	mux := http.NewServeMux()
	answer := func(path string, value any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(inspect.FormatHeader, strconv.Itoa(inspect.Format))
			_ = json.NewEncoder(w).Encode(value)
		})
	}
	answer(inspect.StatusPath, inspect.Status{Format: inspect.Format})
	traced := trace.Context{Span: trace.SpanID{1}}
	_ = traced.Trace.UnmarshalText([]byte("4bf92f3577b34da6a3ce929d0e0e4736"))
	answer(inspect.SummaryPath, inspect.Summary{Format: inspect.Format, Sums: []record.Sum{{SumKey: record.SumKey{Workload: "details-v2", Host: "a.com"}}}})
	answer(inspect.KeptPath, record.Record{ID: 2, Workload: "details-v2/1", Start: time.Now()})
	answer(inspect.FlowsPath, record.Record{ID: 1, Workload: "details-v2/1", Context: traced})
	answer(inspect.WhyPath, inspect.Why{Format: inspect.Format, Title: "a question"})
	answer(inspect.WhyPath+"/", inspect.Opened{Format: inspect.Format, Flow: record.Record{ID: 1}})
	answer(inspect.HistoryPath, inspect.History{Format: inspect.Format, Entries: []history.Entry{
		{Verb: "create", Who: "jason", State: &history.State{Spec: json.RawMessage(`{"a":1}`)}},
	}})
	answer(inspect.CredentialPath, inspect.Credential{Format: inspect.Format})
	return mux
}

// printing is every command of the program, each with a way to make it print.
var printing = []string{
	"create -f RULE", "replace -f RULE", "apply -f RULE",
	"get all", "get er one", "get er -o yaml", "get er -o json",
	"delete er one", "delete -f RULE",
	"run --help", "demo --print",
	"why --from a-v1 https://a.com/", "why --from a-v1 https://a.com/ -o json", "why 00000000000000ab", "why --allow a.com https://a.com/", "why --allow a.com https://b.com/",
	"status", "status -o json",
	"flows", "flows -o json", "flows --open", "flows --summary", "flows --summary -o json", "flows --since 10m", "top --help", "trace 4bf92f3577b34da6a3ce929d0e0e4736",
	"backup -", "backup BACKUP", "restore BACKUP",
	"describe egressrule one", "validate -f RULE", "kube-inject -f RULE", "install --print", "uninstall --help", "why egress-rule/default/one",
	"version", "version --short", "version -o json", "doctor", "doctor -o json",
	"history er one", "history er one -o yaml", "history er one -o json", "kubeconfig",
	"completion bash", "completion zsh", "completion fish", "completion powershell", "help", "help get", "--help", "--version",
	"__complete get ", "__completeNoDesc get ",
}

func TestEveryCommandFailsWhereItsOutputCannotBeWritten(t *testing.T) {
	rule := filepath.Join(t.TempDir(), "rule.yaml")
	const text = "kind: EgressRule\nmetadata: {name: one}\nspec: {destination: {service: a.com}, ports: [{port: 80, protocol: http}]}\n"
	if err := os.WriteFile(rule, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(t.TempDir(), "saved")
	run := func(t *testing.T, line string, left int) (code int, said string) {
		t.Helper()
		server := fakeapi.New()
		server.Beside = beside()
		t.Setenv("SLUICE_RUNTIME", server.Start(t))
		words := strings.Split(strings.NewReplacer("RULE", rule, "BACKUP", saved).Replace(line), " ")
		if words[0] != "create" { // the others need one that is there
			var stderr strings.Builder
			if code := execute(t.Context(), []string{"create", "-f", rule}, new(strings.Builder), &stderr); code != 0 {
				t.Fatal(stderr.String())
			}
		}
		var stderr strings.Builder
		if words[0] == "restore" {
			if code := execute(t.Context(), []string{"backup", saved}, new(strings.Builder), &stderr); code != 0 {
				t.Fatal(stderr.String())
			}
		}
		code = execute(t.Context(), words, &full{left}, &stderr)
		return code, stderr.String()
	}
	for _, line := range printing {
		t.Run(line, func(t *testing.T) {
			if code, said := run(t, line, 1<<20); strings.Contains(said, "cannot write") {
				t.Errorf("with a place to write to it ends with %d and says %q", code, said)
			}
			for _, left := range []int{0, 5} {
				code, said := run(t, line, left)
				if code != 1 || !strings.Contains(said, "Error: cannot write the output: "+errFull.Error()+"\n") || strings.Count(said, errFull.Error()) != 1 {
					t.Errorf("with %d bytes left it ends with %d and says %q", left, code, said)
				}
			}
		})
	}

	var byKubectl []string // another program's to look after
	for _, command := range newKubectlCommands() {
		byKubectl = append(byKubectl, command.Name())
	}
	root := newRootCommand()
	root.InitDefaultCompletionCmd("completion") // which cobra adds as it runs
	root.InitDefaultHelpCmd()
	var covered func(parent *cobra.Command, before string)
	covered = func(parent *cobra.Command, before string) {
		for _, command := range parent.Commands() {
			name := before + command.Name()
			if command.HasSubCommands() {
				covered(command, name+" ")
				continue
			}
			found := slices.Contains(byKubectl, name)
			for _, line := range printing {
				found = found || line == name || strings.HasPrefix(line, name+" ")
			}
			if !found {
				t.Errorf("no line of this test runs %s", name)
			}
		}
	}
	covered(root, "")
}
