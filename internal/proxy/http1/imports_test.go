package http1_test

import (
	"os/exec"
	"strings"
	"testing"
)

// The engine is small and fast because it does without net/http; a helper
// that brings it in would cost every proxy its memory and its start.
func TestTheEngineLinksNoOtherHTTP(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".", "../http2", "../upstream", "../rawio").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	packages := strings.Fields(string(out))
	if len(packages) < 20 {
		t.Fatalf("go list named only %q", packages)
	}
	for _, p := range packages {
		if p == "net/http" || strings.HasPrefix(p, "net/http/") || strings.Contains(p, "x/net/http") && !strings.HasSuffix(p, "x/net/http2/hpack") {
			t.Errorf("the engine links %s", p)
		}
	}
}
