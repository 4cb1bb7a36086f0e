package guide

import (
	"os/exec"
	"strings"
	"testing"
)

const fence = "```"

func TestAPageIsAScript(t *testing.T) {
	p, err := Parse(strings.Join([]string{
		"# Title", "<!-- setup: demo -->", "", "Words.", "",
		"Save as rules.yaml:", "<!-- file: rules.yaml -->", fence + "yaml", "a: 1", fence, "",
		fence + "console", "$ cat rules.yaml", "a: 1", "$ printf '%s\\n' \\", "> two", "$ true", fence,
		"<!-- not run: it needs the real internet -->", fence + "console", "$ false", fence,
		fence + "yaml", "b: 2", fence, "",
	}, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if p.Setup != "demo" || len(p.NotRun) != 1 || len(p.Steps) != 2 {
		t.Fatalf("%+v", p)
	}
	if f := p.Steps[0]; f.File != "rules.yaml" || f.Text != "a: 1\n" {
		t.Errorf("file: %+v", f)
	}
	c := p.Steps[1].Commands
	if len(c) != 3 || c[0].Wants[0] != "a: 1" || c[1].Text != "printf '%s\\n' \\\ntwo" || c[1].Wants != nil || c[2].Text != "true" || c[0].Line != 13 {
		t.Errorf("commands: %+v", c)
	}
}

func TestWhatNobodyWouldTryIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"a fence without a language": fence + "\n$ true\n" + fence,
		"a fence of shell":           fence + "sh\ntrue\n" + fence,
		"an open fence":              fence + "console\n$ true\n",
		"output without a command":   fence + "console\ntrue\n" + fence,
		"two setups":                 "<!-- setup: demo -->\n<!-- setup: internet -->\n",
	} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestOutputMatchesWithGaps(t *testing.T) {
	for _, c := range []struct {
		wants, printed string
		ok             bool
	}{
		{"a\nb", "a\nb\n", true},
		{"a\nb", "a\nb", true},
		{"a", "a\nb\n", false},
		{"a\nb", "a\n", false},
		{"a  b", "a\t\t b  \n", true},
		{"rev …", "rev 12\n", true},
		{"rev …", "rev 12\nmore\n", false},
		{"a\n…\nz", "a\nb\nc\nz\n", true},
		{"a\n…\nz", "a\nz\n", true},
		{"…\nz", "a\nz", true},
		{"a.c", "abc", false},
		{"", "", true},
		{"…", "", true},
	} {
		if got := Matches(strings.Split(c.wants, "\n"), c.printed); got != c.ok {
			t.Errorf("%q of %q: %v", c.wants, c.printed, got)
		}
	}
}

func TestAShellKeepsVariablesJobsAndStatus(t *testing.T) {
	cmd := exec.Command("bash", "--noprofile", "--norc")
	cmd.Dir = t.TempDir()
	s, err := NewShell(cmd)
	if err != nil {
		t.Skip("no bash:", err)
	}
	defer s.Close()
	for _, c := range []struct {
		command, printed string
		status           int
	}{
		{"x='a b'", "", 0},
		{"echo \"$x\"; echo on the other >&2", "a b\non the other\n", 0},
		{"printf 'no newline'", "no newline", 0},
		{"(exit 7)", "", 7},
		{"echo $?", "7\n", 0},
		{"cat", "", 0}, // nothing on standard input, and not our commands
		{"cat <<'E'\ntext\nE", "text\n", 0},
		{"echo from the job &", "", 0},
		{"wait; cat background.log", "from the job\n", 0},
		{"sleep 600 &", "", 0}, // Close ends it
	} {
		printed, status, err := s.Run(c.command)
		if err != nil || printed != c.printed || status != c.status {
			t.Errorf("%s: printed %q, status %d, %v", c.command, printed, status, err)
		}
	}
}
