package run

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/asking/askingtest"
	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/rulefile"
	"sluice.dev/sluice/internal/wire"
)

// asked starts `sluice run --ask` at a terminal.
func asked(t *testing.T, role string, command ...string) (*askingtest.Screen, *exec.Cmd) {
	t.Helper()
	screen := askingtest.New(t)
	c := ours(t, role, command...)
	c.Env = append(c.Env, "ASK=1", "INNER=dial")
	c.Stdin, c.Stdout, c.Stderr = screen.Device, screen.Device, screen.Device
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return screen, c
}

func start(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
}

const invitation = "type once, always or no, and Enter: "

// beside is a script that waits for signals.
const beside = `echo ready; sleep 1000 & while kill -0 $!; do wait; done`

func TestACommandThatAsksHasATerminalOfItsOwn(t *testing.T) {
	screen, c := asked(t, "run", "sh", "-c", `trap "stty size </dev/tty" WINCH; trap "echo got INT; exit 4" INT; stty -echo; read line; echo "read $line"; stty echo; `+beside)
	before := screen.Settings()
	start(t, c)
	screen.Await("questions begin like this line")
	screen.Type("what was typed\r")
	screen.Await("read what was typed")
	screen.Await("ready")
	screen.Size(40, 120)
	screen.Await("40 120")
	screen.Type("\x03")
	screen.Await("got INT")
	if err := c.Wait(); c.ProcessState.ExitCode() != 4 {
		t.Errorf("%v, want the command's own 4; shown is %q", err, screen.Shown())
	}
	if now := screen.Settings(); now != before {
		t.Errorf("the settings are %+v, want %+v", now, before)
	}
}

func TestACommandThatAsksStopsAndGoesOnWithItsShell(t *testing.T) {
	screen, c := asked(t, "shell", "sh", "-c", `echo ready; read a; echo "read $a"; exit 3`)
	before := screen.Settings()
	c.Stdout = nil
	output, err := c.StdoutPipe() // of the shell; the command's is a pipe then
	if err != nil {
		t.Fatal(err)
	}
	start(t, c)
	lines := bufio.NewScanner(output)
	next := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("%q comes, want %q; the terminal shows %q", lines.Text(), want, screen.Shown())
		}
	}
	next("ready")
	screen.Type("\x1a")
	next("job stopped")
	next("as a shell has it: true")
	screen.Type("hi\r")
	next("read hi")
	next("job ended 3 true")
	c.Wait()
	if now := screen.Settings(); now != before {
		t.Errorf("the settings are %+v, want %+v", now, before)
	}
}

func TestTheTerminalComesBackHoweverTheRunEnds(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, one := range map[string]struct {
		command []string
		shows   string
		signal  os.Signal
		want    int
	}{
		"the command is killed":            {command: []string{"sh", "-c", "kill -KILL $$"}, want: 137},
		"the command is not there":         {command: []string{"/no/such/program"}, want: 127},
		"we are ended":                     {command: []string{"sh", "-c", beside}, shows: "ready", signal: syscall.SIGTERM, want: 143},
		"we are ended amid a question":     {command: []string{self, "192.0.2.1:80"}, shows: invitation, signal: syscall.SIGTERM, want: 143},
		"the terminal's user has gone off": {command: []string{"sh", "-c", beside}, shows: "ready", signal: syscall.SIGHUP, want: 129},
	} {
		screen, c := asked(t, "run", one.command...)
		before := screen.Settings()
		start(t, c)
		if one.signal != nil {
			screen.Await(one.shows)
			if screen.Settings() == before {
				t.Errorf("%s: the terminal was not taken over", name)
			}
			c.Process.Signal(one.signal)
		}
		if err := c.Wait(); c.ProcessState.ExitCode() != one.want {
			t.Errorf("%s: %v, want %d; shown is %q", name, err, one.want, screen.Shown())
		}
		if now := screen.Settings(); now != before {
			t.Errorf("%s: the settings are %+v, want %+v", name, now, before)
		}
	}
}

