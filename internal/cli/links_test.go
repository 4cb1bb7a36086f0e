package cli

import (
	"os/exec"
	"strings"
	"testing"
)

// listed runs go list and returns its lines.
func listed(t *testing.T, arguments ...string) []string {
	t.Helper()
	output, err := exec.Command("go", append([]string{"list"}, arguments...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, output)
	}
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	if len(lines) < 20 {
		t.Fatalf("go list printed %q", output)
	}
	return lines
}

func TestTheCommandLinksNeitherKubernetesNorEtcd(t *testing.T) {
	for _, name := range listed(t, "-deps", "sluice.dev/sluice/cmd/sluice") {
		for _, refused := range []string{"k8s.io/", "sigs.k8s.io/", "go.etcd.io/", "sluice.dev/sluice/api/kube", "sluice.dev/sluice/internal/control/kubeapi"} {
			if strings.HasPrefix(name, refused) {
				t.Errorf("cmd/sluice links %s", name)
			}
		}
	}
}

// text/template calls methods by names that it reads, so that where it is used the linker keeps
// each exported method of each type, and sluice grows by 2 MB. cobra imports it and uses it for
// templates that somebody sets, which nobody does here.
func TestOnlyCobraImportsWhatKeepsEveryMethod(t *testing.T) {
	cobra := false
	for _, line := range listed(t, "-deps", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "sluice.dev/sluice/cmd/sluice") {
		fields := strings.Fields(line)
		for _, imported := range fields[1:] {
			if imported != "text/template" && imported != "html/template" {
				continue
			}
			if cobra = cobra || fields[0] == "github.com/spf13/cobra"; fields[0] != "github.com/spf13/cobra" {
				t.Errorf("cmd/sluice links %s, which imports %s", fields[0], imported)
			}
		}
	}
	if !cobra {
		t.Error("cobra does not import it any more: no package may")
	}
}

// The command line is the top: what a command is made of never leads back to it.
func TestOnlyTheProgramImportsTheCommandLine(t *testing.T) {
	for _, line := range listed(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "sluice.dev/sluice/...") {
		fields := strings.Fields(line)
		importer := fields[0]
		if importer == "sluice.dev/sluice/cmd/sluice" || strings.HasPrefix(importer, "sluice.dev/sluice/internal/cli") {
			continue
		}
		for _, imported := range fields[1:] {
			if strings.HasPrefix(imported, "sluice.dev/sluice/internal/cli") {
				t.Errorf("%s imports %s", importer, imported)
			}
		}
	}
}
