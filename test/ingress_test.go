package test

import (
	"fmt"
	"net/http"
	"strings"
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

// An ingress whose proxy has no server answers at once, and says so in its log once.
func TestAnIngressWithoutASnapshotAnswersThatThereIsNone(t *testing.T) {
	at := freePort(t)
	m := mesh.NewPlace(t, mesh.User{Name: "user", UID: -1})
	proxy := m.StartProxy(t, nil, "--ingress", at, "--ingress-route", "/health=details:9080")
	client := &http.Client{Timeout: 10 * time.Second}
	get := func() string {
		response, err := client.Get("http://" + at + "/health")
		if err != nil {
			return err.Error()
		}
		response.Body.Close()
		return fmt.Sprint(response.StatusCode, " ", response.Header.Get("x-sluice-reason"))
	}
	const without = "503 no-snapshot"
	for range 20 {
		if got := get(); got != without {
			t.Fatalf("without a server: %s, want %s", got, without)
		}
	}
	const line = "the ingress answers 503 until the server sends it rules"
	mesh.Eventually(t, func() string {
		if !strings.Contains(proxy.Said(), line) {
			return "the log does not say it:\n" + proxy.Said()
		}
		return ""
	})
	if got := get(); got != without {
		t.Errorf("after the first attempt to join: %s, want %s", got, without)
	}
	m.StartServer(t)
	m.Background(t, nil, "sluice", "run", "--service", "details", "--version", "v1", "--listen", "9080", "--", m.Bin+"/bookinfo", "details", "9080")
	mesh.Eventually(t, func() string {
		if got := get(); got != "200 " {
			return "with a server: " + got
		}
		return ""
	})
	if said := proxy.Said(); strings.Count(said, line) != 1 || !strings.Contains(said, "the ingress has its rules") || !strings.Contains(said, "istio-ingress/1") {
		t.Errorf("the log says:\n%s", said)
	}
}
