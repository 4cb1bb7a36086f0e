package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/test/guide"
	"sluice.dev/sluice/test/mesh"
)

// notRun is how many fences of all pages may be marked as not run. Each says why.
const notRun = 6

// looks are the commands that may be typed again while nothing has come yet: a rule
// takes a moment to reach the proxy.
var looks = regexp.MustCompile(`^(curl|cat|grep|bin/sluice (get|status|flows|why|version|run .*-- curl))\b`)

// The pages of the guide, and the README, are run as a reader would type them.
func TestEveryCommandOfTheGuidePrintsWhatItsPageShows(t *testing.T) {
	root, err := mesh.Root()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("bash is missing")
	}
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("curl is missing: under CI it must be there")
		}
		t.Skip("curl is missing")
	}
	files, err := filepath.Glob(filepath.Join(root, "docs/guide/*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("docs/guide holds no page: %v", err)
	}
	files = append(files, filepath.Join(root, "README.md"))
	users := mesh.Users(t)
	user := users[len(users)-1] // the ordinary one: no page needs root
	var left []string
	for _, file := range files {
		name, err := filepath.Rel(root, file)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		page, err := guide.Parse(string(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, reason := range page.NotRun {
			left = append(left, name+": "+reason)
		}
		if len(page.Steps) > 0 {
			t.Run(name, func(t *testing.T) { follow(t, name, page, user) })
		}
	}
	if len(left) > notRun {
		t.Errorf("%d fences are not run, at most %d may be:\n%s", len(left), notRun, strings.Join(left, "\n"))
	}
}

// follow runs one page to its first mistake: what comes behind builds on it.
func follow(t *testing.T, name string, page *guide.Page, user mesh.User) {
	r := newReader(t, page.Setup, user)
	for _, step := range page.Steps {
		if step.File != "" {
			path := filepath.Join(r.dir, filepath.Base(step.File))
			if err := os.WriteFile(path, []byte(step.Text), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		for i, c := range step.Commands {
			asked := i+1 < len(step.Commands) && step.Commands[i+1].Text == "echo $?"
			if said := r.try(c, asked); said != "" {
				t.Fatalf("%s:%d: $ %s\n%s", name, c.Line, c.Text, said)
			}
		}
	}
}

// reader is somebody who types the commands of a page.
type reader struct {
	dir   string // in which they are typed
	shell *guide.Shell
	url   string // address of the page, in place of the one that the guide says
}

// newReader makes a folder that looks like the checkout of somebody who built
// Sluice, with what the page needs: the demo, or a small internet to which bin/sluice
// and bin/sluice-proxy go in place of the real one.
func newReader(t *testing.T, setup string, user mesh.User) *reader {
	t.Helper()
	r := &reader{url: freePort(t)}
	var place *mesh.Place
	var sockets, ca string
	switch setup {
	case "demo":
		d := mesh.StartDemo(t, user)
		place, r.url = d.Place, strings.TrimSuffix(strings.TrimPrefix(d.URL, "http://"), "/productpage")
		sockets, ca = filepath.Join(d.Runtime, "demo", "internet.sock"), internetCA(t, d)
	case "internet":
		place = mesh.NewPlace(t, user)
		n := place.StartInternet(t)
		sockets, ca = n.Sockets, n.CA
	default:
		t.Fatalf("unknown setup %q: it is demo or internet", setup)
	}
	r.dir = filepath.Dir(place.Runtime)
	if err := makeBinaries(place.Bin, filepath.Join(r.dir, "bin"), sockets, ca); err != nil {
		t.Fatal(err)
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	cmd := place.Command(context.Background(), bash, "--noprofile", "--norc")
	cmd.Env = append(cmd.Env, "CURL_CA_BUNDLE="+ca, "SSL_CERT_FILE="+ca, "LC_ALL=C.UTF-8")
	if r.shell, err = guide.NewShell(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.shell.Close)
	return r
}

// makeBinaries makes a folder bin of the binaries. Those that go out get the flags
// that lead into the small internet.
func makeBinaries(from, to, sockets, ca string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	out := fmt.Sprintf("--egress-sockets '%s' --upstream-ca '%s' --resolver 8.8.8.8", sockets, ca)
	scripts := map[string]string{
		// A command that joins a mesh goes out through its proxy.
		"sluice": fmt.Sprintf(`#!/bin/bash
if [ "$1" = run ] && [[ " ${*%%%%-- *} " != *" --service "* ]]; then
	shift
	exec '%s/sluice' run %s "$@"
fi
exec '%s/sluice' "$@"
`, from, out, from),
		"sluice-proxy": fmt.Sprintf("#!/bin/bash\nexec '%s/sluice-proxy' %s \"$@\"\n", from, out),
	}
	binaries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, b := range binaries {
		path := filepath.Join(to, b.Name())
		if script, ok := scripts[b.Name()]; ok {
			if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
				return err
			}
			continue
		}
		if err := os.Symlink(filepath.Join(from, b.Name()), path); err != nil {
			return err
		}
	}
	return nil
}

// try types one command and returns what is wrong with what came, or "". The
// status must be 0 unless the page asks for it next.
func (r *reader) try(c guide.Command, statusAsked bool) string {
	text := strings.ReplaceAll(c.Text, "127.0.0.1:8080", r.url)
	deadline := time.Now().Add(mesh.Patience)
	for {
		printed, status, err := r.shell.Run(text)
		said := ""
		switch {
		case err != nil:
			return fmt.Sprintf("%v; it printed:\n%s", err, printed)
		case status != 0 && !statusAsked:
			said = fmt.Sprintf("exit status %d; it printed:\n%s", status, printed)
		case c.Wants != nil && !guide.Matches(c.Wants, printed):
			said = fmt.Sprintf("printed:\n%s\nThe page shows:\n%s", printed, strings.Join(c.Wants, "\n"))
		}
		if said == "" || !looks.MatchString(text) || time.Now().After(deadline) {
			return said
		}
		time.Sleep(20 * time.Millisecond)
	}
}
