package test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/test/mesh"
	"sluice.dev/sluice/test/mesh/agent"
)

// machinery is a server and a proxy in one place, beside a small internet.
type machinery struct {
	*mesh.Place
	net           *mesh.Internet
	server, proxy *mesh.Daemon
}

// eachMachinery runs f as each user.
func eachMachinery(t *testing.T, f func(t *testing.T, m *machinery)) {
	for _, user := range mesh.Users(t) {
		t.Run(user.Name, func(t *testing.T) { f(t, startMachinery(t, user)) })
	}
}

// startMachinery starts both, the proxy with flags of its own too.
func startMachinery(t *testing.T, user mesh.User, proxyFlags ...string) *machinery {
	t.Helper()
	m := &machinery{Place: mesh.NewPlace(t, user)}
	m.net = m.StartInternet(t)
	m.server = m.StartServer(t)
	m.proxy = m.StartProxy(t, m.net, proxyFlags...)
	return m
}

// policy is an EgressPolicy for workloads of a service's version.
func policyFor(name, service, version, host string) string {
	return fmt.Sprintf(`apiVersion: sluice.dev/v1alpha1
kind: EgressPolicy
metadata: {name: %s}
spec:
  from: {labels: {app: %s, version: %s}}
  to: {hosts: [%q], ports: [{port: 443, protocol: https}]}
`, name, service, version, host)
}

func (m *machinery) create(t *testing.T, rule string) {
	t.Helper()
	if r := m.Run(t, rule, "sluice", "create", "-f", "-"); r.Code != 0 {
		t.Fatalf("create: exit %d, %s%s", r.Code, r.Stdout, r.Stderr)
	}
}

