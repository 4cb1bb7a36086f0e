package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"sluice.dev/sluice/test/kernels/verdict"
)

// testsOf are the packages whose own tests run in the guest.
var testsOf = []string{"capture", "supervise", "sandbox"}

// skippedTests are those that the guest cannot run, with the reasons.
var skippedTests = map[string]string{
	"TestEverythingAgainAsAnOrdinaryUser": "that is the row of the user",
	"TestRootWorksOnFilesOfAllUsers":      "it compares what GNU's programs say, and the guest has busybox",
}

func testRows() []row {
	var rows []row
	for _, name := range testsOf {
		for _, w := range everybody {
			id := name + "-" + w.name
			rows = append(rows, row{id, "the tests of " + name + " pass", long, packageTests(id, name, w)})
		}
	}
	return rows
}

// packageTests runs the tests of a package as somebody; each that fails is a row of its own.
func packageTests(id, name string, w who) func(context.Context, *lab) (string, error) {
	return func(ctx context.Context, l *lab) (string, error) {
		folder := "/tests/" + name
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return "", err
		}
		temporary, err := os.MkdirTemp("", "t")
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(temporary)
		if err := errors.Join(os.Chmod(temporary, 0o755), os.Chown(temporary, int(w.uid), int(w.uid))); err != nil {
			return "", err
		}
		env := []string{"TMPDIR=" + temporary, "HOME=" + temporary}
		if w.uid != 0 {
			env = append(env, "SANDBOX_TEST_CGROUPS=delegated") // see userCgroup
		}
		r, err := w.doIn(ctx, place{folder: folder, env: env, copyTo: os.Stdout},
			"/bin/"+name+".test", "-test.v", "-test.run="+only(l.below(id)), "-test.skip=^("+strings.Join(slices.Sorted(maps.Keys(skippedTests)), "|")+")$", "-test.timeout="+(long).String())
		counted := count(r.stdout)
		for _, test := range counted.failed {
			l.say(verdict.Row{ID: id + "/" + test.name, Verdict: verdict.Fail, Sentence: "the test passes", Outcome: test.output})
		}
		outcome := fmt.Sprintf("%d passed, %d skipped, %d failed", counted.passed, len(counted.skipped), len(counted.failed))
		if counted.running != "" {
			outcome += "\ncut off in " + counted.running
		}
		for test, reason := range skippedTests {
			outcome += "\nleft out: " + test + ": " + reason
		}
		for _, test := range counted.skipped {
			outcome += "\nskipped: " + test.name + ": " + strings.Join(strings.Fields(test.output), " ")
		}
		switch {
		case err != nil:
			return outcome + "\n" + r.String(), err
		case len(counted.failed) > 0:
			return outcome, errors.New("see the rows above")
		case r.code != 0:
			return outcome + "\n" + r.String(), fmt.Errorf("exit %d", r.code)
		case counted.passed == 0:
			return r.String(), errors.New("no test ran")
		}
		return outcome, nil
	}
}

// only is the pattern of tests by name; none is all of them.
func only(names []string) string {
	if len(names) == 0 {
		return "."
	}
	return "^(" + strings.Join(names, "|") + ")$"
}

type test struct{ name, output string }

type tests struct {
	passed          int
	running         string // what had begun and did not end
	skipped, failed []test
}

// count reads the output of a test binary under -test.v. Only tests at the top count:
// what those below them said is part of their output.
func count(output string) (counted tests) {
	var said strings.Builder
	for line := range strings.Lines(output) {
		mark, rest, ok := strings.Cut(line, ": ")
		name, _, _ := strings.Cut(rest, " ")
		if ok && strings.HasPrefix(mark, "--- ") {
			counted.running = ""
		}
		switch {
		case strings.HasPrefix(line, "=== RUN   ") && !strings.Contains(line, "/"):
			said.Reset()
			counted.running = strings.TrimSpace(strings.TrimPrefix(line, "=== RUN   "))
		case ok && mark == "--- PASS":
			counted.passed++
		case ok && mark == "--- SKIP":
			counted.skipped = append(counted.skipped, test{name, said.String()})
		case ok && mark == "--- FAIL":
			counted.failed = append(counted.failed, test{name, said.String()})
		case strings.HasPrefix(line, "=== "):
		default:
			said.WriteString(line)
		}
	}
	return counted
}
