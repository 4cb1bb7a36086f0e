package cli

import (
	"os/exec"
	"strings"
	"testing"
)

func TestTheCommandLinksNeitherKubernetesNorEtcd(t *testing.T) {
	output, err := exec.Command("go", "list", "-deps", "sluice.dev/sluice/cmd/sluice").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, output)
	}
	packages := strings.Fields(string(output))
	if len(packages) < 50 {
		t.Fatalf("go list printed %q", output)
	}
	for _, name := range packages {
		for _, refused := range []string{"k8s.io/", "sigs.k8s.io/", "go.etcd.io/", "sluice.dev/sluice/api/kube", "sluice.dev/sluice/internal/control/kubeapi"} {
			if strings.HasPrefix(name, refused) {
				t.Errorf("cmd/sluice links %s", name)
			}
		}
	}
}
