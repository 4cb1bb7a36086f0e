package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/test/mesh"
	"sluice.dev/sluice/test/mesh/agent"
)

// empty are the panels for which nothing happens in a mesh that is well and has no client
// certificate: the names of their metrics are held by the page of the guide.
var empty = []string{"Client certificates"}

// debian finds a program of Debian's package prometheus.
func debian(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skip(program + " is missing: apt-get install prometheus")
	}
	return path
}

// grafana is the folder of the dashboard and the alerts.
func grafana(t *testing.T) string {
	t.Helper()
	root, err := mesh.Root()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "deploy", "grafana")
}

func TestEachAlertFiresOnWhatItIsAboutAndOnNothingElse(t *testing.T) {
	promtool := debian(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = grafana(t)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	// One that nothing tests would be one that nobody saw fire.
	rules, err := os.ReadFile(filepath.Join(grafana(t), "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(filepath.Join(grafana(t), "alerts_test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(string(rules), -1) {
		if strings.Count(string(tests), "alertname: "+name[1]) != 2 {
			t.Errorf("%s is not tested once where all is well and once where nothing is", name[1])
		}
	}
}

// dashboard is what is read of one of Grafana.
type dashboard struct {
	Templating struct {
		List []struct{ Name, Query string }
	}
	Panels []struct {
		Type, Title string
		Targets     []struct{ Expr string }
	}
}

// Debian's prometheus scrapes a mesh in which something happens, evaluates the alerts that are
// shipped, and has an answer to each query of the dashboard.
func TestEachQueryOfTheDashboardHasAnAnswerInPrometheus(t *testing.T) {
	program := debian(t, "prometheus")
	text, err := os.ReadFile(filepath.Join(grafana(t), "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board dashboard
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(grafana(t), "../../docs/guide/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	proxyAt, serverAt, at := freePort(t), freePort(t), freePort(t)
	m := &machinery{Place: mesh.NewPlace(t, mesh.User{Name: "user", UID: -1})}
	m.net = m.StartInternet(t)
	m.server = m.StartServer(t, "--metrics", serverAt)
	m.proxy = m.StartProxy(t, m.net, "--metrics", proxyAt, "--access-log", filepath.Join(m.Data, "access.log"))
	m.Background(t, nil, "sluice", "run", "--service", "details", "--version", "v1", "--listen", "9080", "--", m.Bin+"/bookinfo", "details", "9080")
	caller := m.StartWorkload(t, "--service", "caller", "--version", "v3")
	prometheus := startPrometheus(t, program, at, map[string]string{"sluice-proxy": proxyAt, "sluice-server": serverAt})
	m.create(t, policyFor("google", "caller", "v3", "www.googleapis.com"))
	m.opens(t, caller, "https://www.googleapis.com/")
	happens := func() {
		m.get(t, caller, "https://www.googleapis.com/")
		m.get(t, caller, "https://www.google.com/")
		m.get(t, caller, "http://www.google.com/")
		caller.Do(t, agent.Ask{Do: agent.Get, URL: "http://details:9080/health"})
	}
	namespaces := false
	for _, v := range board.Templating.List {
		if v.Name == "namespace" {
			namespaces = v.Query == `label_values({__name__=~"sluice_requests_total|sluice_connections_total"}, source_namespace)`
		}
	}
	if !namespaces {
		t.Error("the variable namespace has another query than the one that is tried here")
	}
	mesh.Eventually(t, func() string {
		happens()
		answer, err := prometheus.ask("/api/v1/label/source_namespace/values", url.Values{"match[]": {`{__name__=~"sluice_requests_total|sluice_connections_total"}`}})
		if err != nil {
			return err.Error()
		}
		if !strings.Contains(string(answer), `"default"`) {
			return "no namespace: " + string(answer)
		}
		return ""
	})
	asked := 0
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			asked++
			expr := strings.NewReplacer("$namespace", ".*", "$__rate_interval", "30s").Replace(target.Expr)
			if slices.Contains(empty, panel.Title) {
				for _, name := range regexp.MustCompile(`sluice_[a-z_]+`).FindAllString(expr, -1) {
					if !strings.Contains(string(page), "`"+name+"`") {
						t.Errorf("%s: the page of metrics does not know %s", panel.Title, name)
					}
				}
			}
			mesh.Eventually(t, func() string {
				answer, err := prometheus.ask("/api/v1/query", url.Values{"query": {expr}})
				if err != nil {
					return err.Error()
				}
				var said struct {
					Data struct{ Result []any }
				}
				if err := json.Unmarshal(answer, &said); err != nil {
					return err.Error()
				}
				if len(said.Data.Result) == 0 && !slices.Contains(empty, panel.Title) {
					happens()
					return fmt.Sprintf("%s: nothing answers %s", panel.Title, expr)
				}
				return ""
			})
		}
	}
	if asked < 30 {
		t.Errorf("the dashboard has %d queries", asked)
	}
	mesh.Eventually(t, func() string {
		var said struct {
			Data struct {
				Groups []struct {
					Rules []struct{ Name, Health, LastError string }
				}
			}
		}
		answer, err := prometheus.ask("/api/v1/rules", nil)
		if err == nil {
			err = json.Unmarshal(answer, &said)
		}
		if err != nil {
			return err.Error()
		}
		if len(said.Data.Groups) != 1 || len(said.Data.Groups[0].Rules) == 0 {
			return "it has no rules"
		}
		for _, rule := range said.Data.Groups[0].Rules {
			if rule.Health != "ok" {
				return fmt.Sprintf("%s is %s: %s", rule.Name, rule.Health, rule.LastError)
			}
		}
		return ""
	})
}

// server is a prometheus.
type server struct{ at string }

// startPrometheus starts one that scrapes jobs, by name and address, and evaluates the alerts.
func startPrometheus(t *testing.T, program, at string, jobs map[string]string) *server {
	t.Helper()
	folder := t.TempDir()
	config := fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\nrule_files: [%s]\nscrape_configs:\n", filepath.Join(grafana(t), "alerts.yaml"))
	for job, address := range jobs {
		config += fmt.Sprintf("  - {job_name: %s, static_configs: [{targets: [\"%s\"]}]}\n", job, address)
	}
	if err := os.WriteFile(filepath.Join(folder, "prometheus.yml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "--config.file="+filepath.Join(folder, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(folder, "data"), "--web.listen-address="+at, "--log.level=warn")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Log(said.String())
		}
	})
	p := &server{at}
	mesh.Eventually(t, func() string {
		response, err := (&http.Client{Timeout: 5 * time.Second}).Get("http://" + at + "/-/ready")
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return response.Status
		}
		return ""
	})
	return p
}

// ask asks the API for what it must have an answer to. What it has none to is why not, for whoever
// waits: a machine that stalls is not a failure.
func (p *server) ask(path string, query url.Values) ([]byte, error) {
	response, err := (&http.Client{Timeout: 20 * time.Second}).Get("http://" + p.at + path + "?" + query.Encode())
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s?%s: %d %s", path, query.Encode(), response.StatusCode, answer)
	}
	return answer, err
}
