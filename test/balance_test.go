package test

import (
	"fmt"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
	"sluice.dev/sluice/test/mesh/agent"
)

// A DestinationPolicy that is applied decides which workload gets a request: with a ring hash
// all requests of one user get to one, until the policy is deleted.
func TestADestinationPolicyKeepsTheRequestsOfAUserTogether(t *testing.T) {
	eachMachinery(t, func(t *testing.T, m *machinery) {
		for i := range 3 {
			w := m.StartWorkload(t, "--service", "web", "--listen", "8000/http")
			if a := w.Do(t, agent.Ask{Do: agent.Serve, Address: ":8000", Send: fmt.Append(nil, "web ", i)}); a.Error != "" {
				t.Fatal(a.Error)
			}
		}
		caller := m.StartWorkload(t, "--service", "caller")
		get := func(user string) string {
			a := caller.Do(t, agent.Ask{Do: agent.Say, Address: "web:8000", Send: []byte("GET / HTTP/1.1\r\nHost: web:8000\r\nx-user: " + user + "\r\nConnection: close\r\n\r\n")})
			_, body, _ := strings.Cut(string(a.Body), "\r\n\r\n")
			if a.Error != "" || !strings.HasPrefix(string(a.Body), "HTTP/1.1 200 ") {
				t.Fatalf("%s %s", a.Error, a.Body)
			}
			return body
		}
		// answers is who answered one user's requests.
		answers := func(user string) int {
			seen := make(map[string]bool)
			for range 6 {
				seen[get(user)] = true
			}
			return len(seen)
		}
		ready := func() string {
			if n := answers("jason"); n != 3 {
				return fmt.Sprintf("%d workloads answer in turn", n)
			}
			return ""
		}
		mesh.Eventually(t, ready)
		m.create(t, `apiVersion: config.istio.io/v1alpha2
kind: DestinationPolicy
metadata: {name: web}
spec:
  destination: {name: web}
  loadBalancing: {custom: {ringHash: {header: x-user, maxLoad: 300}}}
`)
		mesh.Eventually(t, func() string {
			if n := answers("jason"); n != 1 {
				return fmt.Sprintf("%d workloads answer one user", n)
			}
			return ""
		})
		all := make(map[string]bool)
		for i := range 40 {
			user := fmt.Sprint("user", i)
			first := get(user)
			if again := get(user); again != first {
				t.Errorf("%s got %q and then %q", user, first, again)
			}
			all[first] = true
		}
		if len(all) != 3 {
			t.Errorf("%d of 3 workloads answer 40 users", len(all))
		}
		if why := m.Sluice(t, "why", "--from", "caller", "--header", "x-user: jason", "http://web:8000/").Stdout; !strings.Contains(why, "the value of x-user leads to") || !strings.Contains(why, "destination-policy/default/web") {
			t.Errorf("why says\n%s", why)
		}
		m.delete(t, "destinationpolicy", "web")
		mesh.Eventually(t, ready)
	})
}
