package signaltest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

const roleVariable = "SIGNALTEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == "" {
		os.Exit(m.Run())
	}
	Default()
	show := exec.Command("grep", "SigIgn", "/proc/self/status")
	show.Stdout, show.Stderr = os.Stdout, os.Stderr
	if show.Run() != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

func TestWhatATestStartsIgnoresNothingThatTheTestWasStartedToIgnore(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	started := exec.Command("sh", "-c", "trap '' HUP INT QUIT; grep SigIgn /proc/self/status; exec "+self)
	started.Env = append(os.Environ(), roleVariable+"=yes")
	output, err := started.CombinedOutput()
	words := strings.Fields(string(output))
	if err != nil || len(words) != 4 {
		t.Fatalf("%v: %s", err, output)
	}
	if before, after := words[1], words[3]; !strings.HasSuffix(before, "007") || !strings.HasSuffix(after, "000") { // HUP 1, INT 2, QUIT 3
		t.Errorf("ignored are %s, of which %s are passed on", before, after)
	}
}
