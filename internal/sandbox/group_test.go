package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// needGroup skips where no cgroup can be made.
func needGroup(t *testing.T) *group {
	t.Helper()
	needSandbox(t)
	g, err := makeGroup(Resources{})
	if err != nil {
		t.Fatal(err)
	}
	if len(g.made) == 0 {
		t.Skip(g.shared)
	}
	return g
}

func tops(g *group) (paths []string) {
	for _, f := range g.made {
		paths = append(paths, f.top)
	}
	return paths
}

func there(paths []string) (left []string) {
	for _, path := range paths {
		if _, err := os.Lstat(path); err == nil {
			left = append(left, path)
		}
	}
	return left
}

// groupsApart returns what makes groups below a cgroup of the test, in each hierarchy: what
// is done to groups of any age there is done to those of no other process.
func groupsApart(t *testing.T) func() *group {
	t.Helper()
	needGroup(t).close()
	all, err := ownHierarchies()
	if err != nil {
		t.Fatal(err)
	}
	var apart []hierarchy
	for _, h := range all {
		folder := filepath.Join(h.own, "apart-"+strconv.Itoa(os.Getpid()))
		if h.own == "" || os.Mkdir(folder, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { eventually(t, "the cgroup is removed", func() bool { return os.Remove(folder) == nil }) })
		if h.has("cpuset") {
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				writeFile(filepath.Join(folder, file), strings.Join(words(filepath.Join(h.own, file)), ""))
			}
		}
		h.own = folder
		apart = append(apart, h)
	}
	return func() *group {
		g := newGroup(Resources{}, nil)
		for _, h := range apart {
			if f, err := h.makeFolders(nil); err == nil {
				g.made = append(g.made, f)
			}
		}
		if len(g.made) == 0 {
			t.Skip("no cgroup can be made below our own")
		}
		return g
	}
}

// What a run that was killed left behind is removed by the next one; that of one which
// lives, and one with processes in it, are not.
func TestWhatAKilledRunLeftIsRemovedByTheNext(t *testing.T) {
	another := groupsApart(t)
	living, killed, busy := another(), another(), another()
	t.Cleanup(living.close)
	t.Cleanup(busy.close)
	inside := exec.Command("sleep", "600")
	if err := inside.Start(); err != nil {
		t.Fatal(err)
	}
	if err := busy.enter(inside.Process.Pid); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inside.Process.Kill(); inside.Wait() })
	for _, g := range []*group{killed, busy} {
		for _, f := range g.made {
			f.lock.Close() // as the kernel does
		}
	}
	everyParent := func(age time.Duration) {
		for _, f := range killed.made {
			removeStale(filepath.Dir(f.top), age)
		}
	}
	everyParent(time.Hour)
	if left := there(tops(killed)); len(left) != len(killed.made) {
		t.Errorf("of a group that is not old yet only %v are left", left)
	}
	everyParent(0)
	if left := there(tops(killed)); left != nil {
		t.Errorf("%v are left of who was killed", left)
	}
	if left := there(tops(living)); len(left) != len(living.made) {
		t.Errorf("only %v are left of who lives", left)
	}
	if left := there(tops(busy)); len(left) != len(busy.made) || inside.Process.Signal(unix.Signal(0)) != nil {
		t.Errorf("only %v are left of a group with a process", left)
	}
}

// hideAndSeekRole leaves processes behind in cgroups of its own making, stopped where
// the kernel can, and ends.
func hideAndSeekRole([]string) int {
	fmt.Print(nestedOutput("freeze-nested"))
	return 3
}

