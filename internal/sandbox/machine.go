package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Machine is what this machine gives the sandboxes of this process: each of it was
// tried, or is read where the kernel says it, and nothing is concluded from a version.
type Machine struct {
	Kernel string `json:"kernel"` // its release
	// Privileged says that we have the capabilities with which a sandbox needs no user
	// namespace.
	Privileged bool        `json:"privileged"`
	Namespaces []Namespace `json:"namespaces"`
	Landlock   int         `json:"landlock"` // its ABI; 0 where there is none
	// Notification says that seccomp filters may notify.
	Notification bool      `json:"seccompNotification"`
	Cgroups      string    `json:"cgroups"` // "version 1", "version 2", "version 1 and 2" or "none"
	Limits       []Limit   `json:"limits"`
	Settings     []Setting `json:"settings"`
}

// Namespace is a kind of namespace, and why none of it can be made here; "" where one can.
type Namespace struct {
	Kind  string `json:"kind"`
	Error string `json:"error,omitempty"`
}

// Limit is a flag that bounds what a command uses, and why it cannot here; "" where it can.
type Limit struct {
	Flag  string `json:"flag"`
	Error string `json:"error,omitempty"`
}

// Setting is a sysctl that this kernel has.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// settings are the sysctls by which a machine keeps sandboxes from its users.
var settings = []string{
	"kernel.unprivileged_userns_clone", "kernel.apparmor_restrict_unprivileged_userns", "kernel.yama.ptrace_scope",
	"user.max_user_namespaces", "user.max_net_namespaces", "user.max_pid_namespaces", "user.max_mnt_namespaces",
}

// Examine looks at the machine. It takes about 50 ms and leaves nothing behind.
func Examine() (*Machine, error) {
	m := &Machine{Privileged: hasCapabilities(initCapabilities), Landlock: landlockABI(), Notification: hasNotification()}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, fmt.Errorf("read the kernel's release: %w", err)
	}
	m.Kernel = unix.ByteSliceToString(name.Release[:])
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	for _, kind := range []struct {
		name  string
		flags uintptr
		user  bool // with a user namespace, or in one
	}{
		{"user", 0, true},
		{"network", unix.CLONE_NEWNET, !m.Privileged},
		{"pid", unix.CLONE_NEWPID, !m.Privileged},
		{"mount", unix.CLONE_NEWNS, !m.Privileged},
		{"ipc", unix.CLONE_NEWIPC, !m.Privileged},
		{"cgroup", unix.CLONE_NEWCGROUP, !m.Privileged},
	} {
		found := Namespace{Kind: kind.name}
		if err := tryNamespace(null, kind.flags, kind.user); err != nil {
			found.Error = err.Error()
		}
		m.Namespaces = append(m.Namespaces, found)
	}
	all, err := readMounted()
	if err != nil {
		return nil, err
	}
	m.Cgroups = cgroupVersions(all)
	m.Limits = tryLimits()
	for _, name := range settings {
		if value := sysctl(strings.ReplaceAll(name, ".", "/")); value != "" {
			m.Settings = append(m.Settings, Setting{name, value})
		}
	}
	return m, nil
}

// tryNamespace starts an init in a namespace of its own. It finds no channel to its
// parent and ends at once: that it was started is the answer.
func tryNamespace(null *os.File, flags uintptr, user bool) error {
	attributes := namespaces(user)
	attributes.Cloneflags = flags
	if user {
		attributes.Cloneflags |= unix.CLONE_NEWUSER
	}
	attributes.Pdeathsig = 0 // it ends by itself, and our thread may end before it
	process, err := os.StartProcess("/proc/self/exe", []string{initName, "true"}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: []*os.File{null, null, null, null}, Sys: attributes,
	})
	if err != nil {
		var errno syscall.Errno
		if errors.As(err, &errno) {
			return errno // without the path of ours
		}
		return err
	}
	_, err = process.Wait()
	return err
}