func (m *machinery) delete(t *testing.T, word, name string) {
	t.Helper()
	if r := m.Sluice(t, "delete", word, name); r.Code != 0 {
		t.Fatalf("delete: exit %d, %s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// get is what a workload gets of https://host/: 200, or "" and why not.
func (m *machinery) get(t *testing.T, w *mesh.Workload, url string) agent.Answer {
	t.Helper()
	return w.Do(t, agent.Ask{Do: agent.Get, URL: url, CA: m.net.CA})
}

func (m *machinery) opens(t *testing.T, w *mesh.Workload, url string) {
	t.Helper()
	mesh.Eventually(t, func() string {
		if a := m.get(t, w, url); a.Code != 200 {
			return fmt.Sprintf("%s: %d %s %s", url, a.Code, a.Body, a.Error)
		}
		return ""
	})
}

func (m *machinery) closes(t *testing.T, w *mesh.Workload, url string) {
	t.Helper()
	mesh.Eventually(t, func() string {
		if a := m.get(t, w, url); a.Error == "" && a.Code != 403 {
			return fmt.Sprintf("%s: %d %s", url, a.Code, a.Body)
		}
		return ""
	})
}

// workloads is what `sluice status` lists, with what it says of each.
func (m *machinery) workloads(t *testing.T) map[string]inspect.WorkloadStatus {
	t.Helper()
	r := m.Sluice(t, "status", "-o", "json")
	var status inspect.Status
	if err := json.Unmarshal([]byte(r.Stdout), &status); err != nil || r.Code != 0 {
		t.Fatalf("status: exit %d, %v: %s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	all := make(map[string]inspect.WorkloadStatus)
	for _, w := range status.Workloads {
		all[w.Instance] = w
	}
	return all
}

const (
	googleapis = "https://www.googleapis.com/"
	fcm        = "https://fcm.googleapis.com/"
)

// The server is killed in the middle of the creates of another process, which
// writes down what was acknowledged and would go on for long.
func TestEveryAcknowledgedRuleOutlivesAKilledServer(t *testing.T) {
	const killedAt, creates = 300, 1_000_000
	place := mesh.NewPlace(t, mesh.User{Name: "user", UID: -1})
	server := place.StartServer(t)
	file := filepath.Join(place.Data, "acknowledged")
	creating := place.Command(context.Background(), "agent", "creates", place.Socket("api.sock"), file, strconv.Itoa(creates))
	creating.Stderr = os.Stderr
	if err := creating.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := func() []string {
		content, _ := os.ReadFile(file) // it may not be there yet
		return strings.Fields(string(content))
	}
	mesh.Eventually(t, func() string {
		if n := len(acknowledged()); n < killedAt {
			return fmt.Sprintf("%d rules were created", n)
		}
		return ""
	})
	server.Kill()
	if err := creating.Wait(); err != nil {
		t.Fatal(err)
	}
	names := acknowledged()
	if len(names) >= creates {
		t.Fatalf("all of the %d creates were acknowledged: the server did not die in the middle", len(names))
	}

	place.StartServer(t)
	var list struct {
		Items []struct{ Metadata struct{ Name string } }
	}
	r := place.Sluice(t, "get", "egressrules", "-o", "json")
	if err := json.Unmarshal([]byte(r.Stdout), &list); err != nil || r.Code != 0 {
		t.Fatalf("get: exit %d, %v: %s", r.Code, err, r.Stderr)
	}
	held := make(map[string]bool)
	for _, item := range list.Items {
		held[item.Metadata.Name] = true
	}
	for _, name := range names {
		if !held[name] {
			t.Errorf("%s was acknowledged and is gone", name)
		}
	}
	t.Logf("%d acknowledged, %d held", len(names), len(held))
}

func TestAProxyThatLostTheServerGoesOnAndCatchesUp(t *testing.T) {
	eachMachinery(t, func(t *testing.T, m *machinery) {
		details := m.StartWorkload(t, "--service", "details", "--version", "v2", "--listen", "9080")
		details.Do(t, agent.Ask{Do: agent.Serve, Address: "127.0.0.1:9080", Send: []byte("of details")})
		caller := m.StartWorkload(t, "--service", "caller", "--version", "v1")
		m.create(t, policyFor("first", "details", "v2", "www.googleapis.com"))
		m.opens(t, details, googleapis)
		reachesDetails := func(when string) {
			t.Helper()
			mesh.Eventually(t, func() string {
				if a := caller.Do(t, agent.Ask{Do: agent.Get, URL: "http://details:9080/"}); string(a.Body) != "of details" {
					return fmt.Sprintf("%s the service answers %d %s %s", when, a.Code, a.Body, a.Error)
				}
				return ""
			})
		}
		reachesDetails("at first")

		m.server.Kill()
		for range 3 {
			if a := m.get(t, details, googleapis); a.Code != 200 {
				m.StartServer(t) // which asks the proxy for its flows
				waitForInstance(t, m, "details-v2/1")
				t.Fatalf("without its server the proxy answers %d %s %s to what was allowed; flows:\n%s", a.Code, a.Body, a.Error, m.Sluice(t, "flows", "-o", "json").Stdout)
			}
			if a := m.get(t, details, fcm); a.Error == "" {
				t.Fatalf("without its server the proxy answers %d %s to what was denied", a.Code, a.Body)
			}
		}
		reachesDetails("without the server")

		m.StartServer(t)
		m.create(t, policyFor("second", "details", "v2", "fcm.googleapis.com"))
		m.opens(t, details, fcm)
		m.delete(t, "egresspolicy", "first")
		m.closes(t, details, googleapis)
		reachesDetails("after the server's restart")
		waitForInstance(t, m, "details-v2/1")
		waitForInstance(t, m, "caller-v1/1")
	})
}

// waitForInstance waits until status says that a workload runs a snapshot.
func waitForInstance(t *testing.T, m *machinery, instance string) {
	t.Helper()
	mesh.Eventually(t, func() string {
		if w, ok := m.workloads(t)[instance]; !ok || !w.Connected || w.AckedVersion == "" {
			return fmt.Sprintf("status says of %s: %+v", instance, w)
		}
		return ""
	})
}

// What died is gone from status, and from its service; what lives stays.
func TestAWorkloadThatDiedIsGone(t *testing.T) {
	eachMachinery(t, func(t *testing.T, m *machinery) {
		start := func(service string) *mesh.Workload {
			return m.StartWorkload(t, "--service", service, "--version", "v1", "--listen", "9080")
		}
		staying, run, command := start("staying"), start("run-killed"), start("command-killed")
		for _, instance := range []string{"staying-v1/1", "run-killed-v1/1", "command-killed-v1/1"} {
			waitForInstance(t, m, instance)
		}
		command.KillCommand(t)
		run.Kill()
		died := time.Now()
		mesh.Eventually(t, func() string {
			if all := m.workloads(t); len(all) != 1 {
				return fmt.Sprintf("status lists %v", all)
			}
			return ""
		})
		t.Logf("gone %v after they died", time.Since(died).Round(time.Millisecond))
		if _, ok := m.workloads(t)["staying-v1/1"]; !ok {
			t.Errorf("status does not list the one that lives: %v", m.workloads(t))
		}
		if a := m.get(t, staying, "http://run-killed:9080/"); a.Code == 200 {
			t.Errorf("the dead workload answers: %d %s", a.Code, a.Body)
		}
		// The number of an instance that died is given again: the proxy took leave of it.
		again := start("run-killed")
		waitForInstance(t, m, "run-killed-v1/1")
		// The proxy's death ends what it served, and no sandbox outlives it.
		m.proxy.Kill()
		for _, w := range []*mesh.Workload{staying, again} {
			select {
			case <-w.Ended():
			case <-time.After(mesh.Patience):
				t.Errorf("a sandbox still runs %v after its proxy was killed", mesh.Patience)
			}
		}
		mesh.Eventually(t, func() string {
			if all := m.workloads(t); len(all) != 0 {
				return fmt.Sprintf("status lists %v", all)
			}
			return ""
		})
	})
}

func TestDeletingARuleClosesAnOpenPassedThroughConnection(t *testing.T) {
	eachMachinery(t, func(t *testing.T, m *machinery) {
		w := m.StartWorkload(t, "--service", "details", "--version", "v2")
		m.create(t, policyFor("first", "details", "v2", "www.googleapis.com"))
		m.create(t, policyFor("second", "details", "v2", "fcm.googleapis.com"))
		m.opens(t, w, googleapis)
		m.opens(t, w, fcm)
		if a := w.Do(t, agent.Ask{Do: agent.Hold, Address: "www.googleapis.com:443", CA: m.net.CA}); a.Code == 0 {
			t.Fatalf("hold a connection: %s", a.Error)
		}
		// A rule of another destination is none of its business.
		m.delete(t, "egresspolicy", "second")
		m.closes(t, w, fcm)
		if a := w.Do(t, agent.Ask{Do: agent.Ended, Wait: 300 * time.Millisecond}); !strings.Contains(a.Error, "timeout") {
			t.Fatalf("the connection ended with another rule: %s", a.Error)
		}
		m.delete(t, "egresspolicy", "first")
		deleted := time.Now()
		if a := w.Do(t, agent.Ask{Do: agent.Ended, Wait: mesh.Patience}); strings.Contains(a.Error, "timeout") {
			t.Fatalf("%v after the rule was deleted the connection is still open", mesh.Patience)
		}
		t.Logf("closed %v after delete had returned", time.Since(deleted).Round(time.Millisecond))
	})
}

func TestAConnectionIsListedAsOpenUntilItEnds(t *testing.T) {
	m := startMachinery(t, mesh.User{Name: "user", UID: -1})
	w := m.StartWorkload(t, "--service", "details", "--version", "v2")
	m.create(t, policyFor("first", "details", "v2", "www.googleapis.com"))
	m.opens(t, w, googleapis)
	list := func(flags ...string) (all []record.Record) {
		t.Helper()
		r := m.Sluice(t, append([]string{"flows", "-o", "json", "-w", "details-v2"}, flags...)...)
		if r.Code != 0 {
			t.Fatalf("flows: exit %d, %s", r.Code, r.Stderr)
		}
		for line := range strings.Lines(r.Stdout) {
			var f record.Record
			if err := json.Unmarshal([]byte(line), &f); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			all = append(all, f)
		}
		return all
	}
	if a := w.Do(t, agent.Ask{Do: agent.Hold, Address: "www.googleapis.com:443", CA: m.net.CA}); a.Code == 0 {
		t.Fatalf("hold a connection: %s", a.Error)
	}
	var held record.Record
	mesh.Eventually(t, func() string { // the one before may be ending still
		open := list("--open")
		if len(open) != 1 {
			return fmt.Sprintf("open: %+v", open)
		}
		held = open[0]
		return ""
	})
	if held.SNI != "www.googleapis.com" || held.Verdict != record.Allowed || held.Treatment != policy.Passthrough || held.Sent == 0 || held.Received == 0 || held.Duration != 0 {
		t.Errorf("the open one is listed as %+v", held)
	}
	if r := m.Sluice(t, "flows", "--open", "-w", "reviews"); r.Code != 1 || !strings.Contains(r.Stderr, "no workload reviews is connected") {
		t.Errorf("of a workload that is not there flows says %q and %q and ends with %d", r.Stdout, r.Stderr, r.Code)
	}
	isHeld := func(f record.Record) bool { return f.ID == held.ID }
	if past := list(); slices.ContainsFunc(past, isHeld) {
		t.Errorf("what is open is listed as past: %+v", past)
	}
	m.delete(t, "egresspolicy", "first")
	mesh.Eventually(t, func() string {
		if open := list("--open"); len(open) != 0 {
			return fmt.Sprintf("still open: %+v", open)
		}
		return ""
	})
	past := list()
	at := slices.IndexFunc(past, isHeld)
	if at < 0 || past[at].Sent < held.Sent || past[at].Received < held.Received || past[at].Duration == 0 || past[at].Verdict != record.Denied {
		t.Errorf("once it has ended flows says %+v", past)
	}
}

func TestARuleForOneWorkloadNeverOpensForAnother(t *testing.T) {
	eachMachinery(t, func(t *testing.T, m *machinery) {
		v2 := m.StartWorkload(t, "--service", "details", "--version", "v2")
		others := map[string]*mesh.Workload{
			"another version":                     m.StartWorkload(t, "--service", "details", "--version", "v1"),
			"another service":                     m.StartWorkload(t, "--service", "reviews", "--version", "v2"),
			"the same of another namespace":       m.StartWorkload(t, "--service", "details", "--version", "v2", "-n", "books"),
			"a command that says one of the two":  m.StartWorkload(t, "--server", m.Runtime, "--label", "version=v2"),
			"a command that says nothing of them": m.StartWorkload(t, "--server", m.Runtime),
		}
		m.create(t, policyFor("details", "details", "v2", "*.googleapis.com"))
		m.opens(t, v2, googleapis)
		for who, w := range others {
			if a := m.get(t, w, googleapis); a.Error == "" {
				t.Errorf("%s reaches it: %d %s", who, a.Code, a.Body)
			}
			if a := m.get(t, w, "http://www.googleapis.com:443/"); a.Code != 403 {
				t.Errorf("%s reaches it by plain HTTP: %d %s %s", who, a.Code, a.Body, a.Error)
			}
		}
		// A rule that selects nobody by name opens for its whole namespace, and
		// for that alone.
		m.create(t, strings.Replace(policyFor("everyone", "", "", "www.wikipedia.org"), "  from: {labels: {app: , version: }}\n", "", 1))
		m.opens(t, others["another service"], "https://www.wikipedia.org/")
		m.opens(t, others["a command that says nothing of them"], "https://www.wikipedia.org/")
		if a := m.get(t, others["the same of another namespace"], "https://www.wikipedia.org/"); a.Error == "" {
			t.Errorf("a rule of another namespace opens: %d %s", a.Code, a.Body)
		}
	})
}

func TestTheCommandLineWritesAndReads(t *testing.T) {
	place := mesh.NewPlace(t, mesh.User{Name: "user", UID: -1})
	place.StartServer(t)
	kube := filepath.Join(place.Samples, "bookinfo", "kube")
	read := func(name string) string {
		content, err := os.ReadFile(filepath.Join(kube, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	egress, route, books := read("egress-rule-google-apis.yaml"), read("route-rule-details-v2.yaml"), read("egress-policy-google-books.yaml")
	changed := strings.Replace(egress, "*.googleapis.com", "*.google.com", 1)
	// Each step: what is typed, what is given on standard input, the exit status,
	// and a part of what is said on standard output or, where it fails, on the other.
	for _, step := range []struct {
		args, input string
		code        int
		says        string
	}{
		{"get all", "", 0, "No resources found.\n"},
		{"replace -f -", egress, 1, "revision is required"},
		{"create -f -", egress, 0, "Created config egress-rule/default/googleapis at revision "},
		{"create -f -", egress, 1, `egressrules.config.istio.io "googleapis" already exists`},
		{"create -f " + filepath.Join(kube, "egress-rule-google-apis.yaml"), "", 1, "already exists"},
		{"replace -f -", changed, 0, "Updated config egress-rule/default/googleapis to revision "},
		{"get er googleapis -o yaml", "", 0, `service: '*.google.com'`},
		{"apply -f -", egress, 0, "Updated config egress-rule/default/googleapis to revision "},
		{"apply -f -", egress, 0, "Unchanged config egress-rule/default/googleapis at revision "},
		{"apply -f -", route + "\n---\n" + books, 0, "Created config route-rule/default/details-v2 at revision "},
		{"get egressrule", "", 0, "EgressRule.v1alpha2.config.istio.io"},
		{"get egressrules", "", 0, "googleapis"},
		{"get egress-rule", "", 1, `use non-hyphenated resource name "egressrule"`},
		{"get er -o short", "", 0, "googleapis"},
		{"get rr", "", 0, "details-v2"},
		{"get egp google-books -o json", "", 0, `"kind": "EgressPolicy"`},
		{"get egresspolicies", "", 0, "google-books"},
		{"get egress-policy/default/google-books", "", 0, "google-books"},
		{"get all", "", 0, "google-books"},
		{"get all", "", 0, "details-v2"},
		{"get all -o yaml", "", 0, "---"},
		{"get all -n elsewhere", "", 0, "No resources found.\n"},
		{"get er nothing", "", 1, `egressrules.config.istio.io "nothing" not found`},
		{"get er -o xml", "", 1, "unknown output format xml"},
		{"get gateways", "", 1, "configuration type gateways not found"},
		{"delete er nothing", "", 1, `"nothing" not found`},
		{"delete egressrules googleapis", "", 0, "Deleted config: egressrules googleapis\n"},
		{"delete -f -", route, 0, "Deleted config: route-rule/default/details-v2\n"},
		{"delete egp google-books", "", 0, "Deleted config: egp google-books\n"},
		{"get all", "", 0, "No resources found.\n"},
	} {
		r := place.Run(t, step.input, "sluice", strings.Fields(step.args)...)
		said := r.Stdout
		if step.code != 0 {
			said = r.Stderr
			if r.Stdout != "" {
				t.Errorf("sluice %s failed and printed %q", step.args, r.Stdout)
			}
		}
		if r.Code != step.code || !strings.Contains(said, step.says) {
			t.Errorf("sluice %s: exit %d, %q and %q; want %d and %q", step.args, r.Code, r.Stdout, r.Stderr, step.code, step.says)
		}
	}
}
