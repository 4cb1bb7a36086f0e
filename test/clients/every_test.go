package clients

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sluice.dev/sluice/test/clients/table"
	"sluice.dev/sluice/test/mesh"
)

// every says that all rows run and that each client must be there, as
// `make test-clients` has it; otherwise it is the sample.
func every() bool { return os.Getenv("SLUICE_CLIENTS") == "all" }

// missing ends a test whose client or server is missing.
func missing(t *testing.T, what string) {
	t.Helper()
	if every() || os.Getenv("CI") != "" {
		t.Fatalf("%s is missing: here it must be there", what)
	}
	t.Skipf("%s is missing", what)
}

// Every client reaches by name what its line allows, without a variable or a setting
// for Sluice, and is told of a denial in its own words and in Sluice's.
func TestEveryClientOfTheTableIsAllowedAndDeniedAsItSays(t *testing.T) {
	w := newWorld(t)
	for _, c := range table.All() {
		if !c.Sample && !every() {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			p := w.as(t, c)
			t.Run("allowed", func(t *testing.T) {
				r := w.types(t, p, c, c.Flags)
				for _, text := range differences(r, c.Allowed) {
					t.Error(text)
				}
				for line := range strings.Lines(r.Stderr) {
					if strings.HasPrefix(line, "sluice:") && !slices.ContainsFunc(c.Beside, func(host string) bool { return strings.HasPrefix(line, "sluice: denied "+host+":") }) {
						t.Errorf("Sluice has something to say: %s", line)
					}
				}
				if w.reached(t, c) == 0 {
					t.Errorf("the server of %s saw no connection", c.Reports)
				}
			})
			if c.Unsupervised.Codes == nil {
				t.Run("denied", func(t *testing.T) { w.denied(t, p, c, "", c.Denied) })
				return
			}
			// Where the machine gives no supervisor, the second is right both times.
			t.Run("denied", func(t *testing.T) { w.denied(t, p, c, "", c.Denied, c.Unsupervised) })
			t.Run("denied without a supervisor", func(t *testing.T) { w.denied(t, p, c, "--unsupervised", c.Unsupervised) })
		})
	}
}

// denied runs a line that nothing allows, of which one of several outcomes is right.
func (w *world) denied(t *testing.T, p *mesh.Place, c table.Client, flags string, right ...table.Outcome) {
	t.Helper()
	r := w.types(t, p, c, flags)
	var wrong []string
	for _, o := range right {
		differs := differences(r, o)
		line := "sluice: denied " + c.Reports + " (" + cmp.Or(o.Why, table.NoRule) + ")"
		if told := strings.Contains(r.Stderr, line); told == o.Unspoken {
			differs = append(differs, fmt.Sprintf("the line %q is there: %v", line, told))
		}
		if differs == nil {
			wrong = nil
			break
		}
		wrong = append(wrong, differs...)
	}
	for _, text := range wrong {
		t.Error(text)
	}
	if n := w.reached(t, c); n != 0 {
		t.Errorf("the server of %s saw %d connections", c.Reports, n)
	}
}

// The rows are whole: each has what its page and its test need.
func TestTheTableOfClientsIsWhole(t *testing.T) {
	names, samples := make(map[string]bool), 0
	for _, c := range table.All() {
		if names[c.Name] {
			t.Errorf("%s is there twice", c.Name)
		}
		names[c.Name] = true
		if c.Sample {
			samples++
		}
		if seen, err := regexp.Compile(c.Seen); err != nil || c.Seen == "" || !seen.MatchString(c.Pinned) {
			t.Errorf("%s: Seen %q does not match Pinned %q: %v", c.Name, c.Seen, c.Pinned, err)
		}
		for _, o := range []table.Outcome{c.Allowed, c.Denied} {
			if len(o.Codes) == 0 || len(o.Says) == 0 {
				t.Errorf("%s: an outcome without an exit status, or without words", c.Name)
			}
		}
		if c.Version == "" || c.Flags == "" || c.Line == "" || c.Reports == "" {
			t.Errorf("%s: a field is empty", c.Name)
		}
	}
	if samples != 5 {
		t.Errorf("%d rows are the sample, want 5", samples)
	}
	for name := range setups() {
		if !names[name] {
			t.Errorf("a set-up is for %q, which is no row", name)
		}
	}
}

