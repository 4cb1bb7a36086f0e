package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

// real is a machine whose internet is real to it: the processes that run in the
// network namespace of the small internet dial public addresses by themselves.
type real struct {
	*alone
	enter []string // the command that goes there
}

func eachReal(t *testing.T, f func(t *testing.T, r *real)) {
	nsenter := program(t, "nsenter")
	eachUser(t, func(t *testing.T, a *alone) {
		inside := 0
		for _, p := range a.Processes(t) {
			if p.Name == "sluice-simnet" {
				inside = p.PID
			}
		}
		if inside == 0 {
			t.Fatalf("the small internet is not among %v", a.Processes(t))
		}
		enter := []string{nsenter, "--target", strconv.Itoa(inside), "--net"}
		if a.User.UID >= 0 || os.Geteuid() != 0 {
			enter = append(enter, "--user", "--preserve-credentials")
		}
		f(t, &real{alone: a, enter: append(enter, "--")})
	})
}

// program is the path of a program that under CI must be there.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing: under CI it must be there", name)
	}
	t.Skipf("%s is missing", name)
	return ""
}

// in is a command in that namespace.
func (r *real) in(program string, args ...string) *exec.Cmd {
	if !filepath.IsAbs(program) {
		program = filepath.Join(r.Bin, program)
	}
	all := append(append(r.enter[1:len(r.enter):len(r.enter)], program), args...)
	return r.Command(context.Background(), r.enter[0], all...)
}

// Without --egress-sockets the proxy dials by itself, through the resolver that it
// is given.
func TestACommandReachesTheRealInternet(t *testing.T) {
	eachReal(t, func(t *testing.T, r *real) {
		get := func(url string, flags ...string) mesh.Result {
			args := append([]string{"run", "--allow", "*.googleapis.com", "--allow", "rebind.example.com:80", "--upstream-ca", r.net.CA}, flags...)
			return mesh.Finish(t, r.in("sluice", append(args, "--", r.curl, "-sS", "--max-time", "60", "--cacert", r.net.CA, url)...), "")
		}
		for _, resolver := range []string{"8.8.8.8", "8.8.8.8:53", "[2001:4860:4860::8888]:53"} {
			for _, url := range []string{"https://www.googleapis.com" + books, "http://www.googleapis.com:443" + books} {
				if got := get(url, "--resolver", resolver); got.Code != 0 || !strings.Contains(got.Stdout, "volumeInfo") {
					t.Errorf("%s by %s: exit %d, %q, %q", url, resolver, got.Code, got.Stdout, got.Stderr)
				}
			}
		}
		if got := get("https://www.google.com/", "--resolver", "8.8.8.8"); got.Code != 35 {
			t.Errorf("what no rule allows: exit %d, %q, %q", got.Code, got.Stdout, got.Stderr)
		}
		if got := get("http://rebind.example.com/", "--resolver", "8.8.8.8"); !strings.Contains(got.Stdout, "private-address") {
			t.Errorf("a name that leads to ourselves: exit %d, %q, %q", got.Code, got.Stdout, got.Stderr)
		}
		for _, private := range []string{"169.254.169.254", "127.0.0.1"} {
			if seen := r.net.Connections(t, private); len(seen) != 0 {
				t.Errorf("%s was dialled: %+v", private, seen)
			}
		}
	})
}

// `sluice demo --internet real`: the machine's resolver, the system's roots, and
// the internet by itself. It requires root to give a machine another resolv.conf.
func TestTheDemoUsesTheRealInternet(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it requires root to mount another /etc/resolv.conf")
	}
	nsenter, unshare, curl := program(t, "nsenter"), program(t, "unshare"), program(t, "curl")
	place := mesh.NewPlace(t, mesh.User{Name: "root", UID: -1})
	internet := mesh.NewPlace(t, mesh.User{Name: "root", UID: -1})
	net := internet.StartInternet(t)
	r := &real{alone: &alone{Place: place, net: net}}
	for _, p := range internet.Processes(t) {
		if p.Name == "sluice-simnet" {
			r.enter = []string{nsenter, "--target", strconv.Itoa(p.PID), "--net", "--"}
		}
	}
	resolvConf := filepath.Join(filepath.Dir(place.Runtime), "resolv.conf")
	if err := os.WriteFile(resolvConf, []byte("nameserver 8.8.8.8\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := `mount --bind "$1" /etc/resolv.conf && shift && exec "$@"`
	demo := r.in("/usr/bin/env", "SSL_CERT_FILE="+net.CA, unshare, "--mount", "/bin/sh", "-c", script, "sh", resolvConf,
		filepath.Join(place.Bin, "sluice"), "demo", "--internet", "real", "--samples", place.Samples)
	d := mesh.StartDemoAs(t, place, demo)
	if !strings.Contains(d.Said(), "internet    this machine's") {
		t.Errorf("the demo says\n%s", d.Said())
	}
	mesh.StartInBackground(t, r.in("/usr/bin/env", "ENABLE_EXTERNAL_BOOK_SERVICE=true", "WITH_ISTIO=true",
		filepath.Join(place.Bin, "sluice"), "run", "--service", "details", "--version", "v2", "--listen", "9080", "--", filepath.Join(place.Bin, "bookinfo"), "details", "9080"))
	waitForWorkload(t, d, "details-v2/1")
	page := func() string {
		return mesh.Finish(t, r.in(curl, "-sS", "--max-time", "60", d.URL), "").Stdout
	}
	for _, step := range []struct{ rule, page string }{
		{"route-rule-details-v2.yaml", detailsFailed},
		{"egress-rule-google-apis.yaml", "0486424618"},
	} {
		if got := place.Sluice(t, "create", "-f", filepath.Join(place.Samples, "bookinfo", "kube", step.rule)); got.Code != 0 {
			t.Fatalf("create: %s%s", got.Stdout, got.Stderr)
		}
		mesh.Eventually(t, func() string {
			if said := page(); !strings.Contains(said, step.page) {
				return fmt.Sprintf("with %s the page is\n%s", step.rule, said)
			}
			return ""
		})
	}
	if seen := net.Handshakes(t, "www.googleapis.com"); len(seen) == 0 {
		t.Error("the books service saw no TLS handshake")
	}
}
