package test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/test/mesh"
)

// What the demo starts, by the names of find.
var demoProcesses = []string{
	"sluice-server", "sluice-proxy", "simnet", "sluice-simnet", "sluice run", "sandbox init",
	"bookinfo productpage", "bookinfo details", "bookinfo reviews", "bookinfo ratings",
}

// SIGKILL of each process that the demo started: the rest ends, never hangs, and
// afterwards the machine is as it was.
func TestAKilledProcessLeavesNothingBehind(t *testing.T) {
	needRootToSeeSandboxes(t)
	for _, name := range demoProcesses {
		t.Run(name, func(t *testing.T) {
			d := mesh.StartDemo(t, mesh.User{Name: "root", UID: -1})
			if others := unknown(t, d); len(others) != 0 {
				t.Errorf("the demo started processes that no subtest kills: %v", others)
			}
			machine := look(t, d)
			victim := find(t, d, name)
			if err := syscall.Kill(victim.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			select {
			case <-d.Ended():
			case <-time.After(mesh.Patience):
				t.Fatalf("%v after %s was killed the demo still runs:\n%s", mesh.Patience, name, d.Said())
			}
			machine.isAsBefore(t, d)
			nothingLeft(t, d)
			if !strings.Contains(d.Said(), "the demo ends with it") {
				t.Errorf("the demo does not say what happened:\n%s", d.Said())
			}
		})
	}
}

// SIGKILL of the demo itself: nothing can tidy its folders up, but no process
// outlives it, and the next demo starts in the same place.
func TestADemoThatWasKilledLeavesNoProcessAndTheNextOneStarts(t *testing.T) {
	needRootToSeeSandboxes(t)
	d := mesh.StartDemo(t, mesh.User{Name: "root", UID: -1})
	machine := look(t, d)
	d.Kill()
	<-d.Ended()
	machine.isAsBefore(t, d)
	noEnvironment(t, d, "has ended")
	next := mesh.StartDemoIn(t, d.Place)
	eventually(t, next, "of the next demo", func(page string) bool { return strings.Contains(page, "Book Details") })
	next.Stop(t)
	nothingLeft(t, next)
}

func needRootToSeeSandboxes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it requires root to see the processes of sandboxes")
	}
}

// machine is what a run must leave as it found it.
type machine struct {
	namespaces map[string]bool // of the demo, while it runs
	mounts     string          // of ours, that have to do with the demo
	public     string          // folder of the demo outside of its place
}

func look(t *testing.T, d *mesh.Demo) machine {
	t.Helper()
	m := machine{namespaces: d.Namespaces(t), public: filepath.Dir(internetCA(t, d))}
	m.mounts = mountsOf(t, d, m.public)
	// Six services have a network, mounts and processes of their own; the small
	// internet a network.
	if len(m.namespaces) < 6*3+1 {
		t.Fatalf("the demo lives in %d namespaces; the test looks in the wrong place", len(m.namespaces))
	}
	if _, err := os.Stat(m.public); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m machine) isAsBefore(t *testing.T, d *mesh.Demo) {
	t.Helper()
	mesh.Eventually(t, func() string {
		if left := d.Processes(t); len(left) != 0 {
			return fmt.Sprintf("still there: %v", left)
		}
		if holders := mesh.Holders(t, m.namespaces); len(holders) != 0 {
			return fmt.Sprintf("namespaces are still there: %v", holders)
		}
		return ""
	})
	if now := mountsOf(t, d, m.public); now != m.mounts {
		t.Errorf("the mounts are\n%s\nbefore they were\n%s", now, m.mounts)
	}
}

// mountsOf are the mounts that a demo could have made: others come and go, for the
// machine is not ours alone.
func mountsOf(t *testing.T, d *mesh.Demo, public string) string {
	t.Helper()
	lines := strings.SplitAfter(mesh.Mounts(t), "\n")
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool {
		for _, place := range []string{filepath.Dir(d.Runtime), public, "/etc/resolv.conf", " /proc ", " /sys "} {
			if strings.Contains(line, place) {
				return false
			}
		}
		return true
	}), "")
}

// nothingLeft checks that a demo that ended left no file in its folders.
func nothingLeft(t *testing.T, d *mesh.Demo) {
	t.Helper()
	left, err := os.ReadDir(d.Runtime)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("the runtime folder still holds %s", entry.Name())
	}
	public := filepath.Dir(internetCA(t, d))
	if _, err := os.Stat(public); !os.IsNotExist(err) {
		t.Errorf("the folder of the small internet's CA is still there: %v", err)
	}
	filepath.WalkDir(d.Data, func(path string, entry fs.DirEntry, err error) error {
		if path != d.Data {
			t.Errorf("the data folder, which is not the demo's, holds %s", path)
		}
		return err
	})
}

// find returns a process of the demo. The init of a sandbox has the name of its
// parent's program; it is the child of a `sluice run`.
func find(t *testing.T, d *mesh.Demo, name string) mesh.Process {
	t.Helper()
	for _, p := range namedProcesses(t, d) {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no process %q among %v", name, d.Processes(t))
	return mesh.Process{}
}

// unknown lists the processes of the demo that no subtest kills.
func unknown(t *testing.T, d *mesh.Demo) []mesh.Process {
	t.Helper()
	return slices.DeleteFunc(namedProcesses(t, d), func(p mesh.Process) bool {
		return slices.Contains(demoProcesses, p.Name) || p.PID == d.PID()
	})
}

func namedProcesses(t *testing.T, d *mesh.Demo) []mesh.Process {
	t.Helper()
	all := d.Processes(t)
	runs := make(map[int]bool)
	for _, p := range all {
		if p.Name == "sluice run" && parentOf(p.PID) == d.PID() {
			runs[p.PID] = true
		}
	}
	for i := range all {
		if runs[parentOf(all[i].PID)] {
			all[i].Name = "sandbox init"
		}
	}
	return all
}

// parentOf is the parent of a process; 0 where it has ended.
func parentOf(pid int) int {
	stat, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "stat"))
	if err != nil {
		return 0
	}
	var state string
	var parent int
	fmt.Sscanf(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " %s %d", &state, &parent)
	return parent
}
