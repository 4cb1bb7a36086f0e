// Package article plays Istio's article on egress rules (Istio 0.5) word by word on a real
// cluster of one node: from the empty cluster to the deleted rule, with kubectl and sluice,
// the files of the sample as they are.
package article

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/test/kube/binaries"
	"sluice.dev/sluice/test/kube/cluster"
	"sluice.dev/sluice/test/kube/node"
)

// patience bounds every wait of these tests; none of them passes by waiting.
const patience = 5 * time.Minute

// reason is why nothing is tried here; nil where all is.
var reason error

const root = "../../.."

func TestMain(m *testing.M) {
	_, err := binaries.Find("..", binaries.Node...)
	if err == nil {
		err = node.Missing()
	}
	if err == nil {
		if _, err = os.Stat(filepath.Join(root, "bin/images/sluice-server-"+runtime.GOARCH+".tar")); err != nil {
			err = fmt.Errorf("%w: make demo-kube makes the images first", err)
		}
	}
	if reason = err; reason != nil {
		os.Exit(m.Run()) // which skips, and says why
	}
	code, err := node.Main(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// walk is somebody who reads the article, at a cluster.
type walk struct {
	*node.Node
	t        *testing.T
	internet *node.Internet
	hub, tag string
}

func newWalk(t *testing.T) *walk {
	if reason != nil {
		t.Skip(reason)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	bin, err := binaries.Find("..", binaries.Node...)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	w := &walk{t: t}
	w.Node, err = node.Start(ctx, node.Config{CoreDNS: filepath.Join(bin, "coredns"), Hosts: node.Hosts(), Say: func(format string, arguments ...any) {
		t.Logf("%6.1f s  %s", time.Since(start).Seconds(), fmt.Sprintf(format, arguments...))
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	if w.internet, err = node.StartInternet(); err != nil {
		t.Fatal(err)
	}
	if err := w.ImportPause(ctx, filepath.Join(bin, "pause")); err != nil {
		t.Fatal(err)
	}
	if err := w.ImportBookinfo(ctx, filepath.Join(root, "bin/bookinfo")); err != nil {
		t.Fatal(err)
	}
	if w.hub, w.tag, err = w.ImportSluice(ctx, filepath.Join(root, "bin/images"), w.internet); err != nil {
		t.Fatal(err)
	}
	return w
}

// types runs a line as the reader types it into bash.
func (w *walk) types(line string) cluster.Result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	r, err := w.Command(ctx, "", "bash", "-c", line)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Logf("$ %s\n%s%s", line, r.Stdout, r.Stderr)
	return r
}

// does is types for a line that must succeed.
func (w *walk) does(line string) string {
	w.t.Helper()
	r := w.types(line)
	if r.Code != 0 {
		w.why()
		w.t.Fatalf("%s: exit status %d", line, r.Code)
	}
	return r.Stdout
}

// why shows what may explain a failure.
func (w *walk) why() {
	for _, line := range []string{
		"kubectl get pods -A -o wide", "kubectl -n sluice-system logs deployment/sluice-server --tail=30",
		"kubectl get events -A --sort-by=.lastTimestamp | tail -30",
	} {
		w.types(line)
	}
	w.t.Logf("the kubelet said:\n%s", w.Tail("kubelet"))
}

// until waits until something holds.
func (w *walk) until(what string, holds func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := w.Until(ctx, what, func() (bool, error) { return holds(), nil }); err != nil {
		w.why()
		w.t.Fatal(err)
	}
}

// page is the product page, as a browser outside of the cluster sees it.
func (w *walk) page() string {
	at, err := w.RunKubectl("", "get", "service", "productpage", "-o", "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}")
	if err != nil {
		w.t.Fatal(err)
	}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + at.Stdout + "/productpage")
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func TestTheArticleIsReplayedWordByWordOnACluster(t *testing.T) {
	w := newWalk(t)
	for from, to := range map[string]string{
		"bin/sluice": "sluice", "samples/bookinfo/kube": "samples", "internal/kube/inject/testdata/samples": "platform",
	} {
		from, err := filepath.Abs(filepath.Join(root, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(from, filepath.Join(w.Home(), to)); err != nil {
			t.Fatal(err)
		}
	}
	inject := func(file string) string {
		return "cd && kubectl apply -f <(./sluice kube-inject --hub " + w.hub + " --tag " + w.tag + " -f platform/" + file + ")"
	}

	w.does("cd && ./sluice install --hub " + w.hub + " --tag " + w.tag + " --timeout 4m")
	w.does(inject("bookinfo.yaml"))
	w.does("kubectl wait --for=condition=Available deployment --all --timeout=4m")
	w.until("the page has its details and its reviews", func() bool {
		page := w.page()
		return strings.Contains(page, "PublisherA") && strings.Contains(page, "Reviewer1")
	})

	// details v2 asks the internet, and no rule lets it.
	w.does(inject("bookinfo-details-v2.yaml"))
	w.does("kubectl wait --for=condition=Available deployment/details-v2 --timeout=4m")
	w.does("cd && kubectl apply -f samples/route-rule-details-v2.yaml")
	w.until("the page has no details", func() bool {
		page := w.page()
		return strings.Contains(page, "Error fetching product details!") && strings.Contains(page, "Reviewer1")
	})
	if n := w.internet.Asked(node.BooksHost); n != 0 {
		t.Errorf("before there was a rule %s saw %d requests", node.BooksHost, n)
	}

	w.does("cd && kubectl apply -f samples/egress-rule-google-apis.yaml")
	w.does("kubectl wait --for=condition=Programmed egressrules.config.istio.io/googleapis --timeout=1m")
	w.until("the details are those of the service outside", func() bool {
		page := w.page()
		return strings.Contains(page, "0486424618") && !strings.Contains(page, "PublisherA")
	})
	if n := w.internet.Asked(node.BooksHost); n == 0 {
		t.Errorf("%s was not asked", node.BooksHost)
	}
	if n := w.internet.Asked(node.OtherHost); n != 0 {
		t.Errorf("%s, which no rule names, saw %d requests", node.OtherHost, n)
	}
	if got := w.does("kubectl get egressrules"); !strings.Contains(got, "googleapis") {
		t.Errorf("kubectl get egressrules: %s", got)
	}
	w.does("kubectl delete egressrule googleapis -n default")
	w.until("the page has no details again", func() bool { return strings.Contains(w.page(), "Error fetching product details!") })

	if r := w.types("cd && ./sluice uninstall"); r.Code != 1 || !strings.Contains(r.Stderr, "Pods still have a sidecar") {
		t.Errorf("%+v", r)
	}
	w.does("kubectl delete deployments,services,ingresses -l '!component' --cascade=foreground --timeout=2m >/dev/null && kubectl get pods")
	w.does("cd && ./sluice uninstall --timeout 4m")
	if got := w.does("kubectl get crd,clusterroles,namespaces,configmaps -A -o name | grep -i sluice || true"); got != "" {
		t.Errorf("left behind: %s", got)
	}
}