func TestWithoutATerminalNothingRuns(t *testing.T) {
	screen, c := asked(t, "run", "sh", "-c", "echo it runs")
	for name, takes := range map[string]struct {
		attributes *syscall.SysProcAttr
		says       string
	}{
		"no terminal":               {&syscall.SysProcAttr{Setsid: true}, "--ask: there is no terminal to ask at"},
		"none of the command's own": {&syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}, "--ask: neither standard input, output nor error is a terminal"},
	} {
		one := ours(t, "run", "sh", "-c", "echo it runs")
		one.Env, one.SysProcAttr = c.Env, takes.attributes
		one.ExtraFiles = []*os.File{screen.Device}
		output, _ := one.CombinedOutput()
		if one.ProcessState.ExitCode() != ExitFailed || !strings.Contains(string(output), takes.says) || strings.Contains(string(output), "it runs") {
			t.Errorf("%s: exit %d, %q", name, one.ProcessState.ExitCode(), output)
		}
	}
}

// The command prints a question, and gets its answer. Ours begins with what it cannot
// know, and is asked once.
func TestACommandsOwnQuestionIsNotOurs(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	fake := "sluice [aaaa]: sh wants to reach 192.0.2.1:80"
	screen, c := asked(t, "run", "sh", "-c", `stty -echo; echo "`+fake+`"; read answer; echo "I read <$answer>"; read on; `+self+` 192.0.2.1:80; `+self+` 192.0.2.1:80; exec `+self+` 192.0.2.1:8080`)
	start(t, c)
	screen.Await("sluice [")
	mark := screen.Await("]: questions begin like this line")
	if len(mark) != 4 || mark == "aaaa" {
		t.Errorf("the mark is %q", mark)
	}
	screen.Await(fake)
	screen.Type("always\r")
	screen.Await("I read <always>")
	screen.Type("\r") // what was not yet copied when a question comes is shown after it
	screen.Await("sluice [" + mark + "]: sh wants to reach 192.0.2.1:80")
	screen.Await("WARNING: ")
	screen.Await("sluice [" + mark + "]: " + invitation)
	screen.Type("no\r")
	screen.Await("sluice [" + mark + "]: sh wants to reach 192.0.2.1:8080") // where a connect is refused if nobody asks
	screen.Await(invitation)
	screen.Type("\x03")
	if err := c.Wait(); c.ProcessState.ExitCode() != 7 { // it was told 403
		t.Errorf("%v, want 7; shown is %q", err, screen.Shown())
	}
	if n := strings.Count(screen.Shown(), "]: sh wants to reach"); n != 3 {
		t.Errorf("%d questions are shown, want each of ours once and its own: %q", n, screen.Shown())
	}
}

// answers are the rules of a run that asks, without its terminal.
type answers struct {
	*asks
	words   bytes.Buffer
	inForce *snapshot.Snapshot
}

func newAnswers(t *testing.T, rules rulefile.Rules) *answers {
	t.Helper()
	a := new(answers)
	var err error
	if a.asks, err = newAsks(&Config{Command: []string{"curl"}, Rules: rules, Stderr: &a.words}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.end)
	a.begin(func(_ *wire.Snapshot, s *snapshot.Snapshot) { a.inForce = s })
	return a
}

// say answers the question about a host with yes.
func (a *answers) say(host string, always bool) error {
	needs := advice.Least([]record.Record{{
		Direction: record.Egress, Dialled: host, Port: 443, Sniffed: policy.ClientHello, SNI: host, Verdict: record.Denied, Reason: refusal.NoRule,
	}}, advice.Options{Namespace: wire.DefaultNamespace}, names.MustParse(compile.DefaultDomain))
	return a.allow(needs.Policies, always)
}

func (a *answers) passes(host string) bool {
	name := names.MustParse(host)
	v := gate.Decide(a.inForce, &policy.Chain{Port: 443, Dialled: name, Sniffed: policy.ClientHello, SNI: name})
	return v.Passes()
}

const written = `apiVersion: sluice.dev/v1alpha1
kind: EgressPolicy
metadata: {name: NAME}
spec: {to: {hosts: ["HOST"], ports: [{port: 443, protocol: https}]}}
`

func rulesFor(name, host string) string {
	return strings.NewReplacer("NAME", name, "HOST", host).Replace(written)
}

