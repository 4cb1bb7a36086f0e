package test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

func TestTheVerbsOfKubectlWorkOnRules(t *testing.T) {
	place := mesh.NewPlace(t, mesh.User{Name: "user", UID: -1})
	place.StartServer(t)
	rule, err := os.ReadFile(filepath.Join(place.Samples, "bookinfo", "kube", "egress-rule-google-apis.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	google := strings.Replace(string(rule), "*.googleapis.com", "*.google.com", 1)
	said := "egressrule.config.istio.io/googleapis "
	for _, step := range []struct {
		line, input string
		code        int
		says        string
	}{
		{"sluice create -f -", string(rule), 0, "Created config egress-rule/default/googleapis"},
		{"sluice wait --for=condition=Accepted egress-rule/default/googleapis --timeout=30s", "", 0, said + "condition met\n"},
		{"sluice label er googleapis team=books", "", 0, said + "labeled\n"},
		{"sluice annotate er/googleapis ticket=42", "", 0, said + "annotated\n"},
		{"sluice get er -l team=books -o name", "", 0, strings.TrimSpace(said) + "\n"},
		{"sluice get er -l team=films -o name", "", 0, ""},
		{"sluice get er googleapis -o jsonpath={.metadata.annotations.ticket}", "", 0, "42"},
		{"sluice get egress-rule/default/googleapis -o go-template={{.spec.destination.service}}", "", 0, "*.googleapis.com"},
		{"sluice get all -o wide -A", "", 0, "default     egressrule.config.istio.io/googleapis   *.googleapis.com   443/https   True       True "},
		{"sluice get all -o wide -A", "", 0, "no workload was connected; whoever connects runs it from the start\n"},
		{"sluice get er", "", 0, "googleapis	EgressRule.v1alpha2.config.istio.io	default\n"},
		{"sluice get er --show-labels", "", 0, "googleapis   *.googleapis.com   443/https   True       True "},
		{"sluice diff -f -", google, 1, "+    service: '*.google.com'\n"},
		{"sluice diff -f -", string(rule), 0, ""},
		{`sluice patch er googleapis --type=merge -p {"spec":{"destination":{"service":"*.google.com"}}}`, "", 0, said + "patched\n"},
		{`sluice patch er googleapis --type=merge -p {"spec":{"ports":[{"port":70000,"protocol":"https"}]}}`, "", 1, "port number 70000 must be in the range 1..65535"},
		{"sluice edit egress-rule/default/googleapis", "", 0, said + "edited\n"},
		{"sluice get er googleapis -o jsonpath={.spec.destination.service}", "", 0, "*.wikipedia.org"},
		{"sluice explain egresspolicy.spec.to.ports", "", 0, "FIELD: ports <[]Object>"},
		{"sluice explain ep.spec.to.hosts", "", 0, "FIELD: hosts <[]string>"},
		{"sluice explain virtualservice", "", 1, "error: configuration type virtualservice not found, the types are [egressrule routerule destinationpolicy ingressrule ingress egresspolicy meshservice meshconfig]: to route calls inside the mesh, write a RouteRule"},
		{"sluice get po -o wide", "", 1, "error: configuration type po not found, the types are [egressrule routerule destinationpolicy ingressrule ingress egresspolicy meshservice meshconfig]: workloads are no objects here: start one with sluice run"},
		{"sluice label egress-rule/default/googleapis season-", "", 0, "not labeled"},
		{"sluice annotate egress-rule/default/googleapis example.com/er=pods/x", "", 0, said + "annotated\n"},
		{`sluice patch er googleapis -p {"metadata":{"labels":{"team":"films"}}}`, "", 0, said + "patched\n"},
		{"sluice diff -v=9 -f -", "", 2, "See 'sluice diff -h' for help and examples"},
		{"kubectl-sluice diff -v=9 -f -", "", 2, "See 'kubectl-sluice diff -h' for help and examples"},
		{"sluice edit er googleapis --windows", "", 1, "unknown flag: --windows"},
		{"sluice -n elsewhere label er googleapis a=b", "", 1, `egressrules.config.istio.io "googleapis" not found`},
		{"sluice label egress-rule/default/a egress-rule/books/b a=b", "", 1, "egress-rule/books/b is in another namespace than egress-rule/default/a"},
		{"kubectl-sluice get egressrules --no-headers", "", 0, "googleapis   *.wikipedia.org"},
		{"kubectl-sluice status", "", 0, "No workload has joined."},
		{"kubectl-sluice get er nothing", "", 1, `Error from server (NotFound): egressrules.config.istio.io "nothing" not found`},
	} {
		words := strings.Fields(step.line)
		cmd := place.Command(context.Background(), words[0], words[1:]...)
		cmd.Env = append(cmd.Env, "KUBE_EDITOR=sed -i s/google.com/wikipedia.org/")
		r := mesh.Finish(t, cmd, step.input)
		text := r.Stdout
		if step.code != 0 && (step.code != 1 || !strings.Contains(step.line, " diff ")) {
			text = r.Stderr
		}
		if r.Code != step.code || !strings.Contains(text, step.says) {
			t.Errorf("%s: exit %d, %q and %q; want %d and %q", step.line, r.Code, r.Stdout, r.Stderr, step.code, step.says)
		}
	}
}

func TestAVerbOfKubectlFailsWhereItsOutputCannotBeWritten(t *testing.T) {
	place := mesh.NewPlace(t, mesh.User{Name: "user", UID: -1})
	place.StartServer(t)
	rule := filepath.Join(place.Samples, "bookinfo", "kube", "egress-rule-google-apis.yaml")
	if r := place.Run(t, "", "sluice", "create", "-f", rule); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	for _, line := range []string{"get er", "get er -o wide", "get er -o name", "get er -o jsonpath={.items[0].metadata.name}", "explain egressrule", "label er googleapis a=b", "wait er/googleapis --for=condition=Accepted --timeout=30s", "api-resources"} {
		cmd := place.Command(context.Background(), "kubectl-sluice", strings.Fields(line)...)
		var said strings.Builder
		cmd.Stdout, cmd.Stderr = full, &said
		if err := cmd.Run(); err == nil || !strings.Contains(said.String(), "no space left on device") {
			t.Errorf("%s: %v, %q", line, err, said.String())
		}
	}
}
