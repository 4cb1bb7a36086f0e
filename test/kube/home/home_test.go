// Package home tries what somebody does with kubectl who runs Sluice on a real cluster: he asks all
// servers as if they were one, loses one of them, and lets the authority be made anew.
package home

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"sluice.dev/sluice/test/kube/node"
	"sluice.dev/sluice/test/kube/walk"
)

func TestMain(m *testing.M) { walk.Main(m) }

// loader asks a service and a host outside without end.
const loader = `
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: NAME, version: v1}}
spec:
  containers:
  - {name: tool, image: "local.test/tool:1", imagePullPolicy: Never, args: [load, "http://echo/", "http://www.example.net/"]}
---
`

const echo = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo, labels: {app: echo}}
spec:
  replicas: 2
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo, version: v1}}
    spec:
      containers:
      - {name: tool, image: "local.test/tool:1", imagePullPolicy: Never, args: [serve, "8080"], ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {selector: {app: echo}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: sluice.dev/v1alpha1
kind: EgressPolicy
metadata: {name: other}
spec:
  from: {labels: {version: v1}}
  to:
    hosts: [www.example.net]
    ports: [{port: 80, protocol: http, upstream: {port: 443, protocol: https}}]
`

// stay is a cluster with Sluice, two servers, and two clients that ask.
type stay struct {
	*walk.Walk
	clients []string
}

// in runs a line where sluice and kubectl-sluice are in PATH.
func in(line string) string { return `cd && export PATH="$PWD/bin:$PATH" && ` + line }

// one is the cluster of all tests: a node is started once in a process. It ends with it.
var one *stay

// at is somebody at the cluster, for one test.
func at(t *testing.T) *stay {
	t.Helper()
	if one == nil {
		one = begin(t)
	}
	here, walking := *one, *one.Walk
	walking.T, here.Walk = t, &walking
	return &here
}

func begin(t *testing.T) *stay {
	s := &stay{Walk: walk.New(t), clients: []string{"first", "second"}}
	if err := s.ImportProgram(t.Context(), "local.test/tool:1", s.Program("tool"), nil); err != nil {
		t.Fatal(err)
	}
	s.Does(in("sluice install --hub " + s.Hub + " --tag " + s.Tag + " --timeout 4m"))
	s.Does("kubectl label namespace default sluice-injection=enabled")
	manifest := echo
	for _, name := range s.clients {
		manifest += "---" + strings.ReplaceAll(loader, "NAME", name)
	}
	s.apply(manifest)
	s.Does("kubectl wait --for=condition=Ready pod --all --timeout=4m")
	s.Does("kubectl wait --for=condition=Programmed egresspolicy/other --timeout=2m")
	return s
}

func (s *stay) apply(manifest string) {
	s.T.Helper()
	s.Does("kubectl apply -f - <<'END'\n" + manifest + "\nEND")
}

// counts is what a client has seen.
func (s *stay) counts(client string) (c struct {
	Answered, Failed int
	Failures         []string
}) {
	s.T.Helper()
	if err := json.Unmarshal([]byte(s.Does("kubectl exec "+client+" -c tool -- /program-tool counts")), &c); err != nil {
		s.T.Fatal(err)
	}
	return c
}

// more waits until every client had so many more answers.
func (s *stay) more(n int) {
	s.T.Helper()
	for _, client := range s.clients {
		from := s.counts(client)
		s.Wait(fmt.Sprintf("%s has %d answers more", client, n), func() bool { return s.counts(client).Answered >= from.Answered+n })
	}
}

// unharmed says of every client that no request failed since a moment.
func (s *stay) unharmed(what string, since map[string]int) {
	s.T.Helper()
	for _, client := range s.clients {
		if c := s.counts(client); c.Failed != since[client] {
			s.T.Errorf("%s: %s had %d failures, and %d of %d before: %q", what, client, c.Failed, since[client], c.Answered, c.Failures)
		}
	}
}

func (s *stay) failures() map[string]int {
	s.T.Helper()
	all := make(map[string]int)
	for _, client := range s.clients {
		all[client] = s.counts(client).Failed
	}
	return all
}

// servers is the Pods of the servers that are ready.
func (s *stay) servers() []string {
	s.T.Helper()
	return strings.Fields(s.Does(`kubectl -n sluice-system get pods -l app.kubernetes.io/name=sluice-server -o jsonpath='{range .items[?(@.status.containerStatuses[0].ready==true)]}{.metadata.name}{"\n"}{end}'`))
}

// connected is how many workloads are connected as kubectl sluice status says.
func (s *stay) connected() int {
	s.T.Helper()
	r := s.Types(in("kubectl sluice status -o json"))
	if r.Code != 0 {
		return 0
	}
	var status struct {
		Workloads []struct {
			Connected                 bool
			SentVersion, AckedVersion string
		}
	}
	if err := json.Unmarshal([]byte(r.Stdout), &status); err != nil {
		s.T.Fatal(err)
	}
	n := 0
	for _, workload := range status.Workloads {
		if workload.Connected && workload.AckedVersion != "" && workload.AckedVersion == workload.SentVersion {
			n++
		}
	}
	return n
}

// workloads is how many there are: two that serve and two that ask.
const workloads = 4

func TestWhoRunsSluiceOnAClusterAsksAllServersAndLosesNothingWithOne(t *testing.T) {
	s := at(t)
	s.more(20)
	before := s.failures()

	// What is asked with kubectl alone.
	s.Wait("every proxy is connected to one of two servers and current", func() bool { return s.connected() == workloads && len(s.servers()) == 2 })
	said := s.Does(in("kubectl sluice status"))
	if strings.Count(said, "current") != workloads || strings.Contains(said, "gone") {
		t.Errorf("kubectl sluice status: %s", said)
	}
	for _, client := range s.clients {
		if flows := s.Does(in("kubectl sluice flows --from " + client + ".default --to www.example.net --last 3")); !strings.Contains(flows, "egress-policy/default/other") {
			t.Errorf("flows of %s: %s", client, flows)
		}
		if why := s.Does(in("kubectl sluice why --from " + client + ".default http://www.example.net/")); !strings.Contains(why, "ALLOW") || !strings.Contains(why, "egress-policy/default/other") {
			t.Errorf("why of %s: %s", client, why)
		}
	}
	if r := s.Types(in("kubectl sluice why --from first.default https://www.googleapis.com/")); r.Code != 3 || !strings.Contains(r.Stdout, "DENY") {
		t.Errorf("a denial: %+v", r)
	}
	id := regexp.MustCompile(`[0-9a-f]{16}`).FindString(s.Does(in("kubectl sluice flows --last 1 -o json")))
	if why := s.Does(in("kubectl sluice why " + id)); !strings.Contains(why, "ALLOW") {
		t.Errorf("why of flow %s: %s", id, why)
	}
	if r := s.Types(in("kubectl sluice apply -f x.yaml")); r.Code != 1 || !strings.Contains(r.Stderr, "kubectl apply does it") {
		t.Errorf("%+v", r)
	}
	if got := s.Does(in("kubectl sluice get egresspolicies")); !strings.Contains(got, "other") {
		t.Errorf("kubectl's verbs: %s", got)
	}
	// Who may not forward ports there is not told anything.
	r := s.Types(in("kubectl create serviceaccount reader && kubectl create token reader > token && kubectl config set-credentials reader --token=$(cat token) && kubectl config set-context reader --cluster=$(kubectl config view -o jsonpath='{.contexts[0].context.cluster}') --user=reader && kubectl sluice status --context reader"))
	if r.Code != 1 || !strings.Contains(r.Stderr, `cannot list resource "pods"`) {
		t.Errorf("a stranger: %+v", r)
	}

	// Each server is killed once, as the kernel kills.
	for _, server := range s.servers() {
		killed, err := s.KillOf(server, "sluice-server")
		if err != nil || killed != 1 {
			t.Fatalf("%d processes of %s were killed: %v", killed, server, err)
		}
		s.Wait("every proxy is connected again", func() bool { return s.connected() == workloads })
		s.more(50)
		s.unharmed("after "+server+" was killed", before)
		s.Wait("two servers are ready", func() bool { return len(s.servers()) == 2 })
	}
	// Rules get to everybody, and a status counts them all.
	s.apply(strings.ReplaceAll(echo[strings.LastIndex(echo, "---")+3:], "name: other", "name: later"))
	s.Does("kubectl wait --for=condition=Programmed egresspolicy/later --timeout=2m")
	s.Wait("the status counts the proxies of both servers", func() bool {
		return strings.Contains(s.Does(`kubectl get egresspolicy later -o jsonpath='{.status.conditions[?(@.type=="Programmed")].message}'`), fmt.Sprint(workloads))
	})
	s.unharmed("after both servers were killed", before)
	if n := s.Internet.Asked(node.BooksHost); n != 0 {
		t.Errorf("%s, which no rule names, saw %d requests", node.BooksHost, n)
	}
}
