// Package test holds the end-to-end runs: real processes, real sockets, real TLS.
package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/signaltest"
	"sluice.dev/sluice/test/mesh"
)

func TestMain(m *testing.M) {
	signaltest.Default()
	code := m.Run()
	mesh.Clean()
	os.Exit(code)
}

const detailsFailed = "Error fetching product details!"

// The walk of Istio's article on egress rules (Istio 0.5), word by word: as we are,
// and where we are root again as an ordinary user.
func TestTheArticleIsReplayedWordByWord(t *testing.T) {
	for _, user := range mesh.Users(t) {
		t.Run(user.Name, func(t *testing.T) { replay(t, mesh.StartDemo(t, user)) })
	}
}

func replay(t *testing.T, d *mesh.Demo) {
	kube := func(name string) string { return filepath.Join(d.Samples, "bookinfo", "kube", name) }
	eventually(t, d, "with no rule", func(page string) bool {
		return strings.Contains(page, "Book Details") && strings.Contains(page, "PublisherA") && strings.Contains(page, "<dd>200</dd>") &&
			strings.Contains(page, "Book Reviews") && strings.Contains(page, "Reviewer1")
	})

	// details v2, in the manner of the article: plain HTTP to port 443.
	v2 := d.Background(t, []string{"ENABLE_EXTERNAL_BOOK_SERVICE=true", "WITH_ISTIO=true"}, "sluice", "run",
		"--service", "details", "--version", "v2", "--listen", "9080", "--", filepath.Join(d.Bin, "bookinfo"), "details", "9080")
	waitForWorkload(t, d, "details-v2/1")
	takesTurns(t, d)
	says(t, d.Sluice(t, "create", "-f", kube("route-rule-details-v2.yaml")), `^Created config route-rule/default/details-v2 at revision \d+\n$`)
	eventually(t, d, "with only the route rule", func(page string) bool {
		return strings.Contains(page, detailsFailed) && strings.Contains(page, "Sorry, product details are currently unavailable for this book.") &&
			strings.Contains(page, "Book Reviews") && strings.Contains(page, "Reviewer2")
	})

	internet := d.Internet()
	says(t, d.Sluice(t, "create", "-f", kube("egress-rule-google-apis.yaml")), `^Created config egress-rule/default/googleapis at revision \d+\n$`)
	fromTheService := func(page string) bool {
		return strings.Contains(page, "Book Details") && strings.Contains(page, "0486424618") && !strings.Contains(page, "PublisherA")
	}
	takesOneVerifiedConnection(t, d, fromTheService)
	if seen := internet.Connections(t, hostile); len(seen) != 0 {
		t.Errorf("the hostile server saw %+v", seen)
	}

	if r := d.Sluice(t, "create", "-f", kube("egress-rule-google-apis.yaml")); r.Code != 1 || !strings.Contains(r.Stderr, `egressrules.config.istio.io "googleapis" already exists`) {
		t.Errorf("a second create: exit %d, %q", r.Code, r.Stderr)
	}
	says(t, d.Sluice(t, "get", "egressrules"), `^NAME\s+KIND\s+NAMESPACE\ngoogleapis\s+EgressRule\.v1alpha2\.config\.istio\.io\s+default\n$`)
	says(t, d.Sluice(t, "delete", "egressrule", "googleapis", "-n", "default"), `^Deleted config: egressrule googleapis\n$`)
	eventually(t, d, "after the rule was deleted", func(page string) bool { return strings.Contains(page, detailsFailed) })
	if r := d.Sluice(t, "get", "egressrules"); r.Code != 0 || r.Stdout != "No resources found.\n" {
		t.Errorf("get of nothing: exit %d, %q", r.Code, r.Stdout)
	}

	// By standard input; and our own kind, from labels.
	rule, err := os.ReadFile(kube("egress-policy-google-books.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	says(t, d.Run(t, string(rule), "sluice", "create", "-f", "-"), `^Created config egress-policy/default/google-books at revision \d+\n$`)
	eventually(t, d, "with a rule of our own kind", fromTheService)

	// The same rule without WITH_ISTIO: TLS by the application, nothing else restarted.
	v2.Process.Signal(os.Interrupt)
	v2.Wait()
	// Its trust of the small internet's CA comes from the shell.
	d.Background(t, []string{"ENABLE_EXTERNAL_BOOK_SERVICE=true"}, "/bin/sh", "-c", `eval "$("$0" demo --env)" && exec "$@"`,
		filepath.Join(d.Bin, "sluice"), filepath.Join(d.Bin, "sluice"), "run",
		"--service", "details", "--version", "v2", "--listen", "9080", "--", filepath.Join(d.Bin, "bookinfo"), "details", "9080")
	eventually(t, d, "with TLS by the application", fromTheService)

	why(t, d)
	// 3 s on a machine that has time; internal/demo bounds it.
	if took := d.Stop(t); took > 20*time.Second {
		t.Errorf("the demo took %v to end", took)
	}
	nothingLeft(t, d)
	noEnvironment(t, d, "no demo is ready")
}

// takesTurns checks that without a route rule every other page has its details from
// v2, which no rule lets out yet, although each page calls another service too.
func takesTurns(t *testing.T, d *mesh.Demo) {
	t.Helper()
	mesh.Eventually(t, func() string {
		var failed [6]bool
		for i := range failed {
			failed[i] = strings.Contains(d.Page(t), detailsFailed)
		}
		for i := range failed[1:] {
			if failed[i] == failed[i+1] {
				return fmt.Sprintf("of six pages these lack their details: %v", failed)
			}
		}
		return ""
	})
}

// noEnvironment checks that a shell gets nothing to eval where no demo runs, and its
// user the reason.
func noEnvironment(t *testing.T, d *mesh.Demo, reason string) {
	t.Helper()
	r := d.Sluice(t, "demo", "--env")
	if r.Code != 1 || r.Stdout != "" || !strings.Contains(r.Stderr, reason) || !strings.Contains(r.Stderr, "make demo") {
		t.Errorf("demo --env without a demo: exit %d, printed %q and %q, want %q", r.Code, r.Stdout, r.Stderr, reason)
	}
}

// takesOneVerifiedConnection gets the page once the proxy runs the rule, and looks
// at what came to the books service of it.
func takesOneVerifiedConnection(t *testing.T, d *mesh.Demo, fromTheService func(page string) bool) {
	t.Helper()
	mesh.Eventually(t, func() string {
		r := d.Sluice(t, "why", "--from", "details-v2", "https://www.googleapis.com/")
		if !strings.Contains(r.Stdout, ": ALLOW") {
			return "why says\n" + r.Stdout + r.Stderr
		}
		return ""
	})
	internet, tries := d.Internet(), 0
	internet.Reset(t)
	eventually(t, d, "with the egress rule", func(page string) bool { tries++; return fromTheService(page) })
	handshakes := internet.Handshakes(t, "www.googleapis.com")
	// A page that took longer than the application waits is asked for again.
	if len(handshakes) == 0 || len(handshakes) > tries {
		t.Errorf("%d pages took %+v, want one TLS connection", tries, handshakes)
	}
	for _, h := range handshakes {
		if h.Error != "" || h.SNI != "www.googleapis.com" || h.TLSVersion != "TLS 1.3" {
			t.Errorf("the page took %+v, want a verified TLS connection with the name", h)
		}
	}
}

func why(t *testing.T, d *mesh.Demo) {
	t.Helper()
	if r := d.Sluice(t, "why", "--from", "details-v2", "https://www.googleapis.com/"); r.Code != 0 || !strings.Contains(r.Stdout, "egress-policy/default/google-books") {
		t.Errorf("why of what is allowed: exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	r := d.Sluice(t, "why", "--from", "details-v2", "https://www.google.com/")
	for _, want := range []string{"no-rule", "kind: EgressPolicy", "www.google.com"} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("why of what is denied lacks %q:\n%s%s", want, r.Stdout, r.Stderr)
		}
	}
	// What was denied has an id; the id opens.
	flows := d.Sluice(t, "flows", "-o", "json")
	id := ""
	for _, line := range strings.Split(flows.Stdout, "\n") {
		var f struct{ ID, Verdict string }
		if json.Unmarshal([]byte(line), &f) == nil && f.Verdict == "deny" {
			id = f.ID
		}
	}
	if id == "" {
		t.Fatalf("no denied flow is listed:\n%s%s", flows.Stdout, flows.Stderr)
	}
	if r := d.Sluice(t, "why", id); r.Code != 3 || !strings.Contains(r.Stdout, id) || !strings.Contains(r.Stdout, "www.googleapis.com") {
		t.Errorf("why %s: exit %d\n%s%s", id, r.Code, r.Stdout, r.Stderr)
	}
	status := d.Sluice(t, "status")
	for _, want := range []string{"details-v2/", "productpage-v1/1", "sandbox"} {
		if !strings.Contains(status.Stdout, want) {
			t.Errorf("status lacks %q:\n%s%s", want, status.Stdout, status.Stderr)
		}
	}
}

func says(t *testing.T, r mesh.Result, pattern string) {
	t.Helper()
	if r.Code != 0 || !regexp.MustCompile(pattern).MatchString(r.Stdout) {
		t.Errorf("exit %d, said %q and %q; want %s", r.Code, r.Stdout, r.Stderr, pattern)
	}
}

func eventually(t *testing.T, d *mesh.Demo, when string, ok func(page string) bool) {
	t.Helper()
	mesh.Eventually(t, func() string {
		if page := d.Page(t); !ok(page) {
			return when + " the page is:\n" + page + "\n" + d.Sluice(t, "flows").Stdout
		}
		return ""
	})
}

func waitForWorkload(t *testing.T, d *mesh.Demo, instance string) {
	t.Helper()
	mesh.Eventually(t, func() string {
		if r := d.Sluice(t, "status"); !strings.Contains(r.Stdout, instance) {
			return "status is:\n" + r.Stdout + r.Stderr
		}
		return ""
	})
}

// internetCA is the file that the demo told of.
func internetCA(t *testing.T, d *mesh.Demo) string {
	t.Helper()
	r := d.Sluice(t, "demo", "--print")
	found := regexp.MustCompile(`--ca (\S+)`).FindStringSubmatch(r.Stdout)
	if found == nil {
		t.Fatalf("demo --print names no --ca:\n%s%s", r.Stdout, r.Stderr)
	}
	return found[1]
}
