// Package walk is somebody who sits at a real cluster of one node and types: the article and the
// other tests that need Pods call it. It must never pass by waiting: it waits for what it is told.
package walk

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"sluice.dev/sluice/test/kube/binaries"
	"sluice.dev/sluice/test/kube/cluster"
	"sluice.dev/sluice/test/kube/node"
)

// Patience bounds every wait; none of the tests passes by waiting.
const Patience = 5 * time.Minute

// reason is why nothing is tried here; nil where all is.
var reason error

// root is the repository, seen from the folder of a package of tests.
const root = "../../.."

// Main runs the tests of a package in the namespaces of a node. Its TestMain calls nothing else.
func Main(m *testing.M) {
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

// Walk is somebody at a cluster.
type Walk struct {
	*node.Node
	T        *testing.T
	Internet *node.Internet
	Hub, Tag string
}

// New starts the cluster, of which there is one in a package of tests: it ends with the namespaces,
// when all tests have. In the home folder are bin,
// the samples of Bookinfo and, in platform, its files for Kubernetes.
func New(t *testing.T) *Walk {
	t.Helper()
	if reason != nil {
		t.Skip(reason)
	}
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	bin, err := binaries.Find("..", binaries.Node...)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	w := &Walk{T: t}
	say := func(format string, arguments ...any) { fmt.Fprintf(os.Stderr, "    "+format+"\n", arguments...) } // after this test too
	w.Node, err = node.Start(ctx, node.Config{CoreDNS: filepath.Join(bin, "coredns"), Hosts: node.Hosts(), Say: func(format string, arguments ...any) {
		say("%6.1f s  %s", time.Since(start).Seconds(), fmt.Sprintf(format, arguments...))
	}})
	if err != nil {
		t.Fatal(err)
	}
	if w.Internet, err = node.StartInternet(); err != nil {
		t.Fatal(err)
	}
	if err := w.ImportPause(ctx, filepath.Join(bin, "pause")); err != nil {
		t.Fatal(err)
	}
	if err := w.ImportBookinfo(ctx, filepath.Join(root, "bin/bookinfo")); err != nil {
		t.Fatal(err)
	}
	if w.Hub, w.Tag, err = w.ImportSluice(ctx, filepath.Join(root, "bin/images"), w.Internet); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		"bin": "bin", "bin/sluice": "sluice", "samples/bookinfo/kube": "samples", "internal/kube/inject/testdata/samples": "platform",
	} {
		from, err := filepath.Abs(filepath.Join(root, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(from, filepath.Join(w.Home(), to)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// Program builds a program of this module, given by its folder, and returns its path.
func (w *Walk) Program(folder string) string {
	w.T.Helper()
	path := filepath.Join(w.Home(), "program-"+filepath.Base(folder))
	cmd := exec.CommandContext(w.T.Context(), "go", "build", "-o", path, "./"+folder)
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.T.Fatalf("build %s: %v\n%s", folder, err, out)
	}
	return path
}

// Types runs a line as the reader types it into bash.
func (w *Walk) Types(line string) cluster.Result {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(w.T.Context(), Patience)
	defer cancel()
	r, err := w.Command(ctx, "", "bash", "-c", line)
	if err != nil {
		w.T.Fatal(err)
	}
	w.T.Logf("$ %s\n%s%s", line, r.Stdout, r.Stderr)
	return r
}

// Does is Types for a line that must succeed.
func (w *Walk) Does(line string) string {
	w.T.Helper()
	r := w.Types(line)
	if r.Code != 0 {
		w.Why()
		w.T.Fatalf("%s: exit status %d", line, r.Code)
	}
	return r.Stdout
}

// Why shows what may explain a failure.
func (w *Walk) Why() {
	for _, line := range []string{
		"kubectl get pods -A -o wide", "kubectl -n sluice-system logs deployment/sluice-server --tail=30",
		"kubectl get events -A --sort-by=.lastTimestamp | tail -30",
	} {
		w.Types(line)
	}
	w.T.Logf("the kubelet said:\n%s", w.Tail("kubelet"))
}

// Wait waits until something holds.
func (w *Walk) Wait(what string, holds func() bool) {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(w.T.Context(), Patience)
	defer cancel()
	if err := w.Until(ctx, what, func() (bool, error) { return holds(), nil }); err != nil {
		w.Why()
		w.T.Fatal(err)
	}
}

// Page is the product page, as a browser outside of the cluster sees it.
func (w *Walk) Page() string {
	at, err := w.RunKubectl("", "get", "service", "productpage", "-o", "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}")
	if err != nil {
		w.T.Fatal(err)
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
