// Package bare gives tests a bare Debian: a root that debootstrap made, which holds
// nothing of this machine, entered in namespaces of its own. test/newcomer and
// test/install call it. It never changes the machine: what is written inside goes to a
// layer that is removed with the test.
package bare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// suite is the release of Debian.
const suite = "bookworm"

// makingTime bounds debootstrap, which fetches some 60 MB.
const makingTime = 15 * time.Minute

// Root is a bare Debian with a layer of one test over it.
type Root struct {
	lower string // what debootstrap made; many tests read it
	layer string // upper, work and merged
}

// New makes a bare root with some more packages, and skips the test where that cannot be
// done. What debootstrap made is kept in the user's cache folder.
func New(t *testing.T, packages ...string) *Root {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a bare root requires root: debootstrap makes device files and owners")
	}
	program, err := exec.LookPath("debootstrap")
	if err != nil {
		t.Skip("debootstrap is missing (apt-get install debootstrap)")
	}
	mirror, err := Mirror(os.DirFS("/etc/apt"))
	if err != nil {
		t.Skip(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	name := strings.Join(append([]string{suite, runtime.GOARCH}, packages...), "-")
	lower := filepath.Join(cache, "sluice-bare", name)
	if err := bootstrap(t, program, mirror, lower, packages); err != nil {
		t.Fatal(err)
	}
	layer, err := os.MkdirTemp("/var/tmp", "slb") // its bytes are on a disk, unlike those of /tmp
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(layer) })
	for _, folder := range []string{"upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(layer, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &Root{lower: lower, layer: layer}
}

// bootstrap makes a root once: beside its place, so that one that was broken off is
// never taken for whole.
func bootstrap(t *testing.T, program, mirror, at string, packages []string) error {
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(at+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if _, err := os.Stat(at); err == nil {
		return nil
	}
	unfinished := at + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), makingTime)
	defer cancel()
	args := []string{"--variant=minbase"}
	if len(packages) > 0 {
		args = append(args, "--include="+strings.Join(packages, ","))
	}
	began := time.Now()
	if said, err := exec.CommandContext(ctx, program, append(args, suite, unfinished, mirror)...).CombinedOutput(); err != nil {
		return fmt.Errorf("debootstrap: %w\n%s", err, tail(said))
	}
	t.Logf("debootstrap took %s", time.Since(began).Round(time.Second))
	archives, _ := filepath.Glob(filepath.Join(unfinished, "var/cache/apt/archives/*.deb"))
	for _, archive := range archives {
		if err := os.Remove(archive); err != nil {
			return err
		}
	}
	return os.Rename(unfinished, at)
}

func tail(text []byte) []byte { return text[max(0, len(text)-4096):] }

// Write puts a file into the root, before it is entered.
func (r *Root) Write(t *testing.T, path, content string) {
	t.Helper()
	at := filepath.Join(r.layer, "upper", path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Link puts a symbolic link into the root, before it is entered.
func (r *Root) Link(t *testing.T, to, path string) {
	t.Helper()
	at := filepath.Join(r.layer, "upper", path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

// CopyTree puts a folder into the root, but for what is left out at its top.
func (r *Root) CopyTree(t *testing.T, from, to string, without ...string) {
	t.Helper()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(r.layer, "upper", to)
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if slices.Contains(without, entry.Name()) {
			continue
		}
		if said, err := exec.CommandContext(t.Context(), "cp", "-a", filepath.Join(from, entry.Name()), at).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
	}
}

// Entered is how the root is entered.
type Entered struct {
	// Binds are folders of this machine, by where they are inside; ReadOnly those of
	// them that cannot be written there.
	Binds    map[string]string
	ReadOnly []string
	// HostNetwork leaves the network of this machine; else there is loopback alone.
	HostNetwork bool
	// Env is the whole environment.
	Env []string
	// Cgroup, of Cgroup, makes the command the first process of a system of its own, as
	// systemd wants to be: process 1, below that group alone, with the kernel's settings
	// read-only.
	Cgroup string
}

// Cgroup makes a group for a system to boot in, and removes it at the end of the test. It
// skips the test where there is none of version 2.
func Cgroup(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(mounts)) {
		front, back, _ := strings.Cut(line, " - ")
		if fields := strings.Fields(front); strings.HasPrefix(back, "cgroup2 ") && len(fields) > 4 {
			group, err := os.MkdirTemp(fields[4], "sluice-boot-")
			if err != nil {
				t.Skipf("no cgroup can be made: %v", err)
			}
			t.Cleanup(func() { removeGroup(t, group) })
			return group
		}
	}
	t.Skip("no cgroups of version 2 are mounted")
	return ""
}

// removeGroup removes a group with those in it, whose processes were killed and may take
// a moment to be gone.
func removeGroup(t *testing.T, group string) {
	deadline := time.Now().Add(leaveTime)
	for {
		var inside []string
		_ = filepath.WalkDir(group, func(path string, entry os.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				inside = append(inside, path)
			}
			return nil
		})
		slices.Reverse(inside) // the inner ones first
		var err error
		for _, each := range inside {
			err = errors.Join(err, os.Remove(each))
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the cgroup of a system that booted stays: %v", err)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Command is a command inside. One at a time runs in a root.
func (r *Root) Command(ctx context.Context, how Entered, argv ...string) (*exec.Cmd, error) {
	if len(argv) == 0 {
		return nil, errors.New("no command")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	plan, err := encode(plan{Lower: r.lower, Layer: r.layer, How: how, Argv: argv})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = []string{planVariable + "=" + plan}
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS}
	if !how.HostNetwork {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWNET
	}
	return cmd, nil
}
