// Package article plays Istio's article on egress rules (Istio 0.5) word by word on a real
// cluster of one node: from the empty cluster to the deleted rule, with kubectl and sluice,
// the files of the sample as they are.
package article

import (
	"strings"
	"testing"

	"sluice.dev/sluice/test/kube/node"
	"sluice.dev/sluice/test/kube/walk"
)

func TestMain(m *testing.M) { walk.Main(m) }

func TestTheArticleIsReplayedWordByWordOnACluster(t *testing.T) {
	w := walk.New(t)
	inject := func(file string) string {
		return "cd && kubectl apply -f <(./sluice kube-inject --hub " + w.Hub + " --tag " + w.Tag + " -f platform/" + file + ")"
	}

	w.Does("cd && ./sluice install --hub " + w.Hub + " --tag " + w.Tag + " --timeout 4m")
	w.Does(inject("bookinfo.yaml"))
	w.Does("kubectl wait --for=condition=Available deployment --all --timeout=4m")
	w.Wait("the page has its details and its reviews", func() bool {
		page := w.Page()
		return strings.Contains(page, "PublisherA") && strings.Contains(page, "Reviewer1")
	})

	// details v2 asks the internet, and no rule lets it.
	w.Does(inject("bookinfo-details-v2.yaml"))
	w.Does("kubectl wait --for=condition=Available deployment/details-v2 --timeout=4m")
	w.Does("cd && kubectl apply -f samples/route-rule-details-v2.yaml")
	w.Wait("the page has no details", func() bool {
		page := w.Page()
		return strings.Contains(page, "Error fetching product details!") && strings.Contains(page, "Reviewer1")
	})
	if n := w.Internet.Asked(node.BooksHost); n != 0 {
		t.Errorf("before there was a rule %s saw %d requests", node.BooksHost, n)
	}

	w.Does("cd && kubectl apply -f samples/egress-rule-google-apis.yaml")
	w.Does("kubectl wait --for=condition=Programmed egressrules.config.istio.io/googleapis --timeout=1m")
	w.Wait("the details are those of the service outside", func() bool {
		page := w.Page()
		return strings.Contains(page, "0486424618") && !strings.Contains(page, "PublisherA")
	})
	if n := w.Internet.Asked(node.BooksHost); n == 0 {
		t.Errorf("%s was not asked", node.BooksHost)
	}
	if n := w.Internet.Asked(node.OtherHost); n != 0 {
		t.Errorf("%s, which no rule names, saw %d requests", node.OtherHost, n)
	}
	if got := w.Does("kubectl get egressrules"); !strings.Contains(got, "googleapis") {
		t.Errorf("kubectl get egressrules: %s", got)
	}
	w.Does("kubectl delete egressrule googleapis -n default")
	w.Wait("the page has no details again", func() bool { return strings.Contains(w.Page(), "Error fetching product details!") })

	if r := w.Types("cd && ./sluice uninstall"); r.Code != 1 || !strings.Contains(r.Stderr, "Pods still have a sidecar") {
		t.Errorf("%+v", r)
	}
	w.Does("kubectl delete deployments,services,ingresses -l '!component' --cascade=foreground --timeout=2m >/dev/null && kubectl get pods")
	w.Does("cd && ./sluice uninstall --timeout 4m")
	if got := w.Does("kubectl get crd,clusterroles,namespaces,configmaps -A -o name | grep -i sluice || true"); got != "" {
		t.Errorf("left behind: %s", got)
	}
}
