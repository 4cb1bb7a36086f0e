package controlplane

import (
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/internal/wire/stream"
)

func TestAPodsProxyJoinsByItsTokenAndGetsTheRulesOfThePod(t *testing.T) {
	m := newMesh(t)
	namespace := m.Namespace(t)
	s := m.server("one")
	pod := m.pod(namespace, "details-1", "10.1.0.1", map[string]string{"app": "details"})
	m.apply(policy(namespace, "mine", "mine.example.com", "details"))
	m.apply(policy("kube-system", "admins", "admin.example.com", "admin"))
	m.apply(`
apiVersion: config.istio.io/v1alpha2
kind: EgressRule
metadata: {namespace: ` + namespace + `, name: googleapis}
spec:
  destination: {service: "*.googleapis.com"}
  ports: [{port: 443, protocol: https}]
`)
	member := m.join(s, m.token(pod, stream.TokenAudience))
	mine, old := "egress-policy/"+namespace+"/mine", "egress-rule/"+namespace+"/googleapis"
	until(t, member, "the rules", func(w *wire.Snapshot) bool {
		ids := ruleIDs(w)
		return strings.Contains(ids, mine) && strings.Contains(ids, old) && len(w.Rules()) == 2
	})
	if got := member.Instance(); got != "details-1."+namespace {
		t.Errorf("it is called %s", got)
	}
	// Another label, another rule, on the same stream.
	m.apply(policy(namespace, "other", "other.example.com", "other"))
	if r := m.Kubectl(t, "", "-n", namespace, "label", "--overwrite", "pod", "details-1", "app=other"); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	until(t, member, "the rules of the new label", func(w *wire.Snapshot) bool {
		return strings.Contains(ruleIDs(w), "/other") && !strings.Contains(ruleIDs(w), mine)
	})
	if r := m.Kubectl(t, "", "-n", namespace, "delete", "pod", "details-1", "--grace-period=0", "--force"); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	eventually(t, "the stream of a Pod that was deleted ends", func() bool { return !member.Connected() })
}

func TestATokenOfAnotherAudienceOrOfNoPodDoesNotJoin(t *testing.T) {
	m := newMesh(t)
	namespace := m.Namespace(t)
	s := m.server("one")
	pod := m.pod(namespace, "web-1", "10.1.0.1", nil)
	unbound, err := m.client.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), "default",
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{stream.TokenAudience}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for what, each := range map[string]struct{ token, want string }{
		"for the API server": {m.token(pod, "https://kubernetes.default.svc"), "does not accept it for " + stream.TokenAudience},
		"for another":        {m.token(pod, "vault"), "does not accept it for " + stream.TokenAudience},
		"of no Pod":          {unbound.Status.Token, "not bound to a Pod"},
		"forged":             {"e30.e30.c2ln", "does not accept it"},
	} {
		member := m.join(s, each.token)
		eventually(t, "a token "+what+" is refused", func() bool { return member.Err() != nil })
		if err := member.Err(); !strings.Contains(err.Error(), each.want) {
			t.Errorf("%s: %v", what, err)
		}
		member.Leave()
	}
}

func TestEveryKindOfServiceIsInTheDirectory(t *testing.T) {
	m := newMesh(t)
	namespace := m.Namespace(t)
	s := m.server("one")
	pod := m.pod(namespace, "db-0", "10.1.0.7", map[string]string{"app": "db"})
	m.apply(strings.ReplaceAll(`
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {namespace: NS, name: web}, spec: {selector: {app: db}, ports: [{name: http, port: 80, targetPort: 8080}]}}
- {apiVersion: v1, kind: Service, metadata: {namespace: NS, name: db}, spec: {clusterIP: None, selector: {app: db}, ports: [{name: tcp, port: 5432}]}}
- {apiVersion: v1, kind: Service, metadata: {namespace: NS, name: api}, spec: {type: ExternalName, externalName: api.example.com}}
- {apiVersion: v1, kind: Service, metadata: {namespace: NS, name: legacy}, spec: {ports: [{name: http, port: 80}]}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {namespace: NS, name: web-a, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  ports: [{name: http, port: 8080, protocol: TCP}]
  endpoints: [{addresses: [10.1.0.7], conditions: {ready: true}, targetRef: {kind: Pod, name: db-0}}]
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {namespace: NS, name: db-a, labels: {kubernetes.io/service-name: db}}
  addressType: IPv4
  ports: [{name: tcp, port: 5432, protocol: TCP}]
  endpoints: [{addresses: [10.1.0.7], hostname: db-0, conditions: {ready: true}, targetRef: {kind: Pod, name: db-0}}]
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {namespace: NS, name: legacy-a, labels: {kubernetes.io/service-name: legacy}}
  addressType: IPv4
  ports: [{name: http, port: 80, protocol: TCP}]
  endpoints: [{addresses: [192.0.2.7]}]
`, "NS", namespace))
	member := m.join(s, m.token(pod, stream.TokenAudience))
	service := func(w *wire.Snapshot, name string) (found wire.Service, endpoints []wire.Endpoint) {
		full := name + "." + namespace + ".svc.cluster.local"
		for _, one := range w.Directory.Services {
			if one.Name.String() == full {
				found = one
			}
		}
		for _, of := range w.Endpoints {
			if of.Service.String() == full {
				endpoints = of.Endpoints
			}
		}
		return found, endpoints
	}
	w := until(t, member, "every service", func(w *wire.Snapshot) bool {
		for _, name := range []string{"web", "db", "legacy"} {
			if _, endpoints := service(w, name); len(endpoints) != 1 || len(endpoints[0].Addresses) != 1 {
				return false
			}
		}
		api, _ := service(w, "api")
		return !api.Alias.IsZero()
	})
	web, reached := service(w, "web")
	if len(web.Addresses) != 1 || !strings.HasPrefix(web.Addresses[0].String(), "10.0.0.") || reached[0].Instance != "db-0."+namespace ||
		reached[0].Targets[80] != 8080 || reached[0].Addresses[0].String() != "10.1.0.7" || reached[0].Labels["app"] != "db" || reached[0].Proxy == "" {
		t.Errorf("web: %+v, %+v", web, reached)
	}
	if db, reached := service(w, "db"); !db.Headless || reached[0].Hostname != "db-0" {
		t.Errorf("db: %+v, %+v", db, reached)
	}
	if api, reached := service(w, "api"); api.Alias.String() != "api.example.com" || len(reached) != 0 {
		t.Errorf("api: %+v, %+v", api, reached)
	}
	if legacy, reached := service(w, "legacy"); legacy.Headless || reached[0].Instance != "192.0.2.7" || reached[0].Proxy != "" {
		t.Errorf("legacy: %+v, %+v", legacy, reached)
	}
}
