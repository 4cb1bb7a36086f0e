package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// writable says which files of cgroups below a folder can be opened for writing, or
// take a cgroup more.
func writable(folder string) {
	if err := os.Mkdir(filepath.Join(folder, "of-the-command"), 0o755); err == nil {
		fmt.Println("made a cgroup in", folder)
	}
	for _, pattern := range []string{"cgroup.*", "*/cgroup.*", "tasks", "*/tasks", "freezer.state", "*/freezer.state"} {
		paths, _ := filepath.Glob(filepath.Join(folder, pattern))
		for _, path := range paths {
			if file, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
				fmt.Println("opened", path)
				if strings.HasSuffix(path, os.Getenv("OUTSIDE")+"/cgroup.kill") {
					file.WriteString("1")
				}
				file.Close()
			}
		}
	}
}

// cgroupWaysRole tries the mounts that there are, and then new ones in namespaces.
func cgroupWaysRole([]string) int {
	all, err := readMounted()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, m := range all {
		if strings.HasPrefix(m.kind, "cgroup") {
			writable(m.point)
		}
	}
	nested := exec.Command("/proc/self/exe")
	nested.Env = append(os.Environ(), roleVariable+"=cgroup-nested")
	nested.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_DAC_OVERRIDE},
	}
	output, err := nested.CombinedOutput()
	fmt.Print(string(output))
	if err != nil {
		fmt.Println("nested:", err)
	}
	return 0
}

func cgroupNestedRole([]string) int {
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
		for kind, options := range map[string][]string{"cgroup2": {""}, "cgroup": {"freezer", "pids", "memory", "cpu", "none,name=systemd"}} {
			for _, option := range options {
				if unix.Mount("none", "/mnt", kind, 0, option) == nil {
					writable("/mnt")
					unix.Unmount("/mnt", unix.MNT_DETACH)
				}
			}
		}
	}
	return 0
}

// An outside process in a cgroup of its own lives on, whatever is tried.
func TestCgroupsOfTheOutsideAreOutOfReach(t *testing.T) {
	needSandbox(t)
	outside := exec.Command("sleep", "600")
	if err := outside.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- outside.Wait() }()
	t.Cleanup(func() { outside.Process.Kill() })
	name := "outside-" + strconv.Itoa(os.Getpid())
	if all, err := readMounted(); err == nil && os.Geteuid() == 0 {
		for _, m := range all {
			folder := filepath.Join(m.point, name)
			if m.kind != "cgroup2" || os.Mkdir(folder, 0o755) != nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(folder, "cgroup.procs"), []byte(strconv.Itoa(outside.Process.Pid)), 0); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				outside.Process.Kill()
				eventually(t, "the cgroup is removed", func() bool { return os.Remove(folder) == nil })
			})
		}
	}
	p := newPlace(t, Config{Command: []string{"cgroup-ways"}, Env: append(os.Environ(), "OUTSIDE="+name)})
	if output, exit := p.run(t); exit != 0 || output != "" {
		t.Errorf("exit %d\n%s", exit, output)
	}
	select {
	case <-ended:
		t.Error("the process outside was ended")
	default:
	}
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
		got := mayWrite(test.list, all, func(path string) error {
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
