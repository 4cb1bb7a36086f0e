package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

func TestArgumentsGetTheFormOfKubectl(t *testing.T) {
	for line, want := range map[string]string{
		"get er":                    "egressrules.config.istio.io",
		"get ep,er":                 "egresspolicies.sluice.dev,egressrules.config.istio.io",
		"get all":                   "sluice",
		"get ep books":              "egresspolicies.sluice.dev books",
		"get egress-rule/default/a": "egressrules.config.istio.io/a -n default",
		"get egress-rule/books/a egress-policy/books/b":   "egressrules.config.istio.io/a egresspolicies.sluice.dev/b -n books",
		"label ep/books a=b c-":                           "egresspolicies.sluice.dev/books a=b c- -n ",
		"label ep books ep=er/x":                          "egresspolicies.sluice.dev books ep=er/x",
		"annotate egress-policy/x/books example.com/er-":  "egresspolicies.sluice.dev/books example.com/er- -n x",
		"annotate ep/books example.com/a=pods/x":          "egresspolicies.sluice.dev/books example.com/a=pods/x",
		"wait mc/default":                                 "meshconfigs.sluice.dev/default",
		"edit egressrule.config.istio.io/a":               "egressrules.config.istio.io/a",
		"explain ep":                                      "egresspolicies",
		"explain ep.spec.to":                              "egresspolicies.spec.to",
		"explain egresspolicies.sluice.dev":               "egresspolicies",
		"explain customresourcedefinition.spec":           "customresourcedefinition.spec",
		"get crd":                                         "crd",
		"get crd/x":                                       "crd/x",
		"get":                                             "",
		"get egress-rule/books/a egress-policy/default/b": "egress-policy/default/b is in another namespace than egress-rule/books/a: name each in a command of its own",
		"get egress-rule/a":                               `"egress-rule/a" must look like egress-rule/NAMESPACE/NAME, or write egressrule/NAME`,
		"get egress-rule":                                 `"egress-rule" not recognized. Please use non-hyphenated resource name "egressrule"`,
		"explain vs.spec":                                 "configuration type vs not found, the types are [egressrule routerule destinationpolicy ingressrule ingress egresspolicy meshservice meshconfig]: to route calls inside the mesh, write a RouteRule (apiVersion config.istio.io/v1alpha2)",
		"edit deployment/a":                               "configuration type deployment not found, the types are [egressrule routerule destinationpolicy ingressrule ingress egresspolicy meshservice meshconfig]: workloads are no objects here: start one with sluice run --service NAME --listen PORT -- COMMAND",
		"label rules x a=b":                               "configuration type rules is not supported yet, the types are [egressrule routerule destinationpolicy ingressrule ingress egresspolicy meshservice meshconfig]: the policies of Mixer are not supported yet; sluice get all -A shows every rule in force",
	} {
		words := strings.Fields(line)
		s, args := new(server), words[1:]
		err := s.kubectlForm(&cobra.Command{Use: words[0]}, args)
		got := strings.Join(args, " ")
		if s.namespace != "" {
			got += " -n " + s.namespace
		}
		if err != nil {
			got = err.Error()
		}
		if got != strings.TrimSuffix(want, " -n ") {
			t.Errorf("%s:\n got %s\nwant %s", line, got, want)
		}
	}
	s := &server{namespace: "books"}
	if err := s.kubectlForm(&cobra.Command{Use: "get"}, []string{"egress-rule/default/a"}); err == nil || err.Error() != "egress-rule/default/a is in the namespace default, and --namespace says books: leave it out" {
		t.Errorf("two namespaces: %v", err)
	}
	if err := s.kubectlForm(&cobra.Command{Use: "get"}, []string{"egress-rule/books/a"}); err != nil {
		t.Error(err)
	}
	for line, want := range map[string]string{
		"Not_A er":        `--namespace "Not_A" cannot be a namespace: lower-case letters, digits and inner hyphens, at most 63`,
		"Not_A":           `--namespace "Not_A" cannot be a namespace: lower-case letters, digits and inner hyphens, at most 63`,
		"books mc":        "a MeshConfig is the whole mesh's and in no namespace: leave --namespace out",
		"books mc/x mc/y": "a MeshConfig is the whole mesh's and in no namespace: leave --namespace out",
		"books mc,er":     "",
		"books all":       "",
		"books crd":       "",
		"books":           "",
	} {
		words := strings.Fields(line)
		err := (&server{namespace: words[0]}).kubectlForm(&cobra.Command{Use: "get"}, words[1:])
		if got := fmt.Sprint(err); got != want && (err != nil || want != "") {
			t.Errorf("%s: %s", line, got)
		}
	}
}

func TestTheCommandsAreCalledAsTheyWereTyped(t *testing.T) {
	for called, want := range map[string]string{"sluice": "sluice", "kubectl-sluice": "kubectl-sluice", "kubectl-sluice.exe": "kubectl-sluice"} {
		root := newRootCommand(called, genericiooptions.IOStreams{Out: io.Discard, ErrOut: io.Discard})
		if root.Name() != want {
			t.Errorf("called %s it is %s", called, root.Name())
		}
		at := slices.IndexFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == "patch" })
		if kind := root.Commands()[at].Flags().Lookup("type"); kind.Value.String() != "merge" || kind.DefValue != "merge" {
			t.Errorf("a patch without --type is %s", kind.Value)
		}
	}
}
