// Package newcomer types README and guide in a bare Debian that has Go and what the README
// says it needs, and nothing else. make test-newcomer calls it. It never gives the shell a
// program, a variable or a file that no page told a reader to have.
package newcomer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/test/bare"
	"sluice.dev/sluice/test/guide"
	"sluice.dev/sluice/test/mesh"
)

// variable says how much is tried: "sample" is what CI has time for, "all" the guide and
// some packages of make test too, "cold" all as an ordinary user who has neither the
// modules nor anything compiled.
const variable = "SLUICE_NEWCOMER"

// patience bounds one command that builds; an empty cache takes minutes.
const patience = 40 * time.Minute

// sampledSteps are the fences of the README that "sample" types: the first allowed and
// the first denied request.
const sampledSteps = 1

// packages are what make test is tried with: what tests mostly run other programs, and
// what needs the kernel's help.
const packages = "./test/guide ./internal/cli/... ./internal/rest/... ./internal/run ./internal/sandbox ./internal/policy/..."

func TestMain(m *testing.M) {
	bare.Main()
	os.Exit(m.Run())
}

func TestANewcomerTypesWhatTheReadmePrints(t *testing.T) {
	how := os.Getenv(variable)
	if how == "" {
		t.Skip("it takes minutes: make test-newcomer, or " + variable + "=sample|all|cold")
	}
	if !slices.Contains([]string{"sample", "all", "cold"}, how) {
		t.Fatalf("%s=%s is not a valid extent: sample, all or cold", variable, how)
	}
	source, err := mesh.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(source, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := guide.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	before := commands(page.Before)
	if len(before) != 3 || !strings.HasPrefix(before[0], "apt-get install ") || before[1] != "make demo" || before[2] != "make test" {
		t.Fatalf("the README begins with the commands %q: want apt-get install, make demo and make test", before)
	}
	n := &newcomer{root: bare.New(t), cold: how == "cold"}
	n.unpack(t, source)

	online := n.enter(t, true)
	online.must(t, "apt-get update -qq", patience)
	online.must(t, aptGet(before[0]), patience)
	if n.cold { // from here on an ordinary user
		online.must(t, "chown -R 1000:1000 "+home, patience)
		n.as = []string{"setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--"}
	}
	online.shell.Close()

	online = n.enter(t, true)
	online.must(t, "make build", patience)
	online.shell.Close()

	// Loopback alone: the demo has its ports, and its internet must be enough.
	offline := n.enter(t, false)
	offline.must(t, "("+before[1]+" >demo.log 2>&1 &)", patience)
	offline.until(t, "grep -q 'Ctrl-C ends' demo.log", "cat demo.log")
	for i, step := range page.Steps {
		if how == "sample" && i == sampledSteps {
			break
		}
		for i, c := range step.Commands {
			if said := offline.shell.Try(c, step.StatusAsked(i), mesh.Patience); said != "" {
				t.Fatalf("README.md:%d: $ %s\n%s", c.Line, c.Text, said)
			}
		}
	}
	offline.shell.Close()
	if how == "sample" {
		return
	}
	t.Run("and make test, and the guide", func(t *testing.T) {
		online := n.enter(t, true)
		t.Log(online.must(t, before[2]+" PACKAGES='"+packages+"'", patience))
		if !n.cold { // the guide is typed as both users, by root
			online.must(t, aptGet(guidesPrograms(t, source)), patience)
			printed := online.must(t, "go test -count=1 -v -timeout 30m -run 'TestEveryCommandOfTheGuide' ./test", patience)
			if !strings.Contains(printed, "--- PASS: TestEveryCommandOfTheGuide") {
				t.Errorf("the guide was not typed:\n%s", printed)
			}
		}
		online.shell.Close()
	})
}

// guidesPrograms is the line of the guide's first page that says what its pages use.
func guidesPrograms(t *testing.T, source string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(source, "docs/guide/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^    (apt-get install .+)$`).FindSubmatch(text)
	if found == nil {
		t.Fatal("the guide's first page does not say which programs its pages use")
	}
	return string(found[1])
}

// aptGet answers for the reader, whom apt-get would ask, and takes no package that is
// only recommended: what a page needs it must name.
func aptGet(line string) string {
	return "DEBIAN_FRONTEND=noninteractive " + strings.Replace(line, " install ", " install -y -qq --no-install-recommends ", 1)
}

// commands are lines of a shell without their comments.
func commands(lines []string) []string {
	var all []string
	for _, line := range lines {
		line, _, _ = strings.Cut(line, " #")
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all
}

// newcomer is a bare root with what a newcomer has: Go, and the source.
type newcomer struct {
	root  *bare.Root
	cold  bool
	as    []string // begins each command: another user
	at    string   // the folder of the source
	binds map[string]string
}

const home = "/home/newcomer"

// unpack puts Go where its archive goes, the source into the newcomer's folder, and how
// this machine reaches packages and modules where apt and Go look for it.
func (n *newcomer) unpack(t *testing.T, source string) {
	t.Helper()
	settings := goEnv(t, "GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE")
	// The Go of the machine, not the one that go.mod had it fetch.
	at, err := exec.Command("env", "GOTOOLCHAIN=local", "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	n.binds = map[string]string{"/usr/local/go": strings.TrimSpace(string(at))}
	n.at = home + "/sluice"
	if !n.cold {
		// What is compiled here counts there only where every path is the same.
		n.at = source
		for _, setting := range goEnv(t, "GOMODCACHE", "GOCACHE") {
			_, folder, _ := strings.Cut(setting, "=")
			n.binds[folder] = folder
			settings = append(settings, setting)
		}
	}
	n.root.CopyTree(t, source, n.at, ".git", "bin", ".build")
	n.root.Write(t, home+"/.config/go/env", strings.Join(settings, "\n")+"\n")
	conf, err := bare.AptConf()
	if err != nil {
		t.Fatal(err)
	}
	n.root.Write(t, "/etc/apt/apt.conf.d/90machine", conf)
	// A proxy of this machine's network may show certificates of its own: they are known as
	// a local authority, which the package ca-certificates takes in.
	roots := cmp.Or(os.Getenv("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt")
	if text, err := os.ReadFile(roots); err == nil {
		n.root.Write(t, "/usr/local/share/ca-certificates/machine.crt", string(text))
	}
	for _, file := range []string{"/etc/resolv.conf", "/etc/hosts"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n.root.Write(t, file, string(text))
	}
}

// goEnv returns settings of this machine's go command as NAME=VALUE.
func goEnv(t *testing.T, names ...string) []string {
	t.Helper()
	said, err := exec.Command("go", append([]string{"env", "-json"}, names...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]string
	if err := json.Unmarshal(said, &values); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range names {
		all = append(all, name+"="+values[name])
	}
	return all
}

// terminal is a shell of the newcomer, in the folder of the source.
type terminal struct{ shell *guide.Shell }

func (n *newcomer) enter(t *testing.T, hostNetwork bool) *terminal {
	t.Helper()
	cmd, err := n.root.Command(t.Context(), bare.Entered{
		Binds: n.binds, ReadOnly: []string{"/usr/local/go"}, HostNetwork: hostNetwork,
		Env: []string{"HOME=" + home, "PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=dumb"},
	}, append(slices.Clone(n.as), "/bin/bash", "--noprofile", "--norc")...)
	if err != nil {
		t.Fatal(err)
	}
	shell, err := guide.NewShell(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shell.Close)
	at := &terminal{shell}
	at.must(t, "cd "+n.at, mesh.Patience)
	return at
}

// must types what has to end with 0, and returns what it printed.
func (at *terminal) must(t *testing.T, command string, within time.Duration) string {
	t.Helper()
	began := time.Now()
	printed, status, err := at.shell.RunFor(command, within)
	if err != nil || status != 0 {
		t.Fatalf("$ %s\nexit status %d, %v:\n%s", command, status, err, printed)
	}
	t.Logf("%s took %s", command, time.Since(began).Round(time.Second))
	return printed
}

// until types a command until it ends with 0.
func (at *terminal) until(t *testing.T, command, orElse string) {
	t.Helper()
	mesh.Eventually(t, func() string {
		if _, status, err := at.shell.Run(command); err != nil || status == 0 {
			if err != nil {
				return err.Error()
			}
			return ""
		}
		said, _, _ := at.shell.Run(orElse)
		return fmt.Sprintf("%s fails; %s:\n%s", command, orElse, said)
	})
}
