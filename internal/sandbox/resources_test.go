package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAmountsAreReadOrTheErrorSaysHowToWriteThem(t *testing.T) {
	for text, want := range map[string]int64{
		"512M": 512 << 20, "512Mi": 512 << 20, "512m": 512 << 20, "1.5G": 3 << 29, "1.5GiB": 0, "33554432": 32 << 20, "1T": 1 << 40,
		"32767K": 0, "": 0, "M": 0, "i": 0, "1.2.3G": 0, "-1G": 0, "1e9": 0, "0x40000000": 0, "inf": 0, "1 G": 0, "2000T": 0, "512I": 0, "_1G": 0, "31.9M": 0,
	} {
		got, err := ParseMemory(text)
		if got != want || (err != nil) != (want == 0) {
			t.Errorf("memory %q: %d, %v", text, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), "512M") && !strings.Contains(err.Error(), "32M") {
			t.Errorf("memory %q: %v", text, err)
		}
	}
	for text, want := range map[string]float64{"2": 2, "0.5": 0.5, ".25": 0.25, "0.01": 0.01, "0.009": 0, "0": 0, "": 0, "1k": 0, "NaN": 0, "5000": 0, ".": 0} {
		got, err := ParseCPUs(text)
		if got != want || (err != nil) != (want == 0) {
			t.Errorf("cpus %q: %g, %v", text, got, err)
		}
	}
	for text, want := range map[string]int{"1": 1, "4194304": 1 << 22, "4194305": 0, "0": 0, "-1": 0, "": 0, "1.5": 0} {
		got, err := ParsePids(text)
		if got != want || (err != nil) != (want == 0) {
			t.Errorf("pids %q: %d, %v", text, got, err)
		}
	}
	for _, limits := range []Resources{{Pids: -1}, {Pids: MostPids + 1}, {Memory: LeastMemory - 1}, {Memory: MostMemory + 1}, {CPUs: -1}, {CPUs: MostCPUs + 1}} {
		var refused *LimitError
		if _, err := New(t.Context(), Config{Command: []string{"true"}, Resources: limits}); !errors.As(err, &refused) {
			t.Errorf("%+v: %v", limits, err)
		}
	}
}

