package test

import (
	"fmt"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
	"sluice.dev/sluice/test/mesh/agent"
)

// A workload gets calls from when it listens until it ceases to, as its proxy and its
// server see it; and its proxy sees it without the server.
func TestAWorkloadGetsCallsOnceItListens(t *testing.T) {
	eachMachinery(t, func(t *testing.T, m *machinery) {
		first := m.StartWorkload(t, "--service", "web", "--listen", "8000")
		second := m.StartWorkload(t, "--service", "web", "--listen", "8000", "--ready", "http:/ready:8000")
		caller := m.StartWorkload(t, "--service", "caller")
		get := func() string {
			a := caller.Do(t, agent.Ask{Do: agent.Get, URL: "http://web:8000/"})
			return fmt.Sprintf("%d %s%s", a.Code, a.Body, a.Error)
		}
		status := func(wanted ...string) {
			t.Helper()
			mesh.Eventually(t, func() string {
				said := m.Sluice(t, "status").Stdout
				for _, text := range wanted {
					if !strings.Contains(said, text) {
						return text + " is missing in\n" + said
					}
				}
				return ""
			})
		}
		status("not listening on 8000 for ")
		if got := get(); !strings.HasPrefix(got, "503 ") || !strings.Contains(got, "web/1 is not listening on 8000 for ") {
			t.Errorf("while nobody listens: %s", got)
		}
		if a := first.Do(t, agent.Ask{Do: agent.Serve, Address: "127.0.0.1:8000", Send: []byte("the first")}); a.Error != "" {
			t.Fatal(a.Error)
		}
		for range 6 { // at once: whoever is called need not have been seen to listen
			if got := get(); got != "200 the first" {
				t.Errorf("while one listens: %s", got)
			}
		}
		status("current", "not listening on 8000 for ")
		m.server.Kill()
		if a := second.Do(t, agent.Ask{Do: agent.Serve, Address: ":8000", Send: []byte("the second")}); a.Error != "" {
			t.Fatal(a.Error)
		}
		mesh.Eventually(t, func() string {
			if one, other := get(), get(); one == other || !strings.Contains(one+other, "200 the second") {
				return fmt.Sprintf("without the server, and both listen: %s, %s", one, other)
			}
			return ""
		})
	})
}
