package rules

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// kinds is one valid object of each, and what kubectl shows of it in a line.
var kinds = []struct {
	resource, short, group, scope, spec, columns, row string
}{
	{
		"egressrules", "er", "config.istio.io/v1alpha2", "true",
		"{destination: {service: '*.googleapis.com'}, ports: [{port: 443, protocol: https}]}",
		"NAME SERVICE PORTS ACCEPTED PROGRAMMED AGE", `one \*\.googleapis\.com \[.*\] True False \d+s`,
	},
	{
		"routerules", "rr", "config.istio.io/v1alpha2", "true",
		"{destination: {name: reviews}, precedence: 2, route: [{labels: {version: v1}}]}",
		"NAME DESTINATION PRECEDENCE ACCEPTED PROGRAMMED AGE", `one reviews 2 True False \d+s`,
	},
	{
		"destinationpolicies", "dp", "config.istio.io/v1alpha2", "true",
		"{destination: {name: reviews}, loadBalancing: {name: LEAST_CONN}}",
		"NAME DESTINATION BALANCING ACCEPTED PROGRAMMED AGE", `one reviews LEAST_CONN True False \d+s`,
	},
	{
		"ingressrules", "ir", "config.istio.io/v1alpha2", "true",
		"{port: 80, destination: {name: productpage}, destinationPort: 9080, precedence: 3}",
		"NAME DESTINATION PRECEDENCE ACCEPTED PROGRAMMED AGE", `one productpage 3 True False \d+s`,
	},
	{
		"egresspolicies", "egp", "sluice.dev/v1alpha1", "true",
		"{to: {hosts: [www.example.com], ports: [{port: 443, protocol: https}]}}",
		"NAME HOSTS CIDRS PORTS ACCEPTED PROGRAMMED AGE", `one \["www\.example\.com"\] \[.*\] True False \d+s`,
	},
	{
		"meshservices", "ms", "sluice.dev/v1alpha1", "true",
		"{ports: [{port: 9080, protocol: http}]}",
		"NAME PORTS ACCEPTED PROGRAMMED AGE", `one \[.*\] True False \d+s`,
	},
	{
		"meshconfigs", "mc", "sluice.dev/v1alpha1", "false",
		"{outboundDefault: Deny}",
		"NAME OUTBOUND ACCEPTED PROGRAMMED AGE", `default Deny True False \d+s`,
	},
}

var kindOf = map[string]string{
	"egressrules": "EgressRule", "routerules": "RouteRule", "destinationpolicies": "DestinationPolicy", "ingressrules": "IngressRule", "egresspolicies": "EgressPolicy", "meshservices": "MeshService", "meshconfigs": "MeshConfig",
}

func TestEveryKindIsEstablishedWithItsNamesAndItsSchema(t *testing.T) {
	c := shared.Get(t)
	files, err := filepath.Glob(filepath.Join(definitions, "*.yaml"))
	if err != nil || len(files) != len(kinds) {
		t.Fatalf("%d definitions for %d kinds, %v", len(files), len(kinds), err)
	}
	var all struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Conditions []struct{ Type, Status, Message string }
			}
		}
	}
	r := c.Kubectl(t, "", "get", "crd", "-o", "json")
	if err := json.Unmarshal([]byte(r.Stdout), &all); err != nil {
		t.Fatalf("%v %s", err, r.Stderr)
	}
	if len(all.Items) != len(kinds) {
		t.Errorf("%d definitions are established", len(all.Items))
	}
	for _, one := range all.Items {
		is := make(map[string]string)
		for _, condition := range one.Status.Conditions {
			is[condition.Type] = condition.Status
			if condition.Type == "NonStructuralSchema" && condition.Status == "True" {
				t.Errorf("%s: %s", one.Metadata.Name, condition.Message)
			}
		}
		if is["Established"] != "True" || is["NamesAccepted"] != "True" {
			t.Errorf("%s: %v", one.Metadata.Name, is)
		}
	}
	listed := c.Kubectl(t, "", "api-resources", "--categories=sluice", "--no-headers").Stdout
	for _, kind := range kinds {
		want := strings.Join([]string{kind.resource, kind.short, kind.group, kind.scope, kindOf[kind.resource]}, " ")
		if !strings.Contains(strings.Join(strings.Fields(listed), " "), want) {
			t.Errorf("kubectl api-resources lacks %q:\n%s", want, listed)
		}
	}
}

func TestKubectlExplainsEveryField(t *testing.T) {
	c := shared.Get(t)
	for _, kind := range kinds {
		r := c.Kubectl(t, "", "explain", kind.resource, "--recursive")
		if r.Code != 0 || strings.Contains(r.Stdout, "<empty>") {
			t.Errorf("%s: %+v", kind.resource, r)
		}
		for _, path := range []string{"", ".spec", ".status", ".status.conditions"} {
			r := c.Kubectl(t, "", "explain", kind.resource+path)
			_, text, _ := strings.Cut(r.Stdout, "DESCRIPTION:")
			if r.Code != 0 || strings.TrimSpace(text) == "" || strings.Contains(text, "<no description>") {
				t.Errorf("kubectl explain %s%s: %+v", kind.resource, path, r)
			}
		}
	}
	for path, says := range map[string]string{
		"egresspolicy.spec.to.ports.protocol": "Protocol is http, http2, grpc, https, tls, tcp or mongo",
		"er.spec.useEgressProxy":              "refused, as it was in Istio 0.5",
		"mc.spec.outboundDefault":             "is what happens to traffic that no rule allows",
		"egp.status.conditions.type":          "Accepted, Programmed or Warning",
	} {
		if r := c.Kubectl(t, "", "explain", path); !strings.Contains(strings.Join(strings.Fields(r.Stdout), " "), says) {
			t.Errorf("kubectl explain %s: %+v", path, r)
		}
	}
}

