package report

import (
	"fmt"
	"strings"
	"testing"
)

func TestAHiddenFileThatWasOpenedIsSaidWithWhatGivesItBack(t *testing.T) {
	for _, c := range []struct {
		hidden Hidden
		want   string
	}{
		{Hidden{Path: "/home/u/.npmrc", What: "tokens of npm registries"},
			"sluice: the command opened /home/u/.npmrc, which is hidden from it (tokens of npm registries); --show '/home/u/.npmrc' gives it to the command\n"},
		{Hidden{Path: "/home/u/.ssh/id_rsa", What: "a private key", Instead: "an agent signs in its place"},
			"sluice: the command opened /home/u/.ssh/id_rsa, which is hidden from it (a private key); an agent signs in its place; --show '/home/u/.ssh/id_rsa' gives it to the command\n"},
		{Hidden{Path: "/home/u/a'$(reboot)'", What: "a private key"},
			"sluice: the command opened /home/u/a'$(reboot)', which is hidden from it (a private key)\n"},
		{Hidden{Path: "/srv/\x1b[2J"}, "sluice: the command opened /srv/\\x1b[2J, which --hide hides from it\n"},
	} {
		if got := HiddenLine(&c.hidden); got != c.want {
			t.Errorf("it says %q, want %q", got, c.want)
		}
	}
}

func TestOfManyHiddenFilesTheFirstAreNamed(t *testing.T) {
	opened := make([]Hidden, MaxLines+3)
	for i := range opened {
		opened[i].Path = fmt.Sprint("/f", i)
	}
	var b strings.Builder
	if err := PrintHidden(&b, opened); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(b.String()), "\n"); len(lines) != MaxLines+1 || lines[MaxLines] != "sluice: and 3 more hidden files were opened" {
		t.Errorf("it says %s", b.String())
	}
}
