package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	userID   = 1000
	userHome = "/home/user"
	cgroups  = "/sys/fs/cgroup"
	// userCgroup is handed to the user, as a login does.
	userCgroup   = cgroups + "/user"
	systemCgroup = cgroups + "/system"
)

// mounts are what a machine has before anybody logs in, in order.
var mounts = []struct {
	kind, point, options string
	flags                uintptr
}{
	{"proc", "/proc", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"sysfs", "/sys", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"devtmpfs", "/dev", "mode=0755", unix.MS_NOSUID},
	{"devpts", "/dev/pts", "mode=0620,gid=5,ptmxmode=0666", unix.MS_NOSUID | unix.MS_NOEXEC},
	{"tmpfs", "/dev/shm", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
	{"mqueue", "/dev/mqueue", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"tmpfs", "/run", "mode=0755", unix.MS_NOSUID | unix.MS_NODEV},
	{"tmpfs", "/tmp", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
	{"cgroup2", cgroups, "nsdelegate", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
}

// begin is the first process: it makes the machine ready, lets the rows run, buries
// whatever is left to it, and ends the machine.
func begin() {
	err := prepare()
	if err == nil {
		err = runToItsEnd("/bin/guest", "rows")
	}
	if err != nil {
		fmt.Println("guest: the machine ends:", err)
	}
	unix.Sync()
	time.Sleep(100 * time.Millisecond) // the console's last bytes are on their way
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

func prepare() error {
	for _, m := range mounts {
		err := os.MkdirAll(m.point, 0o755)
		if err == nil {
			err = unix.Mount(m.kind, m.point, m.kind, m.flags, m.options)
		}
		if err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.point, err)
		}
	}
	for name, target := range map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "fd/0", "/dev/stdout": "fd/1", "/dev/stderr": "fd/2"} {
		if err := os.Symlink(target, name); err != nil {
			return err
		}
	}
	runtime := fmt.Sprintf("/run/user/%d", userID)
	return errors.Join(
		unix.Sethostname([]byte("guest")),
		loopbackUp(),
		os.Chown(userHome, userID, userID),
		os.MkdirAll(runtime, 0o755), os.Chmod(runtime, 0o700), os.Chown(runtime, userID, userID),
		prepareCgroups(),
	)
}

func loopbackUp() error {
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

// prepareCgroups gives every controller to the cgroups of root and of the user, and the
// second to the user.
func prepareCgroups() error {
	all, err := os.ReadFile(cgroups + "/cgroup.controllers")
	if err != nil {
		return err
	}
	var enable []string
	for _, controller := range strings.Fields(string(all)) {
		enable = append(enable, "+"+controller)
	}
	err = os.WriteFile(cgroups+"/cgroup.subtree_control", []byte(strings.Join(enable, " ")), 0)
	for _, folder := range []string{userCgroup, systemCgroup} {
		err = errors.Join(err, os.Mkdir(folder, 0o755))
	}
	for _, file := range []string{"", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"} {
		err = errors.Join(err, os.Chown(userCgroup+file, userID, userID))
	}
	return err
}

// runToItsEnd runs a command, and waits for every process that is left to us.
func runToItsEnd(path string, arguments ...string) error {
	command := exec.Command(path, arguments...)
	command.Env = []string{"PATH=/bin:/sbin", "HOME=/root", "TMPDIR=/tmp", "TERM=dumb"}
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return err
	}
	for {
		var status unix.WaitStatus
		switch pid, err := unix.Wait4(-1, &status, 0, nil); {
		case err != nil && err != unix.EINTR:
			return err
		case pid == command.Process.Pid && (status.Exited() && status.ExitStatus() == 0):
			return nil
		case pid == command.Process.Pid:
			return fmt.Errorf("%s %s: status %#x", path, strings.Join(arguments, " "), int(status))
		}
	}
}