// object returns YAML of one object.
func object(resource, apiVersion, name, spec string) string {
	return "apiVersion: " + apiVersion + "\nkind: " + kindOf[resource] + "\nmetadata: {name: " + name + "}\nspec: " + spec + "\n"
}

func TestKubectlShowsTheColumnsAndTheConditionsOfEachKind(t *testing.T) {
	c := shared.Get(t)
	namespace := c.Namespace(t)
	for _, kind := range kinds {
		name := "one"
		if kind.scope == "false" {
			name = "default"
		}
		if r := c.Kubectl(t, object(kind.resource, kind.group, name, kind.spec), "-n", namespace, "create", "-f", "-"); r.Code != 0 {
			t.Errorf("%s: %+v", kind.resource, r)
			continue
		}
		status := `{"status":{"observedGeneration":1,"conditions":[` +
			`{"type":"Accepted","status":"True","observedGeneration":1,"lastTransitionTime":"2018-02-01T00:00:00Z","reason":"Compiled","message":"in effect"},` +
			`{"type":"Programmed","status":"False","observedGeneration":1,"lastTransitionTime":"2018-02-01T00:00:00Z","reason":"Pending","message":"the proxies of 1 of 2 connected workloads run it"}]}}`
		if r := c.Kubectl(t, "", "-n", namespace, "patch", kind.resource, name, "--subresource=status", "--type=merge", "-p", status); r.Code != 0 {
			t.Errorf("%s: %+v", kind.resource, r)
		}
		lines := strings.SplitN(c.Kubectl(t, "", "-n", namespace, "get", kind.short).Stdout, "\n", 3)
		if len(lines) < 2 || strings.Join(strings.Fields(lines[0]), " ") != kind.columns ||
			!regexp.MustCompile("^"+kind.row+"$").MatchString(strings.Join(strings.Fields(lines[1]), " ")) {
			t.Errorf("kubectl get %s: %q, want %q and %q", kind.short, lines, kind.columns, kind.row)
		}
		if r := c.Kubectl(t, "", "-n", namespace, "wait", "--for=condition=Accepted", kind.resource+"/"+name, "--timeout=20s"); r.Code != 0 {
			t.Errorf("wait: %+v", r)
		}
		// A status is no change of what was asked for.
		if r := c.Kubectl(t, "", "-n", namespace, "get", kind.resource, name, "-o", "jsonpath={.metadata.generation}"); r.Stdout != "1" {
			t.Errorf("%s: the status counted as a change: %+v", kind.resource, r)
		}
	}
	all := c.Kubectl(t, "", "-n", namespace, "get", "sluice", "-o", "name").Stdout
	for _, kind := range kinds {
		if !strings.Contains(all, strings.ToLower(kindOf[kind.resource])+"."+strings.Split(kind.group, "/")[0]+"/") {
			t.Errorf("kubectl get sluice lacks %s:\n%s", kind.resource, all)
		}
	}
	if r := c.Kubectl(t, "", "delete", "meshconfig", "default"); r.Code != 0 {
		t.Errorf("%+v", r)
	}
}

// Where no webhook is asked, as in Sluice's own namespace while its server is down, the
// schema holds these, in the sentences of the command line where it is not a bound.
func TestTheSchemaAloneHoldsWhatMustHold(t *testing.T) {
	c := shared.Get(t)
	if _, err := os.Stat(definitions); err != nil {
		t.Fatal(err)
	}
	hosts := "[" + strings.Repeat("a.b,", 1001) + "]"
	for _, step := range []struct{ resource, name, spec, says string }{
		{"egresspolicies", "bad", "{to: {hosts: " + hosts + ", ports: [{port: 1, protocol: tcp}]}}", "spec.to.hosts: Too many: 1001: must have at most 1000 items"},
		{"meshservices", "a.b", "{ports: [{port: 80}]}", `"a.b" is not a DNS label (lower-case letters, digits and inner hyphens, at most 63): a service's name is part of its host name`},
		{"meshconfigs", "other", "{}", "must be default: there is one MeshConfig"},
		{"meshconfigs", "default", "{outboundDefault: Allow}", "outboundDefault Allow is not supported yet: Audit lets pass and records what no rule allows"},
		{"meshconfigs", "default", "{outboundDefault: deny}", `outboundDefault "deny" is not one of Deny, Audit`},
		{"meshconfigs", "default", "{namespaces: {books: {outboundDefault: Permit}}}", `outboundDefault "Permit" is not one of Deny, Audit`},
		{"egressrules", "bad", "{destination: {service: 5}}", "spec.destination.service: Invalid value: \"integer\""},
		{"egressrules", "bad", "{destination: {service: a.com}, port: 80}", `unknown field "spec.port"`},
	} {
		group := "sluice.dev/v1alpha1"
		if strings.HasSuffix(step.resource, "rules") {
			group = "config.istio.io/v1alpha2"
		}
		r := c.Kubectl(t, object(step.resource, group, step.name, step.spec), "-n", "sluice-system", "create", "-f", "-")
		if r.Code == 0 || !strings.Contains(r.Stderr, step.says) {
			t.Errorf("%s %s: %+v, want %q", step.resource, step.spec, r, step.says)
		}
	}
}
