// Package node runs a whole Kubernetes cluster of one node for tests: the control plane of
// package cluster, the controllers, the scheduler, kube-proxy, CoreDNS and a kubelet with
// Debian's containerd and runc, all in namespaces of their own. Tests of this module and the
// demo call it; it must never leave a process, a mount, a rule or a setting on the machine.
//
// Main re-executes a program inside the namespaces, so it is called first, in main or in
// TestMain; what it returns inside runs there, with the node's network as its own.
package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// insideVariable tells the program that it is in the namespaces, and names the folder of
// everything that the node keeps.
const insideVariable = "SLUICE_TEST_NODE"

// programs are what a node needs of the machine, and the Debian package of each.
var programs = map[string]string{
	"containerd": "containerd", "ctr": "containerd", "runc": "runc", "ip": "iproute2", "nft": "nftables", "conntrack": "conntrack",
}

// plugins is where Debian keeps the plugins of the network.
const plugins = "/usr/lib/cni"

// settings of the machine that a kubelet changes and that no namespace keeps to itself.
var settings = []string{"/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/panic", "/proc/sys/kernel/panic_on_oops"}

// Missing says why no node can run here; nil where it can, as far as can be seen before.
func Missing() error {
	if os.Geteuid() != 0 {
		return errors.New("a node needs root: it mounts, and it makes cgroups and namespaces")
	}
	for program, of := range programs {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("a node needs %s: apt-get install --no-install-recommends %s", program, of)
		}
	}
	if _, err := os.Stat(filepath.Join(plugins, "bridge")); err != nil {
		return errors.New("a node needs the plugins of the network: apt-get install --no-install-recommends containernetworking-plugins")
	}
	return nil
}

// Main runs run in namespaces of its own and returns its exit status. The program calls it
// before anything else; it is called again inside.
func Main(run func() int) (int, error) {
	if os.Getenv(insideVariable) != "" {
		if err := prepare(); err != nil {
			return 1, fmt.Errorf("prepare the namespaces of the node: %w", err)
		}
		return run(), nil
	}
	before := make(map[string][]byte)
	for _, path := range settings {
		value, err := os.ReadFile(path)
		if err != nil {
			return 1, err
		}
		before[path] = value
	}
	dir, err := os.MkdirTemp("", "node")
	if err != nil {
		return 1, err
	}
	// When the first process of the namespaces has ended, so have all, and their mounts.
	defer os.RemoveAll(dir)
	defer leave(before)
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), insideVariable+"="+dir, "TMPDIR="+dir, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:"+os.Getenv("PATH"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Its first process is the program itself: when that ends, every process of the node does.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("enter namespaces: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s) // it may have ended
		case err := <-ended:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return 1, err
			}
			if code := cmd.ProcessState.ExitCode(); code >= 0 {
				return code, nil
			}
			return 1, fmt.Errorf("the program in the namespaces ended: %w", err)
		}
	}
}

// prepare makes the mounts of the node, which the machine does not see.
func prepare() error {
	for _, mount := range []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"", "/", "", syscall.MS_REC | syscall.MS_PRIVATE, ""},
		{"", "/", "", syscall.MS_REC | syscall.MS_SHARED, ""}, // among the mounts of the node alone
		{"proc", "/proc", "proc", 0, ""},
		{"tmpfs", "/run", "tmpfs", 0, "mode=755"},     // shims and namespaces of Pods have fixed places there
		{"tmpfs", "/var/log", "tmpfs", 0, "mode=755"}, // and logs of Pods here
	} {
		if err := syscall.Mount(mount.source, mount.target, mount.kind, mount.flags, mount.data); err != nil {
			return fmt.Errorf("mount %s: %w", mount.target, err)
		}
	}
	return syscall.Sethostname([]byte(Name))
}

// leave takes back what outlives the namespaces: settings of the machine and empty cgroups.
func leave(before map[string][]byte) {
	for path, value := range before {
		if now, err := os.ReadFile(path); err == nil && string(now) != string(value) {
			_ = os.WriteFile(path, value, 0o644) // nobody is left to be told
		}
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/kubepods")
	if err != nil {
		return
	}
	for _, group := range append(groups, "/sys/fs/cgroup/kubepods") {
		removeGroups(group)
	}
}

// removeGroups removes a cgroup and those in it, as far as they are empty.
func removeGroups(group string) {
	inner, err := os.ReadDir(group)
	if err != nil {
		return
	}
	for _, one := range inner {
		if one.IsDir() && !strings.HasPrefix(one.Name(), ".") {
			removeGroups(filepath.Join(group, one.Name()))
		}
	}
	_ = os.Remove(group) // busy where another node runs
}
