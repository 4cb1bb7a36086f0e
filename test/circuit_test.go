package test

import (
	"fmt"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
	"sluice.dev/sluice/test/mesh/agent"
)

// With one connection and one place to wait, one of five requests to a server that does not
// answer is under way and one waits; the others are told at once, and why. The two are answered
// once the server does.
func TestRequestsBeyondACircuitBreakerAreRefusedAtOnce(t *testing.T) {
	eachMachinery(t, func(t *testing.T, m *machinery) {
		web := m.StartWorkload(t, "--service", "web", "--listen", "8000/http")
		if a := web.Do(t, agent.Ask{Do: agent.Hang, Address: ":8000", Send: []byte("late")}); a.Error != "" {
			t.Fatal(a.Error)
		}
		caller := m.StartWorkload(t, "--service", "caller")
		m.create(t, `apiVersion: config.istio.io/v1alpha2
kind: DestinationPolicy
metadata: {name: web}
spec:
  destination: {name: web}
  circuitBreaker: {simpleCb: {maxConnections: 1, httpMaxPendingRequests: 1, httpMaxRequestsPerConnection: 1}}
`)
		why := func() string { return m.Sluice(t, "why", "--from", "caller", "http://web:8000/").Stdout }
		mesh.Eventually(t, func() string {
			if said := why(); !strings.Contains(said, "at most 1 connections, 1024 requests, 1 that wait, 3 that are sent again, 1 on a connection") {
				return said
			}
			return ""
		})
		refused := func() int {
			return strings.Count(m.Sluice(t, "flows", "--last", "100", "-o", "json").Stdout, `"circuit-breaker"`)
		}
		request := []byte("GET / HTTP/1.1\r\nHost: web:8000\r\n\r\n")
		if a := caller.Do(t, agent.Ask{Do: agent.Keep, Address: "web:8000", Count: 5, Send: request}); a.Error != "" {
			t.Fatal(a.Error)
		}
		mesh.Eventually(t, func() string {
			if n := refused(); n != 3 {
				return fmt.Sprintf("%d of 5 requests are refused", n)
			}
			return ""
		})
		a := caller.Do(t, agent.Ask{Do: agent.Say, Address: "web:8000", Send: []byte("GET / HTTP/1.1\r\nHost: web:8000\r\nConnection: close\r\n\r\n")})
		for _, want := range []string{"HTTP/1.1 503 ", "x-sluice-reason: circuit-breaker", "destination-policy/default/web lets no more through to web.default.svc.cluster.local", "1 requests wait for a connection (httpMaxPendingRequests)"} {
			if !strings.Contains(strings.ReplaceAll(string(a.Body), "X-Sluice-Reason", "x-sluice-reason"), want) {
				t.Errorf("%q is missing in %s %s", want, a.Error, a.Body)
			}
		}
		if a := web.Do(t, agent.Ask{Do: agent.Drop}); a.Error != "" {
			t.Fatal(a.Error)
		}
		mesh.Eventually(t, func() string {
			a := caller.Do(t, agent.Ask{Do: agent.Get, URL: "http://web:8000/"})
			if a.Code != 200 || string(a.Body) != "late" {
				return fmt.Sprintf("%d %s %s", a.Code, a.Body, a.Error)
			}
			return ""
		})
		mesh.Eventually(t, func() string {
			if n := strings.Count(m.Sluice(t, "flows", "--last", "100", "-o", "json").Stdout, `"status":200`); n < 3 {
				return fmt.Sprintf("%d requests were answered", n)
			}
			return ""
		})
	})
}
