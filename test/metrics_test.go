package test

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/test/mesh"
	"sluice.dev/sluice/test/mesh/agent"
)

// scrape is what a program says at its --metrics.
func scrape(t *testing.T, address string) string {
	t.Helper()
	response, err := (&http.Client{Timeout: 10 * time.Second}).Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("a scrape is answered with %d: %v", response.StatusCode, err)
	}
	return string(text)
}

// What workloads do shows in the metrics of their proxy, under who they are and the rule
// that let them; what the server does shows in its own.
func TestMetricsSayWhatWasCarriedAndDenied(t *testing.T) {
	at, health, serverAt := freePort(t), freePort(t), freePort(t)
	m := &machinery{Place: mesh.NewPlace(t, mesh.User{Name: "user", UID: -1})}
	m.net = m.StartInternet(t)
	m.server = m.StartServer(t, "--metrics", serverAt)
	m.proxy = m.StartProxy(t, m.net, "--metrics", at, "--health", health)
	m.Background(t, nil, "sluice", "run", "--service", "details", "--version", "v1", "--listen", "9080", "--", m.Bin+"/bookinfo", "details", "9080")
	caller := m.StartWorkload(t, "--service", "caller", "--version", "v3")
	m.create(t, policyFor("google", "caller", "v3", "www.googleapis.com"))
	m.opens(t, caller, "https://www.googleapis.com/")
	if a := m.get(t, caller, "https://www.google.com/"); a.Code == 200 {
		t.Fatal("www.google.com is not denied")
	}
	mesh.Eventually(t, func() string {
		if a := caller.Do(t, agent.Ask{Do: agent.Get, URL: "http://details:9080/health"}); a.Code != 200 {
			return fmt.Sprintf("the health of details: %+v", a)
		}
		return ""
	})
	const from = `source_namespace="default",source_version="v3",source_workload="caller-v3"} `
	for _, want := range []string{
		`sluice_connections_total{code="0",destination_namespace="",destination_version="",destination_workload="",direction="egress",flags="",protocol="tls",rule="egress-policy/default/google",` + from,
		`sluice_connection_received_bytes_total{`,
		`sluice_denials_total{direction="egress",reason="no-rule",rule="",` + from,
		`sluice_requests_total{code="200",destination_namespace="default",destination_version="v1",destination_workload="details-v1",direction="mesh",flags="",protocol="http",rule="",` + from,
		`sluice_dns_questions_total{outcome="answered"} `,
		`sluice_tls_handshakes_total{outcome="done",purpose="proof"} `,
		"sluice_workloads 2\n", "sluice_snapshot_workloads{version=", "sluice_snapshot_age_seconds 0", "process_cpu_seconds_total ", "go_goroutines ",
	} {
		mesh.Eventually(t, func() string {
			text := scrape(t, at)
			at := strings.Index(text, want)
			if at < 0 {
				m.get(t, caller, "https://www.googleapis.com/") // one that was cut short has another flag
				return "this is missing: " + want
			}
			if rest := text[at+len(want):]; strings.HasSuffix(want, " ") && strings.HasPrefix(rest, "0\n") {
				return "this is 0: " + want
			}
			return ""
		})
	}
	for _, want := range []string{"sluice_server_proxies 1\n", "sluice_server_workloads 2\n", "sluice_server_refused_rules 0\n", "sluice_server_objects 1\n", "sluice_server_acknowledged_seconds_bucket{"} {
		if text := scrape(t, serverAt); !strings.Contains(text, want) {
			t.Errorf("the server does not say %q:\n%s", want, text)
		}
	}
	if response, err := http.Get("http://" + health + "/healthz/ready"); err != nil || response.StatusCode != 200 {
		t.Errorf("health: %v, %v", response, err)
	}
	if r := m.Run(t, "", "sluice-proxy", "--metrics", "15020"); r.Code == 0 {
		t.Error("--metrics takes what is not HOST:PORT")
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian's package prometheus has it)")
	}
	for _, address := range []string{at, serverAt} {
		cmd := exec.Command(promtool, "check", "metrics")
		cmd.Stdin = strings.NewReader(scrape(t, address))
		if out, err := cmd.CombinedOutput(); err != nil || len(strings.TrimSpace(string(out))) > 0 {
			t.Errorf("promtool finds: %v\n%s", err, out)
		}
	}
}