// needLimits skips where none can be set, for the reason that is then the error; that of
// an ordinary user is the same one each time.
func needLimits(t *testing.T, limits Resources) {
	needSandbox(t)
	g, err := makeGroup(limits)
	var refused *LimitError
	if errors.As(err, &refused) {
		if !strings.Contains(err.Error(), "start it") {
			t.Errorf("the error does not say what to do: %v", err)
		}
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	g.close()
}

// The limit is the command's own: init, which is ours, takes nothing of it, and goes on
// where the command is held. Until init has left the cgroup a few more may be started, also in the place of its threads that end.
func TestNoMoreProcessesAreStartedThanAllowed(t *testing.T) {
	limits := Resources{Pids: 20}
	needLimits(t, limits)
	p := newPlace(t, Config{Command: []string{"sh", "-c", "i=0; while [ $i -lt 60 ]; do sleep 1000 & i=$((i+1)); echo $i; done; echo all of them"}, Resources: limits})
	output, exit := p.run(t)
	started := strings.Count(output, "\n") - 1 // the last line is the shell's complaint
	if exit == 0 || strings.Contains(output, "all of them") || started < limits.Pids-1 || started > limits.Pids+2*spare {
		t.Errorf("exit %d, %d started: %q", exit, started, output)
	}
	if r := p.Reached(); r.ForksRefused == 0 || r.MemoryKills != 0 {
		t.Errorf("%+v", r)
	}
}

func TestWhoNeedsMoreMemoryThanAllowedIsKilledAndThatIsSaid(t *testing.T) {
	limits := Resources{Memory: 256 << 20} // under the race detector a program takes several times as much
	needLimits(t, limits)
	p := newPlace(t, Config{Command: []string{"eat", "800"}, Resources: limits})
	output, exit := p.run(t)
	if exit != 137 || strings.Contains(output, "eaten") {
		t.Errorf("exit %d, %q", exit, output)
	}
	if r := p.Reached(); r.MemoryKills != 1 || r.ForksRefused != 0 {
		t.Errorf("%+v", r)
	}
	p = newPlace(t, Config{Command: []string{"eat", "20"}, Resources: limits})
	if output, exit := p.run(t); exit != 0 || output != "eaten\n" || p.Reached() != (Reached{}) {
		t.Errorf("with enough: exit %d, %q, %+v", exit, output, p.Reached())
	}
}

// eatRole takes so many MiB of memory.
func eatRole(args []string) int {
	var size int
	fmt.Sscan(args[0], &size)
	all := make([]byte, size<<20)
	for i := 0; i < len(all); i += 4096 {
		all[i] = 1
	}
	fmt.Println("eaten")
	return int(all[1])
}

// The kernel counts the tenths of a second in which the command wanted more than its part.
func TestNoMoreProcessorTimeIsTakenThanAllowed(t *testing.T) {
	limits := Resources{CPUs: 0.1}
	needLimits(t, limits)
	p := newPlace(t, Config{Command: []string{"spin"}, Resources: limits})
	if err := p.Start(nil); err != nil {
		t.Fatal(err)
	}
	held := 0
	for _, f := range p.group.made {
		if !f.limits("cpu") {
			continue
		}
		held++
		for file, want := range map[string][]string{"cpu.max": {"10000", "100000"}, "cpu.cfs_quota_us": {"10000"}, "cpu.cfs_period_us": {"100000"}} {
			if got := words(filepath.Join(f.bounds(), file)); got != nil && !slices.Equal(got, want) {
				t.Errorf("%s is %v, want %v", file, got, want)
			}
		}
		eventually(t, "the command was held up", func() bool { return counter(filepath.Join(f.bounds(), "cpu.stat"), "nr_throttled") > 0 })
	}
	if held == 0 {
		t.Error("no cgroup holds the command to its part")
	}
}

// spinRole runs for as long as it may.
func spinRole([]string) int {
	spun := 0
	for spun >= 0 {
		spun++
	}
	return spun
}

// Root in a nested namespace mounts its own cgroup and lifts the limits that it finds
// there: those above hold.
func TestLimitsAreOutOfReachOfRootInANestedNamespace(t *testing.T) {
	limits := Resources{Memory: 64 << 20, Pids: 50}
	needLimits(t, limits)
	p := newPlace(t, Config{Command: []string{"lift-limits"}, Resources: limits})
	output, exit := p.run(t)
	if exit != 0 || !strings.Contains(output, "tried: true") || !strings.Contains(output, "signal: killed") || strings.Contains(output, "eaten") {
		t.Errorf("exit %d\n%s", exit, output)
	}
	if r := p.Reached(); r.MemoryKills != 1 {
		t.Errorf("%+v", r)
	}
}

func liftLimitsRole([]string) int {
	fmt.Print(nestedOutput("lift-limits-nested"))
	return 0
}

func liftLimitsNestedRole([]string) int {
	runtime.LockOSThread() // its namespace is the thread's
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		fmt.Println("own cgroup namespace:", err)
	}
	tried := false
	for _, kind := range hierarchyKinds() {
		if unix.Mount("none", "/mnt", kind[0], 0, kind[1]) != nil {
			continue
		}
		for _, file := range []string{"memory.memsw.limit_in_bytes", "memory.limit_in_bytes", "memory.max", "memory.swap.max"} {
			value := "max"
			if strings.HasSuffix(file, "bytes") {
				value = "-1"
			}
			// Where the machine mounts version 2 with nsdelegate that is refused.
			tried = !errors.Is(writeFile("/mnt/"+file, value), os.ErrNotExist) || tried
		}
		unix.Unmount("/mnt", unix.MNT_DETACH)
	}
	fmt.Println("tried:", tried)
	return eatRole([]string{"200"})
}
