//go:build linux

package cli

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/rest/fakeapi"
)

const rule = `apiVersion: config.istio.io/v1alpha2
kind: EgressRule
metadata: {name: NAME, namespace: default}
spec:
  destination: {service: www.example.com}
  ports:
  - {port: 443, protocol: https}
`

// A disk that is full, or a reader that is gone: the status of every command says
// so.
func TestAFailedWriteIsAnErrorOfEveryCommand(t *testing.T) {
	server := fakeapi.New()
	beside := http.NewServeMux()
	for path, answer := range map[string]string{
		inspect.StatusPath: `"workloads": []`, inspect.FlowsPath: `"workload": "a/1"`, inspect.WhyPath: `"title": "a", "verdict": "allow"`, inspect.WhyPath + "/": `"flow": {"workload": "a/1"}`,
	} {
		beside.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(inspect.FormatHeader, strconv.Itoa(inspect.Format))
			fmt.Fprintf(w, "{\"format\": %d, %s}\n", inspect.Format, answer)
		})
	}
	server.Beside = beside
	runtime, dir := server.Start(t), t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Replace(rule, "NAME", name, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(out, command string) (status int, words string) {
		cmd := exec.Command("sh", "-c", command+" >"+out)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "SLUICE_RUNTIME="+runtime)
		said, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), string(said)
	}
	if status, words := run("/dev/null", "sluice create -f a -f b"); status != 0 {
		t.Fatal(status, words)
	}
	tried := make(map[string]bool)
	for _, command := range []string{
		"sluice --help", "sluice --version", "sluice help", "sluice help run",
		"sluice create -f c", "sluice replace -f a", "sluice apply -f a", "sluice delete egressrule b",
		"sluice get all", "sluice get egressrules", "sluice get egressrule a -o yaml", "sluice get egressrule a -o json", "sluice get egressrule nosuch",
		"sluice run --help", "sluice demo --print",
		"sluice why --from a https://www.example.com/", "sluice why --from a https://www.example.com/ -o json",
		"sluice why 70d350fa85c31e82", "sluice why 70d350fa85c31e82 -o json", "sluice why --allow a.example https://b.example/",
		"sluice status", "sluice status -o json", "sluice flows", "sluice flows -o json",
		"sluice version", "sluice version -s", "sluice version -o json",
		"sluice completion bash", "sluice completion zsh", "sluice completion fish", "sluice completion powershell",
	} {
		for _, word := range strings.Fields(command)[1:] {
			tried[word] = true
		}
		status, words := run("/dev/full", command)
		if status != 1 || !strings.HasSuffix("\n"+words, "\nError: write standard output: write /dev/stdout: no space left on device\n") {
			t.Errorf("%s: status %d, %s", command, status, words)
		}
	}
	root := newRootCommand()
	root.InitDefaultCompletionCmd("completion")
	root.InitDefaultHelpCmd()
	var each func(c *cobra.Command)
	each = func(c *cobra.Command) {
		if !tried[c.Name()] && c != root {
			t.Errorf("nobody tried %s", c.CommandPath())
		}
		for _, below := range c.Commands() {
			each(below)
		}
	}
	each(root)
}