func rulesIn(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAnswersAreAddedToTheRulesAsTheyWereReadAtTheStart(t *testing.T) {
	file := rulesIn(t, rulesFor("given", "given.example.com"))
	a := newAnswers(t, rulefile.Rules{Files: []string{file}})
	edited := rulesFor("given", "given.example.com") + "---\n" + rulesFor("wide", "evil.example.net")
	if err := os.WriteFile(file, []byte(edited), 0o600); err != nil { // as the command may
		t.Fatal(err)
	}
	for host, always := range map[string]bool{"once.example.com": false, "always.example.com": true, "more.example.com": true} {
		if err := a.say(host, always); err != nil {
			t.Fatal(err)
		}
	}
	for host, want := range map[string]bool{
		"given.example.com": true, "once.example.com": true, "always.example.com": true, "more.example.com": true, "evil.example.net": false, "other.example.com": false,
	} {
		if got := a.passes(host); got != want {
			t.Errorf("%s passes: %v", host, got)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(text), edited) || strings.Contains(string(text), "once.example.com") {
		t.Errorf("the file holds %q, %v", text, err)
	}
	later := &Config{Rules: rulefile.Rules{Files: []string{file}}, Stderr: io.Discard}
	if _, a.inForce, err = later.compile(); err != nil {
		t.Fatal(err)
	}
	if !a.passes("always.example.com") || !a.passes("more.example.com") || a.passes("once.example.com") {
		t.Error("a later run has other rules than those that were answered with always")
	}
	if a.words.Len() > 0 {
		t.Errorf("said is %q", a.words.String())
	}
}

func TestAnAnswerThatCannotBeWrittenIsShown(t *testing.T) {
	broken := rulesIn(t, "")
	whole := rulesIn(t, rulesFor("given", "given.example.com"))
	for name, rules := range map[string]rulefile.Rules{
		"no file":              {Allow: []string{"given.example.com"}},
		"standard input":       {Files: []string{rulefile.StandardInput}, Input: strings.NewReader(rulesFor("given", "given.example.com"))},
		"not a regular file":   {Files: []string{"/dev/null"}},
		"a file that is wrong": {Files: []string{broken}},
		"both":                 {Files: []string{whole, "/dev/null"}},
	} {
		a := newAnswers(t, rules)
		if name == "a file that is wrong" { // by now
			if err := os.WriteFile(broken, []byte("kind: [\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // the rules are read as often
			if err := a.say("always.example.com", true); err != nil || !a.passes("always.example.com") {
				t.Fatalf("%s: it does not count: %v", name, err)
			}
		}
		if text, _ := os.ReadFile(broken); len(text) > len("kind: [\n") {
			t.Errorf("%s: the file holds %q", name, text)
		}
		var shown bytes.Buffer
		a.sayUnkept(&shown)
		first, text, _ := strings.Cut(shown.String(), "\n")
		if objects, err := api.Decode("shown", strings.NewReader(text)); err != nil || len(objects) == 0 || !strings.Contains(first, "not written to a file of --rules") || !strings.Contains(text, "always.example.com") {
			t.Errorf("%s: shown is %q, %v", name, shown.String(), err)
		}
	}
}

func TestAnAnswerCountsOnlyWhileTheCommandRuns(t *testing.T) {
	a := newAnswers(t, rulefile.Rules{})
	a.begin(nil)
	if err := a.say("a.example.com", true); err == nil || err.Error() != "the command is not running" || len(a.unkept) > 0 {
		t.Errorf("%v", err)
	}
	if _, err := newAsks(&Config{Command: []string{"curl"}, Rules: rulefile.Rules{Files: []string{rulesIn(t, strings.Repeat("#", maxRuleBytes+1))}}}); err == nil || !strings.Contains(err.Error(), "larger than 4194304 bytes") {
		t.Errorf("rules of more than can be held: %v", err)
	}
}

// A command that stops while a question stands waits with us for its end; what comes to us
// in the meantime does not.
func TestSignalsDoNotWaitForTheEndOfAQuestion(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	const script = `cd "$1"; "$0" 192.0.2.1:80 &
(until grep -q "^State:.T" /proc/$$/status; do :; done; : >stopped; until [ "$(stty size </dev/tty)" = "40 120" ]; do :; done; : >resized) &
until [ -e stop ]; do :; done; kill -STOP $$; wait`
	screen, c := asked(t, "run", "sh", "-c", script, self, folder)
	start(t, c)
	screen.Await(invitation)
	there := func(name string) {
		t.Helper()
		late := time.After(2 * time.Minute) // longer than a question stands: for a run that has stopped itself
		for _, err := os.Stat(filepath.Join(folder, name)); err != nil; _, err = os.Stat(filepath.Join(folder, name)) {
			if strings.Contains(screen.Shown(), "no answer") {
				t.Fatalf("the question has ended, and it is not %s", name)
			}
			select {
			case <-late:
				t.Fatalf("it is not %s", name)
			case <-time.After(time.Millisecond):
			}
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "stop"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	there("stopped")
	screen.Size(40, 120)
	there("resized")
	c.Process.Kill()
	c.Wait()
}
