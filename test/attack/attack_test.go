package attack

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/sandbox"
	"sluice.dev/sluice/test/mesh"
)

// needSandbox skips where this machine gives no sandbox, but fails in CI.
func needSandbox(t *testing.T) {
	t.Helper()
	if err := sandbox.Probe(context.Background()); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

func TestMain(m *testing.M) {
	sandbox.Init() // of the probe
	os.Exit(m.Run())
}

// whos are those that we can be; without a sandbox su is as run-as.
func whos(bare bool) (all []string) {
	for _, as := range names {
		if (os.Geteuid() == 0 || as.who == User) && !(bare && as.who == Su) {
			all = append(all, as.name)
		}
	}
	return all
}

// runTable runs the command attack, and returns its lines.
func runTable(t *testing.T, bin string, arguments ...string) (lines []string, said string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(bin, "attack"), arguments...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	command.WaitDelay = 10 * time.Second
	err = command.Run()
	return strings.Split(strings.TrimSpace(stdout.String()), "\n"), stderr.String(), err
}

// report fails for each line that does not begin with ok, or with skip and a reason.
func report(t *testing.T, lines []string, said string, err error, want int) {
	t.Helper()
	for _, line := range lines {
		if word, _, _ := strings.Cut(line, " "); word != "ok" && word != "skip" {
			t.Error(line)
		}
	}
	if err != nil || t.Failed() {
		t.Errorf("%v\n%s", err, said)
	}
	if len(lines) != want {
		t.Errorf("%d attempts were made, not %d", len(lines), want)
	}
	t.Log(strings.Join(lines, "\n"))
}

func count(who string, bare bool) (n int) {
	for _, as := range names {
		for _, row := range Table() {
			if as.name == who && row.triedBy(as.who) && (!bare || row.Bare&as.who != 0) {
				n++
			}
		}
	}
	return n
}

func TestNoAttemptGetsOut(t *testing.T) {
	needSandbox(t)
	bin := mesh.Build(t, "./cmd/sluice", "./test/attack/cmd/attack")
	for _, who := range whos(false) {
		t.Run(who, func(t *testing.T) {
			lines, said, err := runTable(t, bin, "-sluice", filepath.Join(bin, "sluice"), "-as", who)
			report(t, lines, said, err, count(who, false))
		})
	}
}

// An attempt that fails everywhere proves nothing.
func TestWithoutASandboxTheAttemptsGetThrough(t *testing.T) {
	needSandbox(t)
	bin := mesh.Build(t, "./test/attack/cmd/attack")
	for _, who := range whos(true) {
		t.Run(who, func(t *testing.T) {
			lines, said, err := runTable(t, bin, "-bare", "-as", who)
			report(t, lines, said, err, count(who, true))
		})
	}
}

func TestEachAttemptIsWhole(t *testing.T) {
	seen := make(map[string]bool)
	for _, row := range Table() {
		if seen[row.ID] || row.ID == "" || strings.ContainsAny(row.ID, " |") {
			t.Errorf("%q is there twice, or is not a valid name", row.ID)
		}
		seen[row.ID] = true
		if row.Tried == "" || row.Right == "" || (row.Inside == nil) == (row.Nested == nil) || strings.HasSuffix(row.Tried, ".") || strings.ContainsAny(row.Tried+row.Right, "|\n") {
			t.Errorf("%s is not whole", row.ID)
		}
		if row.Works && row.Bare != 0 {
			t.Errorf("%s is to work, and is no attack", row.ID)
		}
	}
}

func TestTheVerdictFailsWhatGotOutAndWhatEndedOtherwise(t *testing.T) {
	row := Row{ID: "x", Refused: permission}
	for _, test := range []struct {
		err  error
		want string
	}{
		{nil, "FAIL"}, {permission[0], "ok"}, {fmt.Errorf("open: %w", permission[1]), "ok"}, {missing[0], "FAIL"},
		{held("nothing came of it"), "ok"}, {skipped("no such device"), "skip"},
	} {
		row.Inside = func(*Inside) error { return test.err }
		if word, text := row.verdict(row.try(new(Inside))); word != test.want {
			t.Errorf("%v: %s, %s", test.err, word, text)
		}
	}
	row.Works = true
	row.Inside = func(*Inside) error { return held("no answer") }
	if word, _ := row.verdict(row.try(new(Inside))); word != "FAIL" {
		t.Errorf("what is to work and does not: %s", word)
	}
}

func TestThePageOfTheGuideIsFresh(t *testing.T) {
	root, err := mesh.Root()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs/guide/attacks.md"))
	if err != nil || string(page) != Page() {
		t.Errorf("docs/guide/attacks.md is not what the table says: run make generate (%v)", err)
	}
}
