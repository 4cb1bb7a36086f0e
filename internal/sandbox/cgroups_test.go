package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// foreign says what of a mount of cgroups is not of this sandbox, and tries it: the
// cgroups in which the kernel shows processes without a number here, or that are named
// as those of the test, and files that can be written where none is to be.
func foreign(folder string, readOnly bool) {
	name := os.Getenv("OUTSIDE")
	filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return nil
		}
		seen := slices.Contains(words(filepath.Join(path, procsFile)), "0")
		if seen && !readOnly && os.Getenv("SHARED") == "" {
			fmt.Println("sees processes of the outside in", path)
		}
		if readOnly {
			if err := os.Mkdir(filepath.Join(path, "of-the-command"), 0o755); err == nil {
				fmt.Println("made a cgroup in", path)
			}
		}
		if !readOnly && !seen && filepath.Base(path) != name {
			return nil
		}
		for file, attack := range map[string]string{"cgroup.kill": "1", "cgroup.freeze": "1", "freezer.state": "FROZEN", procsFile: "0", "tasks": "0", "memory.max": "0"} {
			file, err := os.OpenFile(filepath.Join(path, file), os.O_WRONLY, 0)
			if err != nil {
				continue
			}
			fmt.Println("opened", file.Name())
			if filepath.Base(path) == name { // all else may be the machine's own
				file.WriteString(attack)
			}
			file.Close()
		}
		return nil
	})
}

// cgroupWaysRole tries the mounts that there are, and then new ones in namespaces.
func cgroupWaysRole([]string) int {
	all, err := readMounted()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, m := range all {
		if isCgroups(m) {
			foreign(m.point, true)
		}
	}
	if err := enterNamespaceOf("/proc/1/ns/cgroup"); err == nil {
		fmt.Println("entered the cgroup namespace of init")
	}
	fmt.Print(nestedOutput("cgroup-nested"))
	return 0
}

func enterNamespaceOf(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Setns(fd, unix.CLONE_NEWCGROUP)
}

// nestedOutput runs a role in a user and a mount namespace of its own.
func nestedOutput(role string) string {
	nested := exec.Command("/proc/self/exe")
	nested.Env = append(os.Environ(), roleVariable+"="+role)
	nested.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_DAC_OVERRIDE},
	}
	output, err := nested.CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%snested: %v\n", output, err)
	}
	return string(output)
}

// hierarchyKinds are what can be mounted, with the options of each.
func hierarchyKinds() (kinds [][2]string) {
	kinds = append(kinds, [2]string{"cgroup2", ""})
	for _, option := range []string{"freezer", "pids", "memory", "cpu", "cpu,cpuacct", "cpuacct", "cpuset", "devices", "blkio", "none,name=systemd"} {
		kinds = append(kinds, [2]string{"cgroup", option})
	}
	return kinds
}

func cgroupNestedRole([]string) int {
	runtime.LockOSThread() // its namespace is the thread's
	if err := unix.Mount("tmpfs", "/mnt", "tmpfs", 0, ""); err != nil {
		fmt.Println("mount in the namespace:", err) // it has the right: else nothing is tried
	}
	for _, own := range []bool{false, true} {
		if own && unix.Unshare(unix.CLONE_NEWCGROUP) != nil {
			if err := call(unix.SYS_CLONE3); err != unix.ENOSYS {
				fmt.Println("clone3:", err)
			}
			if err := call(unix.SYS_CLONE, unix.CLONE_NEWCGROUP|uintptr(unix.SIGCHLD)); err != unix.EPERM {
				fmt.Println("clone:", err)
			}
			break
		}
		mounts, last := 0, error(nil)
		for _, kind := range hierarchyKinds() {
			if last = unix.Mount("none", "/mnt", kind[0], 0, kind[1]); last == nil {
				mounts++
				foreign("/mnt", false)
				unix.Unmount("/mnt", unix.MNT_DETACH)
			}
		}
		if own && mounts == 0 {
			fmt.Println("nothing could be mounted, so nothing was tried:", last)
		}
	}
	return 0
}

// outsider is a process outside in a cgroup of its own, in every hierarchy where we may
// make one.
func outsider(t *testing.T) (name string, untouched func() bool) {
	outside := exec.Command("sleep", "600")
	if err := outside.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { outside.Wait(); close(ended) }()
	t.Cleanup(func() { outside.Process.Kill() })
	pid := strconv.Itoa(outside.Process.Pid)
	name = "outside-" + strconv.Itoa(os.Getpid())
	all, err := ownHierarchies()
	if err != nil {
		t.Skip(err)
	}
	var made []string
	for _, h := range all {
		folder := filepath.Join(h.own, name)
		if h.own == "" || os.Mkdir(folder, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			writeFile(filepath.Join(folder, "freezer.state"), "THAWED")
			outside.Process.Kill()
			eventually(t, "the cgroup is removed", func() bool { return os.Remove(folder) == nil })
		})
		if h.has("cpuset") {
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				writeFile(filepath.Join(folder, file), strings.Join(words(filepath.Join(h.own, file)), ""))
			}
		}
		if err := writeFile(filepath.Join(folder, procsFile), pid); err != nil {
			t.Fatal(err)
		}
		made = append(made, folder)
	}
	return name, func() bool {
		select {
		case <-ended:
			return false
		default:
		}
		for _, folder := range made {
			if !slices.Contains(words(filepath.Join(folder, procsFile)), pid) || counter(filepath.Join(folder, "cgroup.events"), "frozen") == 1 ||
				slices.Contains(words(filepath.Join(folder, "freezer.state")), "FROZEN") {
				return false
			}
		}
		return true
	}
}

