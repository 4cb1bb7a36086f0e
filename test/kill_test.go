package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/test/mesh"
)

// SIGKILL of each process that the demo started: the rest ends, never hangs, and
// afterwards the machine is as it was.
func TestAKilledProcessLeavesNothingBehind(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it takes root to see the processes of sandboxes")
	}
	for _, name := range []string{"sluice-server", "sluice-proxy", "simnet", "sluice run", "sandbox init", "bookinfo productpage"} {
		t.Run(name, func(t *testing.T) {
			before := mesh.LookAtMachine(t)
			d := mesh.StartDemo(t, mesh.User{Name: "root", UID: -1})
			victim := find(t, d, name)
			if err := syscall.Kill(victim.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			select {
			case <-d.Ended():
			case <-time.After(10 * time.Second):
				t.Fatalf("10 s after %s was killed the demo still runs:\n%s", name, d.Said())
			}
			mesh.Eventually(t, 5*time.Second, func() string {
				if left := d.Processes(t); len(left) != 0 {
					return fmt.Sprintf("still there: %v", left)
				}
				if now := mesh.LookAtMachine(t); now != before {
					return fmt.Sprintf("the machine has %v, before it had %v", now, before)
				}
				return ""
			})
			nothingLeft(t, d)
			if !strings.Contains(d.Said(), "ended") {
				t.Errorf("the demo does not say what happened:\n%s", d.Said())
			}
		})
	}
}

// find returns a process of the demo. The init of a sandbox has the name of its
// parent's program; it is the child of a `sluice run`.
func find(t *testing.T, d *mesh.Demo, name string) mesh.Process {
	t.Helper()
	all := d.Processes(t)
	runs := make(map[int]bool)
	for _, p := range all {
		if p.Name == "sluice run" && parentOf(t, p.PID) == d.PID() {
			runs[p.PID] = true
		}
	}
	for _, p := range all {
		switch {
		case name == "sandbox init" && runs[parentOf(t, p.PID)],
			name == "sluice run" && runs[p.PID],
			name == p.Name && name != "sluice run":
			return p
		}
	}
	t.Fatalf("no process %q among %v", name, all)
	return mesh.Process{}
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "stat"))
	if err != nil {
		return 0
	}
	var parent int
	rest := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
	fmt.Sscanf(rest, " %s %d", new(string), &parent)
	return parent
}
