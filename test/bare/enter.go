package bare

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// planVariable holds a plan in the environment of the process that carries it out.
const planVariable = "SLUICE_TEST_BARE"

// leaveTime is how long what a command left running may take to end by itself.
const leaveTime = 20 * time.Second

// plan is one entry into a root.
type plan struct {
	Lower, Layer string
	How          Entered
	Argv         []string
}

func encode(p plan) (string, error) {
	b, err := json.Marshal(p)
	return string(b), err
}

// Main enters a root where this process was started for that, and then does not return.
// A TestMain calls it first.
func Main() {
	text, ours := os.LookupEnv(planVariable)
	if !ours {
		return
	}
	runtime.LockOSThread() // a namespace of cgroups is that of a thread
	var p plan
	err := json.Unmarshal([]byte(text), &p)
	if err == nil {
		err = p.enter()
	}
	if err == nil {
		err = p.run()
	}
	fmt.Fprintln(os.Stderr, "enter the bare root:", err)
	os.Exit(125)
}

// step is one call, with what it is called in an error.
type step struct {
	name string
	do   func() error
}

func mount(source, target, kind string, flags uintptr, data string) step {
	return step{"mount " + kind + " at " + target, func() error {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		return unix.Mount(source, target, kind, flags, data)
	}}
}

// enter makes the root this process's own. What is mounted is gone with its namespace.
func (p *plan) enter() error {
	root := filepath.Join(p.Layer, "merged")
	in := func(path string) string { return filepath.Join(root, path) }
	layers := "lowerdir=" + p.Lower + ",upperdir=" + filepath.Join(p.Layer, "upper") + ",workdir=" + filepath.Join(p.Layer, "work")
	steps := []step{
		mount("", "/", "nothing", unix.MS_REC|unix.MS_PRIVATE, ""),
		mount("bare", root, "overlay", 0, layers),
		mount("proc", in("proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""),
		p.sys(in("sys")),
		mount("tmpfs", in("dev"), "tmpfs", unix.MS_NOSUID, "mode=0755"),
		mount("devpts", in("dev/pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"),
		mount("tmpfs", in("dev/shm"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"),
		mount("tmpfs", in("run"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"),
		{"open /tmp", func() error { return os.Chmod(in("tmp"), os.ModeSticky|0o777) }}, // a test may have put something there
		{"fill /dev", func() error { return devices(in("dev")) }},
	}
	if p.How.Cgroup != "" {
		steps = append(ownGroup(p.How.Cgroup), append(steps, systemsOwn(in)...)...)
	}
	places := make([]string, 0, len(p.How.Binds))
	for place := range p.How.Binds {
		places = append(places, place)
	}
	sort.Strings(places) // one may be inside another
	for _, place := range places {
		steps = append(steps, mount(p.How.Binds[place], in(place), "", unix.MS_BIND|unix.MS_REC, ""))
		if slices.Contains(p.How.ReadOnly, place) {
			steps = append(steps, mount("", in(place), "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		}
	}
	steps = append(steps,
		step{"go to the root", func() error { return os.Chdir(root) }},
		step{"pivot_root", func() error { return unix.PivotRoot(".", ".") }},
		step{"leave the machine's root", func() error { return unix.Unmount(".", unix.MNT_DETACH) }},
		step{"go to /", func() error { return os.Chdir("/") }},
		step{"name the machine", func() error { return unix.Sethostname([]byte("bare")) }},
	)
	if !p.How.HostNetwork {
		steps = append(steps, step{"set loopback up", loopback})
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// sys is the machine's /sys, or a read-only one of a system of its own: what that would
// set is the machine's too.
func (p *plan) sys(at string) step {
	if p.How.Cgroup != "" {
		return mount("sysfs", at, "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, "")
	}
	return mount("/sys", at, "", unix.MS_BIND|unix.MS_REC, "")
}

// ownGroup goes into a group and makes it the root of all groups that are seen.
func ownGroup(group string) []step {
	return []step{
		{"go into " + group, func() error { return os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("0"), 0) }},
		{"make it the root", func() error { return unix.Unshare(unix.CLONE_NEWCGROUP) }},
	}
}

// systemsOwn are the mounts of a system that boots.
func systemsOwn(in func(string) string) []step {
	return []step{
		mount("cgroup2", in("sys/fs/cgroup"), "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""),
		mount(in("proc/sys"), in("proc/sys"), "", unix.MS_BIND, ""),
		mount("", in("proc/sys"), "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""),
	}
}

// devices are those that every machine has, as the host's own.
func devices(dev string) error {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		at := filepath.Join(dev, name)
		if err := os.WriteFile(at, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+name, at, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"} {
		if err := os.Symlink(to, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	return nil
}

func loopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}

// run goes on as the command, or as the init of it.
func (p *plan) run() error {
	path := p.Argv[0]
	if !strings.Contains(path, "/") {
		for _, folder := range []string{"/usr/local/go/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"} {
			if _, err := os.Stat(filepath.Join(folder, path)); err == nil {
				path = filepath.Join(folder, path)
				break
			}
		}
	}
	if p.How.Cgroup != "" {
		return unix.Exec(path, p.Argv, p.How.Env)
	}
	// They are the command's, which gets them as the rest of its group does.
	signal.Notify(make(chan os.Signal, 1), unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	cmd := exec.Cmd{Path: path, Args: p.Argv, Env: p.How.Env, Dir: "/", Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if err := cmd.Start(); err != nil {
		return err
	}
	code := 0
	for { // orphans too
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if pid == cmd.Process.Pid {
			code = status.ExitStatus()
			if status.Signaled() {
				code = 128 + int(status.Signal())
			}
			break
		}
	}
	_ = unix.Kill(-1, unix.SIGTERM)
	time.AfterFunc(leaveTime, func() { os.Exit(code) }) // the kernel kills the rest
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil && !errors.Is(err, unix.EINTR) {
			os.Exit(code)
		}
	}
}
