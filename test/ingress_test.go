package test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"sluice.dev/sluice/test/mesh"
	"sluice.dev/sluice/test/mesh/agent"
)

// A route rule from istio-ingress holds for what comes in from outside the mesh, and
// for nobody inside.
func TestARouteRuleFromTheIngressHoldsForWhatComesIn(t *testing.T) {
	at := freePort(t)
	m := startMachinery(t, mesh.User{Name: "user", UID: -1}, "--ingress", at, "--ingress-route", "/health=details:9080")
	m.Background(t, nil, "sluice", "run", "--service", "details", "--version", "v1", "--listen", "9080", "--", m.Bin+"/bookinfo", "details", "9080")
	inside := m.StartWorkload(t, "--service", "caller")
	client := &http.Client{Timeout: 10 * time.Second}
	comesIn := func(want int) {
		t.Helper()
		mesh.Eventually(t, func() string {
			response, err := client.Get("http://" + at + "/health")
			if err != nil {
				return err.Error()
			}
			response.Body.Close()
			if response.StatusCode != want {
				return fmt.Sprintf("from outside: %d, want %d", response.StatusCode, want)
			}
			return ""
		})
		if a := inside.Do(t, agent.Ask{Do: agent.Get, URL: "http://details:9080/health"}); a.Code != 200 {
			t.Errorf("from inside, while outside gets %d: %d %s %s", want, a.Code, a.Body, a.Error)
		}
	}
	rule := func(version string) string {
		return `kind: RouteRule
metadata: {name: ingress}
spec:
  destination: {name: details}
  match: {source: {name: istio-ingress, namespace: istio-system, labels: {istio: ingress}}}
  route: [{labels: {version: ` + version + `}}]
`
	}
	comesIn(200)
	m.create(t, rule("v9")) // whom nobody is
	comesIn(503)
	if r := m.Run(t, rule("v1"), "sluice", "replace", "-f", "-"); r.Code != 0 || r.Stderr != "" {
		t.Errorf("replace: exit %d, %s", r.Code, r.Stderr)
	}
	comesIn(200)
}
