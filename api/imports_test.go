package api

import (
	"os/exec"
	"strings"
	"testing"
)

func TestNothingOfKubernetesIsLinked(t *testing.T) {
	output, err := exec.Command("go", "list", "-deps", "sluice.dev/sluice/api").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, output)
	}
	packages := strings.Fields(string(output))
	if len(packages) < 10 {
		t.Fatalf("go list printed %q", output)
	}
	for _, name := range packages {
		for _, refused := range []string{"k8s.io/", "sigs.k8s.io/", "go.etcd.io/", "google.golang.org/"} {
			if strings.HasPrefix(name, refused) {
				t.Errorf("api links %s", name)
			}
		}
	}
}
