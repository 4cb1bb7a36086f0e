package sandbox

import (
	"os"
	"strings"
	"testing"
)

// A sandbox that the command makes itself starts where pivot_root is left to it, and the
// level says so; else it does not.
func TestASandboxOfTheCommandsOwnStartsWherePivotRootIsLeftToIt(t *testing.T) {
	needProgram(t, "bwrap")
	for _, allowed := range []bool{false, true} {
		p := newPlace(t, Config{PivotRoot: allowed, Command: []string{"bwrap", "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "echo", "started"}})
		lowered := strings.Contains(strings.Join(p.Enforcement().Lowered, "\n"), pivotRootLowers)
		output, exit := p.run(t)
		if lowered != allowed {
			t.Errorf("allowed %v: the level is lower: %v", allowed, lowered)
		}
		if os.Geteuid() == 0 && allowed && exit != 0 && !strings.Contains(output, "pivot_root") {
			continue // uid 0 without CAP_SETFCAP may map no users
		}
		if started := exit == 0 && output == "started\n"; started != allowed {
			t.Errorf("allowed %v: exit %d: %s", allowed, exit, output)
		}
	}
}