// as is who runs a row: the ordinary user, unless the row wants root or only root may
// run the program. It checks the version.
func (w *world) as(t *testing.T, c table.Client) *mesh.Place {
	t.Helper()
	p := w.user
	if c.Root {
		p = w.root
	}
	if p == nil {
		t.Skipf("%s runs as root", c.Name)
	}
	said := w.shell(t, p, w.folder(t, p, "version"), c.Version)
	if said.Code != 0 && w.root != nil {
		p = w.root
		said = w.shell(t, p, w.folder(t, p, "version"), c.Version)
	}
	if said.Code != 0 {
		missing(t, fmt.Sprintf("%s (%s: %s)", c.Name, c.Version, said.Stderr))
	}
	text := strings.TrimSpace(strings.TrimPrefix(said.Stdout+said.Stderr, "\x1b[1m"))
	first, _, _ := strings.Cut(text, "\n")
	if !regexp.MustCompile(c.Seen).MatchString(text) {
		if every() {
			t.Errorf("%s is %q, and the row was seen to hold for %s", c.Name, first, c.Seen)
		}
	}
	t.Log(first)
	return p
}

// types runs a row's line behind `sluice run` in a new folder, as it would be typed.
func (w *world) types(t *testing.T, p *mesh.Place, c table.Client, flags string) mesh.Result {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Dir(p.Runtime), "work")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w.own(t, p, dir)
	if setup := setups()[c.Name]; setup != nil {
		setup(t, w, p, dir)
	}
	w.net.Reset(t)
	line := "sluice run " + flags + " -- " + c.Line
	r := w.shell(t, p, dir, line)
	t.Logf("$ %s\n%s%sexit %d after %v", line, r.Stdout, r.Stderr, r.Code, r.Took)
	return r
}

// shell runs a line as a user types it, with nothing in the environment but what the
// small internet needs.
func (w *world) shell(t *testing.T, p *mesh.Place, dir, line string) mesh.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*mesh.Patience)
	defer cancel()
	cmd := p.Command(ctx, "/bin/sh", "-c", line)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + w.path, "HOME=" + dir, "LANG=C.UTF-8", "SLUICE_RUNTIME=" + p.Runtime, "SLUICE_DATA=" + p.Data,
		// The way to the small internet.
		"SLUICE_EGRESS_SOCKETS=" + w.net.Sockets, "SLUICE_UPSTREAM_CA=" + w.ca, "SLUICE_RESOLVER=8.8.8.8",
		// Its CA, for each client by what it reads.
		"SSL_CERT_FILE=" + w.ca, "CURL_CA_BUNDLE=" + w.ca, "GIT_SSL_CAINFO=" + w.ca, "PIP_CERT=" + w.ca, "NODE_EXTRA_CA_CERTS=" + w.ca,
		"CARGO_HTTP_CAINFO=" + w.ca, "WGETRC=" + w.wgetrc, "npm_config_cafile=" + w.ca, "GOTOOLCHAIN=local",
	}, w.env...)
	return mesh.Finish(t, cmd, "")
}

// reached is how many connections the server saw to which a row's line goes.
func (w *world) reached(t *testing.T, c table.Client) int {
	t.Helper()
	host, _, _ := strings.Cut(cmp.Or(c.Serves, c.Reports), ":")
	return len(w.net.Connections(t, host))
}

// differences are what of an outcome does not hold for what a command did.
func differences(r mesh.Result, want table.Outcome) (all []string) {
	if !slices.Contains(want.Codes, r.Code) {
		all = append(all, fmt.Sprintf("exit %d, want %v", r.Code, want.Codes))
	}
	for _, says := range want.Says {
		if !strings.Contains(r.Stdout+r.Stderr, says) {
			all = append(all, fmt.Sprintf("want %q", says))
		}
	}
	return all
}
