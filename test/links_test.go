package test

import (
	"os/exec"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

// What each binary may link: the command line and its sandboxes stay small, and the
// data plane knows no Kubernetes.
func TestABinaryLinksOnlyWhatItMay(t *testing.T) {
	root, err := mesh.Root()
	if err != nil {
		t.Fatal(err)
	}
	kubernetes := []string{"k8s.io/", "sigs.k8s.io/", "go.etcd.io/"}
	for _, x := range []struct {
		program string
		never   []string
	}{
		{"./cmd/sluice", append([]string{"google.golang.org/grpc", "google.golang.org/protobuf", "github.com/envoyproxy/", "sluice.dev/sluice/internal/control/kubeapi"}, kubernetes...)},
		{"./cmd/sluice-proxy", append([]string{"sluice.dev/sluice/internal/control/kubeapi", "sluice.dev/sluice/internal/control/push"}, kubernetes...)},
		{"./cmd/sluice-server", []string{"sluice.dev/sluice/internal/proxy/http1", "sluice.dev/sluice/internal/sandbox"}},
		{"./samples/bookinfo", []string{"sluice.dev/sluice/internal", "sluice.dev/sluice/api", "k8s.io/"}},
		{"./internal/sandbox", kubernetes},
		{"./internal/proxy/http1", []string{"net/http", "net/http/httputil"}},
		{"./internal/policy", []string{"net/http", "crypto/tls", "log/slog", "sluice.dev/sluice/internal/wire"}},
	} {
		cmd := exec.Command("go", "list", "-deps", x.program)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list -deps %s: %v", x.program, err)
		}
		for _, linked := range strings.Fields(string(out)) {
			for _, never := range x.never {
				if linked == strings.TrimSuffix(never, "/") || strings.HasPrefix(linked, strings.TrimSuffix(never, "/")+"/") && never != "net/http" {
					t.Errorf("%s links %s", x.program, linked)
				}
			}
		}
	}
}
