package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sluice.dev/sluice/test/guide"
	"sluice.dev/sluice/test/mesh"
)

// notRun is how many fences of all pages may be marked as not run. Each says why.
const notRun = 6

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
		if len(page.Steps) == 0 {
			continue
		}
		// No page needs root; the README says that it works as root too.
		as := users[len(users)-1:]
		if name == "README.md" {
			as = users
		}
		for _, user := range as {
			t.Run(name+" as "+user.Name, func(t *testing.T) { follow(t, name, page, user) })
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
			c.Text = r.addresses.Replace(c.Text)
			if said := r.shell.Try(c, step.StatusAsked(i), mesh.Patience); said != "" {
				t.Fatalf("%s:%d: $ %s\n%s", name, c.Line, c.Text, said)
			}
		}
	}
}

// reader is somebody who types the commands of a page.
type reader struct {
	dir       string // in which they are typed
	shell     *guide.Shell
	addresses *strings.Replacer // of those that the pages show
}

// newReader makes the folder of somebody who built Sluice, with make demo in another
// terminal where the page wants it.
//
// Its shell has HOME, PATH and TERM, and no other variable: what a page needs, the
// page must say. So Sluice uses its default folders, which follow from the user's
// number and not from HOME: /run/sluice of root, /tmp/sluice-UID of anybody else.
// Where the test runs as root, its reader has a /tmp and a /run of its own (a mount
// namespace), and meets neither another test nor what the machine really runs. Where
// it does not, the reader has XDG_RUNTIME_DIR in their place, which a login sets.
//
// Three addresses differ from those that the pages show: the demo takes a free port in
// place of 8080, as it says it would, and so does the ingress in place of 8081 and 8443.
func newReader(t *testing.T, setup string, user mesh.User) *reader {
	t.Helper()
	r := &reader{dir: newCheckout(t, user)}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	argv := []string{"env", "-i", "HOME=" + r.dir, "PATH=" + os.Getenv("PATH"), "TERM=dumb"}
	known := "HOME PATH PWD SHLVL TERM _"
	if os.Geteuid() != 0 {
		runtime := filepath.Join(r.dir, "xdg")
		if err := os.Mkdir(runtime, 0o700); err != nil {
			t.Fatal(err)
		}
		argv, known = append(argv, "XDG_RUNTIME_DIR="+runtime), known+" XDG_RUNTIME_DIR"
	}
	argv = append(argv, bash, "--noprofile", "--norc")
	if user.UID >= 0 {
		argv = append(mesh.AsUser(user.UID), argv...)
	}
	if os.Geteuid() == 0 {
		argv = append([]string{"unshare", "--mount", "--propagation", "private", "--", "sh", "-c",
			`mount -t tmpfs -o mode=1777 tmpfs /tmp && mount -t tmpfs -o mode=0755 tmpfs /run && exec "$@"`, "sh"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = r.dir
	if r.shell, err = guide.NewShell(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.shell.Close)
	r.run(t, "cd "+r.dir) // the shell's own name of the folder
	if set := strings.Join(strings.Fields(r.run(t, "env | cut -d= -f1 | grep -v OLDPWD | LC_ALL=C sort")), " "); set != known {
		t.Fatalf("the reader's shell has the variables %s, want %s", set, known)
	}
	own, secure := freePort(t), freePort(t)
	switch setup {
	case "demo":
		demo := r.startDemo(t)
		r.addresses = strings.NewReplacer("127.0.0.1:8080", demo, "127.0.0.1/8080", strings.Replace(demo, ":", "/", 1), "127.0.0.1:8081", own, "127.0.0.1:8443", secure)
	case "":
		r.addresses = strings.NewReplacer("127.0.0.1:8081", own, "127.0.0.1:8443", secure)
	default:
		t.Fatalf("unknown setup %q: it is demo", setup)
	}
	return r
}

// newCheckout makes a folder with what make build makes and the samples, for a user.
// It is not below /tmp, which the reader has for himself.
func newCheckout(t *testing.T, user mesh.User) string {
	t.Helper()
	root, err := mesh.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "slg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for from, to := range map[string]string{mesh.Binaries(t): "bin", filepath.Join(root, "samples"): "samples"} {
		if err := os.CopyFS(filepath.Join(dir, to), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if user.UID >= 0 {
		if err := os.Chown(dir, user.UID, user.UID); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// startDemo does what make demo does in another terminal, and returns the address of
// its page.
func (r *reader) startDemo(t *testing.T) string {
	t.Helper()
	// In a subshell: it is not a job of the reader's own shell.
	r.run(t, "(bin/sluice demo --ingress 127.0.0.1:0 >demo.log 2>&1 &)")
	address := ""
	mesh.Eventually(t, func() string {
		said, err := os.ReadFile(filepath.Join(r.dir, "demo.log"))
		if err != nil {
			return err.Error()
		}
		found := pageAddress.FindSubmatch(said)
		if found == nil || !bytes.Contains(said, []byte("Ctrl-C ends")) {
			return "the demo says:\n" + string(said)
		}
		address = string(found[1])
		return ""
	})
	return address
}

var pageAddress = regexp.MustCompile(`(?m)^  page +http://(\S+)/productpage$`)

// run types what no page shows.
func (r *reader) run(t *testing.T, command string) string {
	t.Helper()
	printed, status, err := r.shell.Run(command)
	if err != nil || status != 0 {
		t.Fatalf("%s: exit status %d, %v:\n%s", command, status, err, printed)
	}
	return printed
}
