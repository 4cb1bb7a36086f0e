package advice

import (
	"os/exec"
	"strings"
	"testing"
)

// The data plane links advice, and advice the kinds of users: neither may bring
// Kubernetes or the control plane along, and what decides knows nothing of what
// explains.
func TestAdviceBringsNothingLargeIntoTheProxy(t *testing.T) {
	for linked, refused := range map[string][]string{
		"sluice.dev/sluice/internal/advice":       {"k8s.io/", "sigs.k8s.io/", "go.etcd.io/", "google.golang.org/", "sluice.dev/sluice/api/kube", "sluice.dev/sluice/internal/control", "sluice.dev/sluice/internal/proxy"},
		"sluice.dev/sluice/cmd/sluice-proxy":      {"k8s.io/", "sigs.k8s.io/", "go.etcd.io/", "sluice.dev/sluice/api/kube", "sluice.dev/sluice/internal/control/kubeapi"},
		"sluice.dev/sluice/internal/policy":       {"sluice.dev/sluice/internal/advice", "sluice.dev/sluice/api"},
		"sluice.dev/sluice/internal/proxy/egress": {"k8s.io/", "sluice.dev/sluice/internal/control"},
	} {
		output, err := exec.Command("go", "list", "-deps", linked).CombinedOutput()
		if err != nil {
			t.Fatalf("go list: %v\n%s", err, output)
		}
		packages := strings.Fields(string(output))
		if len(packages) < 20 {
			t.Fatalf("go list printed %q", output)
		}
		for _, name := range packages {
			for _, prefix := range refused {
				if strings.HasPrefix(name, prefix) {
					t.Errorf("%s links %s", linked, name)
				}
			}
		}
	}
}