func freezeNestedRole([]string) int {
	runtime.LockOSThread() // its namespace is the thread's
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		fmt.Println("own cgroup namespace:", err)
	}
	for _, kind := range hierarchyKinds() {
		if unix.Mount("none", "/mnt", kind[0], 0, kind[1]) != nil {
			continue
		}
		folder := "/mnt"
		for depth := range 3 {
			folder = filepath.Join(folder, "below-"+strconv.Itoa(depth))
			os.Mkdir(folder, 0o755)
		}
		left := exec.Command("sleep", "600")
		if left.Start() == nil && writeFile(filepath.Join(folder, procsFile), strconv.Itoa(left.Process.Pid)) == nil {
			for file, stop := range map[string]string{"freezer.state": "FROZEN", "cgroup.freeze": "1"} {
				if writeFile(filepath.Join(folder, file), stop) == nil {
					fmt.Println("stopped", kind)
				}
			}
		}
		unix.Unmount("/mnt", unix.MNT_DETACH)
	}
	return 0
}

// A command that ends leaves nothing: neither processes that it stopped by their cgroup,
// which take no note of signals then, nor cgroups of its own making.
func TestNothingIsLeftOfWhatTheCommandStoppedAndMade(t *testing.T) {
	needGroup(t).close()
	p := newPlace(t, Config{Command: []string{"hide-and-seek"}})
	made := tops(p.group)
	output, exit := p.run(t)
	if exit != 3 || !strings.Contains(output, "stopped ") || strings.Contains(output, "own cgroup namespace:") || strings.Contains(output, "nested:") {
		t.Errorf("exit %d, %q", exit, output)
	}
	if left := there(made); left != nil {
		t.Errorf("%v are left", left)
	}
}

// Init is in the command's cgroup only until that has begun.
func TestInitIsNotInTheCommandsCgroup(t *testing.T) {
	needGroup(t).close()
	p := newPlace(t, Config{Command: []string{"sleep", "600"}})
	init := strconv.Itoa(p.PID())
	for _, f := range p.group.made { // else the command would not begin there
		if in := words(filepath.Join(f.command(), procsFile)); !slices.Equal(in, []string{init}) {
			t.Errorf("before the start %v are in %s, and init is %s", in, f.command(), init)
		}
	}
	if err := p.Start(nil); err != nil {
		t.Fatal(err)
	}
	for _, f := range p.group.made {
		eventually(t, "init has left "+f.command(), func() bool {
			return len(words(filepath.Join(f.command(), procsFile))) == 1 && slices.Equal(words(filepath.Join(f.init(), procsFile)), []string{init})
		})
	}
}

// Cgroups may be as deep as the command likes.
func TestCgroupsOfAnyDepthAreRemoved(t *testing.T) {
	g := needGroup(t)
	for _, f := range g.made {
		at, err := unix.Open(f.command(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		for range mostDepth * 3 { // version 2 ends it before
			if unix.Mkdirat(at, "a-name-of-some-length-so-that-the-path-is-longer-than-a-path-may-be-in-one-call-of-the-kernel", 0o755) != nil {
				break
			}
			next, err := unix.Openat(at, "a-name-of-some-length-so-that-the-path-is-longer-than-a-path-may-be-in-one-call-of-the-kernel", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(at)
			at = next
		}
		unix.Close(at)
	}
	made := tops(g)
	g.close()
	if left := there(made); left != nil {
		t.Errorf("%v are left", left)
	}
}

// Linux takes pids and cpu for a cgroup with processes, and makes it a threaded one, in
// which its owner can make no ordinary cgroup any more.
func TestACgroupWithProcessesIsNotChanged(t *testing.T) {
	g := needGroup(t)
	t.Cleanup(g.close)
	inside := exec.Command("sleep", "600")
	if err := inside.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inside.Process.Kill(); inside.Wait() })
	if err := g.enter(inside.Process.Pid); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(g.made, func(f *folders) bool { return f.controllers == "" })
	if i < 0 {
		t.Skip("no cgroup of version 2 can be made here")
	}
	cgroup := g.made[i].command()
	for _, controller := range []string{"pids", "cpu", "memory"} {
		if err := handDown(cgroup, []string{controller}, true); err == nil || !strings.Contains(err.Error(), "has processes of its own") {
			t.Errorf("%s: %v", controller, err)
		}
	}
	if kind := words(filepath.Join(cgroup, "cgroup.type")); !slices.Equal(kind, []string{"domain"}) {
		t.Errorf("it is %q now", kind)
	}
}
