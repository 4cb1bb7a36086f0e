package compile

import (
	"strings"
	"testing"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/edge"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/wire"
)

// parsed reads objects of a file.
func parsed(t *testing.T, text string) []api.Object {
	t.Helper()
	objects, err := api.Decode("f.yaml", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// anIngress is the workload that is the ingress.
func anIngress() wire.Workload {
	return wire.Workload{Instance: "istio-ingress/1", Namespace: "default", Labels: map[string]string{"app": "istio-ingress", "istio": "ingress"}}
}

const ingresses = `
apiVersion: sluice.dev/v1alpha1
kind: MeshService
metadata: {name: web, namespace: default}
spec: {ports: [{port: 8080, name: http}]}
---
kind: IngressRule
metadata: {name: late, namespace: default}
spec: {port: 80, destination: {name: web}, destinationPort: 1}
---
kind: IngressRule
metadata: {name: early, namespace: shop}
spec: {port: 80, precedence: 2, match: {request: {headers: {uri: {prefix: /api/}}}}, destination: {name: web, namespace: default}, destinationPortName: http}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: a, namespace: default}
spec:
  defaultBackend: {service: {name: rest, port: {number: 1}}}
  rules:
  - host: foo.com
    http: {paths: [{path: /a, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: b, namespace: default}
spec:
  defaultBackend: {service: {name: other, port: {number: 1}}}
  rules:
  - host: foo.com
    http:
      paths:
      - {path: /a, pathType: Prefix, backend: {service: {name: thief, port: {number: 1}}}}
      - {path: /b, pathType: Exact, backend: {service: {name: web, port: {name: none}}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: c, namespace: default}
spec: {ingressClassName: nginx, defaultBackend: {service: {name: web, port: {number: 1}}}}
`

// The rules of the ingress are put together of all objects: those of IngressRules by their
// precedence; of what two claim the smaller key keeps it, and the other one's status says so.
func TestTheIngressGetsItsRulesAndNobodyElseDoes(t *testing.T) {
	out := Compile(Input{Objects: parsed(t, ingresses)})
	var problems []string
	for _, p := range out.Problems {
		problems = append(problems, p.Object+" "+p.Text)
	}
	want := []string{
		"ingress/default/b its defaultBackend has no effect: ingress/default/a has one",
		`ingress/default/b path "/a" of host "foo.com" is that of ingress/default/a already`,
		"ingress/default/b service web.default.svc.cluster.local has no port of the name none: give its MeshService one, or write the number",
	}
	if got := strings.Join(problems, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("problems:\n%s", got)
	}
	snapshot, err := out.ForWorkload(anIngress())
	if err != nil {
		t.Fatal(err)
	}
	table, err := edge.NewTable(snapshot.Routes.Ingress)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		tls              bool
		host, path, want string
		port             uint16
	}{
		{false, "foo.com", "/api/1", "ingress-rule/shop/early", 8080},
		{false, "foo.com", "/a", "ingress-rule/default/late", 1},
		{true, "foo.com", "/a/1", "ingress/default/a", 8080},
		{true, "foo.com", "/b", "ingress/default/a", 1},
	} {
		found := table.Find(edge.Listener{TLS: x.tls}, names.MustParse(x.host), x.path)
		if found.Rule == nil || found.Rule.ID != x.want || found.Rule.To != x.port {
			t.Errorf("%s%s: %+v", x.host, x.path, found.Rule)
		}
	}
	other, err := out.ForWorkload(wire.Workload{Instance: "web/1", Namespace: "default", Labels: map[string]string{"app": "web"}})
	if err != nil {
		t.Fatal(err)
	}
	if other.Routes.Ingress != nil {
		t.Error("a workload that is no ingress gets its rules")
	}
}

// A change of an Ingress changes the version that the ingress runs, and nobody else's.
func TestAChangedIngressIsANewSnapshotOfTheIngressAlone(t *testing.T) {
	compiler := new(Compiler)
	version := func(text string, w wire.Workload) string {
		view, err := compiler.Compile(Input{Objects: parsed(t, text)}).View(w)
		if err != nil {
			t.Fatal(err)
		}
		return view.Version
	}
	web := wire.Workload{Instance: "web/1", Namespace: "default", Labels: map[string]string{"app": "web"}}
	before, beforeWeb := version(ingresses, anIngress()), version(ingresses, web)
	changed := strings.Replace(ingresses, "path: /a, pathType: Prefix, backend: {service: {name: web", "path: /new, pathType: Prefix, backend: {service: {name: web", 1)
	if version(changed, anIngress()) == before {
		t.Error("the ingress goes on with what was")
	}
	if version(changed, web) != beforeWeb {
		t.Error("a workload gets another snapshot")
	}
}