// tryLimits makes a cgroup with each limit and removes it.
func tryLimits() (all []Limit) {
	for _, limits := range []Resources{{Pids: MostPids}, {Memory: MostMemory}, {CPUs: 1}} {
		for _, c := range limits.controllers() {
			limit := Limit{Flag: c.flag}
			g, err := makeGroup(limits)
			var refused *LimitError
			switch {
			case err == nil:
				g.remove()
			case errors.As(err, &refused):
				limit.Error = refused.Reason
			default:
				limit.Error = err.Error()
			}
			all = append(all, limit)
		}
	}
	return all
}

// OwnCgroups returns the folders of the cgroups in which this process is, and of those
// around them: their names tell of the machine and its user.
func OwnCgroups() (folders []string) {
	all, err := ownHierarchies()
	if err != nil {
		return nil
	}
	for _, h := range all {
		for folder := h.own; folder != "" && folder != h.mount && IsBelow(folder, h.mount); folder = filepath.Dir(folder) {
			folders = append(folders, folder)
		}
	}
	return folders
}

// Try makes a sandbox as `sluice run` does, runs true in it, and says what holds there.
// An *UnavailableError says why there is none.
func Try(ctx context.Context) (Enforcement, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return Enforcement{}, err
	}
	defer null.Close()
	s, err := New(ctx, Config{Command: []string{"true"}, Dir: "/", Stdin: null, Stdout: null, Stderr: null})
	if err != nil {
		return Enforcement{}, err
	}
	stop := context.AfterFunc(ctx, s.Kill)
	defer stop()
	held := s.Enforcement()
	err = s.Start(nil)
	if err != nil {
		s.Kill()
	}
	exit, ended := s.Wait()
	switch {
	case err != nil:
		return held, err
	case ended != nil:
		return held, ended
	case exit != 0:
		return held, fmt.Errorf("true ended with status %d in the sandbox", exit)
	}
	return held, nil
}

// landlockABI is what the kernel's Landlock can do; 0 where there is none.
func landlockABI() int {
	abi, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

// hasNotification says whether the kernel knows filters that notify (seccomp(2),
// SECCOMP_GET_ACTION_AVAIL).
func hasNotification() bool {
	action := uint32(unix.SECCOMP_RET_USER_NOTIF)
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	return errno == 0
}

// cgroupVersions says which of the two kinds of hierarchies are mounted here.
func cgroupVersions(all []mounted) string {
	kinds := make(map[string]bool)
	for _, m := range all {
		kinds[m.kind] = true
	}
	switch {
	case kinds["cgroup"] && kinds["cgroup2"]:
		return "version 1 and 2"
	case kinds["cgroup2"]:
		return "version 2"
	case kinds["cgroup"]:
		return "version 1"
	}
	return "none"
}

// More says what to change for what does not hold, one sentence each; what was lowered
// names its own cause where nothing here knows more.
func (m *Machine) More() (todo []string) {
	switch {
	case m.Landlock == 0:
		todo = append(todo, "boot Linux 6.12 or later with landlock among the security modules (lsm= on its command line): signals of the command then end at the sandbox")
	case m.Landlock < scopesABI:
		todo = append(todo, "boot Linux 6.12 or later: signals of the command then end at the sandbox")
	}
	if !m.Notification {
		todo = append(todo, "boot Linux 5.19 or later, or allow seccomp(2) here: unix sockets are then decided over at connect")
	}
	for _, s := range m.Settings {
		if s == (Setting{"kernel.yama.ptrace_scope", "3"}) {
			todo = append(todo, "boot with kernel.yama.ptrace_scope below 3, which only a boot changes: unix sockets are then decided over at connect")
		}
	}
	if m.Privileged && os.Geteuid() == 0 {
		todo = append(todo, "name an ordinary user with --run-as, or be one: root's files are then isolated too")
	}
	return todo
}
