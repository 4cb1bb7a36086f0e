package cli

import (
	"fmt"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/rest/fakeapi"
)

func TestACompletionOffersNoMoreWordsThanItsBound(t *testing.T) {
	server := fakeapi.New()
	t.Setenv("SLUICE_RUNTIME", server.Start(t))
	for i := range maxCompletions + 5 {
		name := fmt.Sprintf("rule-%04d", i)
		server.Put("/apis/config.istio.io/v1alpha2/namespaces/default/egressrules/"+name, map[string]any{
			"apiVersion": "config.istio.io/v1alpha2", "kind": "EgressRule", "metadata": map[string]any{"name": name, "namespace": "default"},
			"spec": map[string]any{"destination": map[string]any{"service": "a.com"}, "ports": []any{map[string]any{"port": 80, "protocol": "http"}}},
		})
	}
	for line, want := range map[string]int{"get egressrule ": maxCompletions, "get egressrule rule-000": 10, "flows --rule ": maxCompletions, "why http": 1} {
		var said, stderr strings.Builder
		if code := execute(t.Context(), append([]string{"__complete"}, strings.Split(line, " ")...), &said, &stderr); code != 0 {
			t.Fatal(stderr.String())
		}
		words := strings.Split(strings.TrimSpace(said.String()), "\n")
		if got := len(words) - 1; got != want { // the last is cobra's directive
			t.Errorf("%q: %d words, want %d", line, got, want)
		}
	}
}
