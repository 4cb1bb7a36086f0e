package home

import (
	"strings"
	"testing"
)

// conflict is two rules of which the second takes no effect.
const conflict = `
apiVersion: config.istio.io/v1alpha2
kind: EgressRule
metadata: {name: first}
spec: {destination: {service: www.example.org}, ports: [{port: 443, protocol: https}]}
---
apiVersion: config.istio.io/v1alpha2
kind: EgressRule
metadata: {name: second}
spec: {destination: {service: www.example.org}, ports: [{port: 443, protocol: https}]}
`

// hostile are Pods that would get around their sidecar, each refused with a reason.
var hostile = map[string]string{
	"containers that share the processes of the sidecar (shareProcessNamespace) would bypass the sidecar": "shareProcessNamespace: true",
	"containers that run as the proxy's user 1337 would bypass the sidecar":                               "securityContext: {runAsUser: 1337}",
	"containers that are in the proxy's group 34105 would bypass the sidecar":                             "securityContext: {fsGroup: 34105}",
}

// tried is what kubectl shows of rules and Pods.
func (s *stay) tried() {
	s.T.Helper()
	if got := s.Does("kubectl get egresspolicies"); !strings.Contains(got, "ACCEPTED") || !strings.Contains(got, "other") || !strings.Contains(got, "True") {
		s.T.Errorf("kubectl get egresspolicies: %s", got)
	}
	s.apply(conflict)
	s.Wait("an event says that a rule takes no effect", func() bool {
		return strings.Contains(s.Does("kubectl get events --field-selector involvedObject.kind=EgressRule,involvedObject.name=second"), "conflicts with rule")
	})
	if got := s.Does("kubectl describe egressrule second"); !strings.Contains(got, "Rejected") || !strings.Contains(got, "sluice-server") {
		s.T.Errorf("kubectl describe: %s", got)
	}
	for want, field := range hostile {
		r := s.Types("kubectl apply -f - <<'END'\napiVersion: v1\nkind: Pod\nmetadata: {name: hostile}\nspec:\n  " + field + "\n  containers: [{name: c, image: i}]\nEND")
		if r.Code == 0 || !strings.Contains(r.Stderr, want) {
			s.T.Errorf("%s: %+v", field, r)
		}
	}
	if got := s.Does(in("kubectl sluice status")); strings.Count(got, " lowered ") != workloads || !strings.Contains(got, "level lowered: ") {
		s.T.Errorf("the level of Pods whose containers run as anybody: %s", got)
	}
}

func TestMostOfWhatARunningClusterGoesThroughFailsNoRequest(t *testing.T) {
	t.Run("a rule that conflicts and Pods that would get around the sidecar are told", func(t *testing.T) { at(t).tried() })
	t.Run("an application is rolled out anew", func(t *testing.T) {
		s := at(t)
		before := s.failures()
		s.Does("kubectl rollout restart deployment/echo && kubectl rollout status deployment/echo --timeout=4m")
		s.more(50)
		s.unharmed("while the application was rolled out", before)
	})
	t.Run("Sluice is rolled out anew", func(t *testing.T) {
		s := at(t)
		before := s.failures()
		s.Does("kubectl -n sluice-system rollout restart deployment/sluice-server && kubectl -n sluice-system rollout status deployment/sluice-server --timeout=4m")
		s.Wait("every proxy is connected again", func() bool { return s.connected() == workloads })
		s.more(50)
		s.unharmed("while Sluice was rolled out", before)
	})
	t.Run("the authority is made anew", func(t *testing.T) {
		s := at(t)
		before := s.failures()
		const roots = `kubectl get configmap sluice-roots -o jsonpath='{.data.root-cert\.pem}'`
		old := s.Does(roots)
		s.Does("kubectl -n sluice-system delete secret sluice-server-ca && kubectl -n sluice-system rollout restart deployment/sluice-server && kubectl -n sluice-system rollout status deployment/sluice-server --timeout=4m")
		s.Wait("the sidecars are given the new authority", func() bool { now := s.Does(roots); return now != "" && now != old })
		s.Wait("every proxy is connected again", func() bool { return s.connected() == workloads })
		s.more(50)
		s.unharmed("while the authority was made anew", before)
		s.apply(strings.ReplaceAll(echo[strings.LastIndex(echo, "---")+3:], "name: other", "name: anew"))
		s.Does("kubectl wait --for=condition=Programmed egresspolicy/anew --timeout=2m")
		if got := s.Does("kubectl delete pod second --wait && kubectl apply -f - <<'END'\n" + strings.ReplaceAll(loader, "NAME", "second") + "END\nkubectl wait --for=condition=Ready pod/second --timeout=4m"); !strings.Contains(got, "condition met") {
			t.Errorf("a Pod that is made afterwards: %s", got)
		}
	})
}