// cgroupsVariable says how the test runs once more: where cgroups are read-only, or as a
// user to whom one is delegated.
const cgroupsVariable = "SANDBOX_TEST_CGROUPS"

// An outside process in a cgroup of its own lives on, whatever is tried, and the command
// sees no cgroup but its own.
func TestCgroupsOfTheOutsideAreOutOfReach(t *testing.T) {
	needSandbox(t)
	binary := worldReadableBinary(t)
	how := os.Getenv(cgroupsVariable)
	if how == "read-only" {
		makeCgroupsReadOnly(t)
	}
	name, untouched := outsider(t)
	for what, config := range map[string]Config{
		"as we are":              {},
		"in a user namespace":    {UserNamespace: true},
		"as another user":        {RunAs: &Identity{UID: ordinaryUser, GID: ordinaryUser}},
		"without the supervisor": {Unsupervised: true},
	} {
		t.Run(what, func(t *testing.T) {
			if config.RunAs != nil && os.Geteuid() != 0 {
				t.Skip("only root runs a command as another user")
			}
			config.Command = []string{binary}
			config.Env = append(os.Environ(), "OUTSIDE="+name, roleVariable+"=cgroup-ways")
			own := how == "delegated" || how == "" && os.Geteuid() == 0
			if !own {
				config.Env = append(config.Env, "SHARED=yes") // it may see what it cannot write
			}
			p := newPlace(t, config)
			if output, exit := p.run(t); exit != 0 || output != "" {
				t.Errorf("exit %d\n%s", exit, output)
			}
			if !untouched() {
				t.Error("the process outside was ended, frozen or moved")
			}
			if shared := p.Enforcement().SharedCgroup; (shared == "") != own {
				t.Errorf("a cgroup of its own: %q", shared)
			}
		})
	}
	if how == "" && os.Geteuid() == 0 {
		t.Run("where none can be made", func(t *testing.T) {
			again(t, binary, "read-only", &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS})
		})
		t.Run("as a user to whom one is delegated", func(t *testing.T) {
			attributes := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}}
			delegate(t, attributes)
			again(t, binary, "delegated", attributes)
		})
	}
}

// worldReadableBinary is this one where every user finds it.
func worldReadableBinary(t *testing.T) string {
	folder, err := os.MkdirTemp("/tmp", "sandbox-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(folder, "sandbox.test")
	copyFile(t, "/proc/self/exe", binary)
	return binary
}

// again runs the test that calls it in another process.
func again(t *testing.T, binary, how string, attributes *syscall.SysProcAttr) {
	name, _, _ := strings.Cut(t.Name(), "/")
	command := exec.CommandContext(t.Context(), binary, "-test.run=^"+name+"$", "-test.v")
	command.Dir = "/"
	command.Env = append(os.Environ(), cgroupsVariable+"="+how, "TMPDIR=/tmp", "HOME=/tmp")
	command.SysProcAttr = attributes
	output, err := command.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "--- PASS: "+name) {
		t.Errorf("%v\n%s", err, output)
	}
}

func makeCgroupsReadOnly(t *testing.T) {
	all, err := readMounted()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if !isCgroups(m) {
			continue
		}
		if err := unix.MountSetattr(-1, m.point, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			t.Fatal(err)
		}
	}
}

// delegate makes a version 2 cgroup that is the ordinary user's, for a process to start in.
func delegate(t *testing.T, attributes *syscall.SysProcAttr) {
	all, err := ownHierarchies()
	if err != nil {
		t.Skip(err)
	}
	i := slices.IndexFunc(all, func(h hierarchy) bool { return h.controllers == "" && h.own != "" })
	if i < 0 {
		t.Skip("no cgroups of version 2 here")
	}
	folder := filepath.Join(all[i].own, "delegated-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { eventually(t, "the cgroup is removed", func() bool { return os.Remove(folder) == nil }) })
	for _, name := range []string{"", procsFile, subtreeFile, "cgroup.threads"} {
		if err := os.Chown(filepath.Join(folder, name), ordinaryUser, ordinaryUser); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	attributes.UseCgroupFD, attributes.CgroupFD = true, fd
}

func TestCgroupNamespacesAreGivenWhereNothingIsWritable(t *testing.T) {
	all := []mounted{
		{root: "/", point: "/sys/fs/cgroup/unified", kind: "cgroup2", options: "rw"},
		{root: "/", point: "/sys/fs/cgroup/pids", kind: "cgroup", options: "rw,pids"},
	}
	const list = "4:pids:/user\n0::/user\n"
	for _, test := range []struct {
		name, list string
		access     map[string]error
		want       bool
	}{
		{"root's alone", list, nil, false},
		{"one that is the user's", list, map[string]error{"/sys/fs/cgroup/unified/user/cgroup.procs": nil}, true},
		{"a folder of the user's", list, map[string]error{"/sys/fs/cgroup/pids/user": nil}, true},
		{"one that is read-only here", list, map[string]error{"/sys/fs/cgroup/unified/user/cgroup.procs": unix.EROFS}, true},
		{"one that is not found", list, map[string]error{"/sys/fs/cgroup/pids/user": unix.ENOENT}, true},
		{"a hierarchy that is not mounted", "5:cpu:/\n", nil, true},
		{"a list of another form", "?\n", nil, true},
	} {
		got := mayWrite(test.list, all, nil, func(path string) error {
			if err, found := test.access[path]; found {
				return err
			}
			return unix.EACCES
		})
		if got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
