package controlplane

import (
	"encoding/json"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/internal/wire/stream"
)

// condition is what the status of an EgressPolicy says.
func (m *mesh) condition(namespace, name, kind string) string {
	return m.Kubectl(m.t, "", "-n", namespace, "get", "egresspolicy", name, "-o", `jsonpath={.status.conditions[?(@.type=="`+kind+`")].status}`).Stdout
}

// leader is the server that writes statuses.
func (m *mesh) leader() string {
	lease, err := m.client.CoordinationV1().Leases(ours).Get(m.t.Context(), "sluice-server-leader", metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

func TestOneOfSeveralServersWritesStatusesAndOneThatIsGoneLosesNothing(t *testing.T) {
	m := newMesh(t)
	namespace := m.Namespace(t)
	servers := map[string]*control{"first": m.server("first"), "second": m.server("second")}
	eventually(t, "one of them leads", func() bool { return servers[m.leader()] != nil })
	leader := m.leader()
	follower := map[string]string{"first": "second", "second": "first"}[leader]

	// The proxy is connected to the one that writes no status, and is slow to run what is new.
	pod := m.pod(namespace, "web-1", "10.1.0.1", map[string]string{"app": "web"})
	address := servers[follower].PushAddress
	member := m.joinAt(func() string { return address() }, servers[leader].CA(), m.token(pod, stream.TokenAudience))
	until(t, member, "the first snapshot", func(*wire.Snapshot) bool { return true })
	m.apply(policy(namespace, "one", "one.example.com", "web"))
	var slow *wire.Snapshot
	for slow == nil {
		snapshot := <-member.Snapshots()
		if strings.Contains(ruleIDs(snapshot), "/one") {
			slow = snapshot
		} else {
			member.Ack(snapshot.Version)
		}
	}
	eventually(t, "the status says that a proxy of the other server does not run it", func() bool {
		return m.condition(namespace, "one", "Programmed") == "False"
	})
	member.Ack(slow.Version)
	eventually(t, "the status says that it runs", func() bool { return m.condition(namespace, "one", "Programmed") == "True" })

	// The leader ends, and so does the server of the proxy: the one that is left has all.
	servers[leader].stop()
	m.apply(policy(namespace, "two", "two.example.com", "web"))
	until(t, member, "a rule while the leader is gone", func(w *wire.Snapshot) bool { return strings.Contains(ruleIDs(w), "/two") })
	eventually(t, "the other one leads", func() bool { return m.leader() == follower })
	eventually(t, "its statuses are written", func() bool { return m.condition(namespace, "two", "Programmed") == "True" })
	third := m.server("third")
	servers[follower].stop()
	address = third.PushAddress
	m.apply(policy(namespace, "three", "three.example.com", "web"))
	until(t, member, "the rules of another server", func(w *wire.Snapshot) bool {
		return strings.Contains(ruleIDs(w), "/one") && strings.Contains(ruleIDs(w), "/two") && strings.Contains(ruleIDs(w), "/three")
	})
	third.stop()
	leases, err := m.client.CoordinationV1().Leases(ours).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, lease := range leases.Items {
		if strings.HasPrefix(lease.Name, "sluice-server-replica-") {
			t.Errorf("a server that ended left the lease %s", lease.Name)
		}
	}
}

func TestAServerWithoutItsRightsSaysWhichItNeedsAndWithThemItMayDoNoMore(t *testing.T) {
	m := newMesh(t)
	_, err := m.tryServer(t.Context(), "stranger", m.User(t, "stranger"))
	if err == nil || !strings.Contains(err.Error(), "apply deploy/kubernetes/rbac.yaml first") {
		t.Errorf("without rights: %v", err)
	}
	// What the server does is tried by every other test, as its ServiceAccount. Here is what
	// it may do in all, as the API server counts it.
	type rule struct{ Verbs, APIGroups, Resources, ResourceNames []string }
	allowed := func(namespace string) map[string]bool {
		r := m.Kubectl(t, `{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectRulesReview","spec":{"namespace":"`+namespace+`"}}`,
			"create", "--validate=false", "-f", "-", "-o", "json", "--as=system:serviceaccount:"+ours+":"+account, "--as-group=system:authenticated", "--as-group=system:serviceaccounts")
		var said struct {
			Status struct{ ResourceRules []rule }
		}
		if err := json.Unmarshal([]byte(r.Stdout), &said); err != nil {
			t.Fatal(err, r.Stderr)
		}
		all := make(map[string]bool)
		for _, rule := range said.Status.ResourceRules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						all[strings.Join([]string{verb, group, resource, strings.Join(rule.ResourceNames, ",")}, " ")] = true
					}
				}
			}
		}
		return all
	}
	// Everybody has these.
	want := map[string]bool{
		"create authorization.k8s.io selfsubjectaccessreviews ": true, "create authorization.k8s.io selfsubjectrulesreviews ": true,
		"create authentication.k8s.io selfsubjectreviews ": true, "create authentication.k8s.io tokenreviews ": true,
	}
	for _, verb := range []string{"get", "list", "watch"} { // every ServiceAccount, of Kubernetes itself
		want[verb+" certificates.k8s.io clustertrustbundles "] = true
	}
	want["create  events "], want["patch  events "] = true, true
	for _, verb := range []string{"list", "watch", "create", "patch", "delete"} {
		want[verb+"  configmaps sluice-roots"] = true
	}
	for _, verb := range []string{"list", "watch"} {
		for _, resource := range []string{" pods ", " services ", "discovery.k8s.io endpointslices ", "sluice.dev egresspolicies ", "sluice.dev meshservices ", "sluice.dev meshconfigs ", "config.istio.io egressrules ", "config.istio.io routerules ", "config.istio.io destinationpolicies ", "config.istio.io ingressrules "} {
			want[verb+" "+resource] = true
			if group, name, _ := strings.Cut(resource, " "); group != "" && group != "discovery.k8s.io" {
				want["update "+group+" "+strings.TrimSpace(name)+"/status "] = true
			}
		}
	}
	compare := func(where string, got map[string]bool) {
		for one := range got {
			if !want[one] {
				t.Errorf("in %s the server may %s, which it does not need", where, one)
			}
		}
		for one := range want {
			if !got[one] {
				t.Errorf("in %s the server may not %s", where, one)
			}
		}
	}
	compare("the namespace of others", allowed(m.Namespace(t)))
	for _, verb := range []string{"get", "list", "watch", "create", "update", "delete"} {
		want[verb+" coordination.k8s.io leases "] = true
	}
	want["create  secrets "], want["get  secrets sluice-server-ca"] = true, true
	compare("its own namespace", allowed(ours))
}
