package supervise

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilities are what a supervisor needs, by their names.
var capabilities = []struct {
	number int
	name   string
}{
	{unix.CAP_NET_ADMIN, "NET_ADMIN"},   // which file a socket is bound to
	{unix.CAP_SYS_PTRACE, "SYS_PTRACE"}, // descriptors and memory of the command
	{unix.CAP_SYS_CHROOT, "SYS_CHROOT"}, // paths as the command sees them
}

// userCapabilities are what it needs to connect as another user.
var userCapabilities = []struct {
	number int
	name   string
}{{unix.CAP_SETUID, "SETUID"}, {unix.CAP_SETGID, "SETGID"}}

// Available says whether this process can supervise, by trying on itself what it
// will do to others. The error says in one line what is missing. /proc must be
// that of this PID namespace.
func Available(oneUser bool) error {
	needed := capabilities
	if !oneUser {
		needed = append(needed[:len(needed):len(needed)], userCapabilities...)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var held [2]unix.CapUserData
	if err := unix.Capget(&header, &held[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for _, c := range needed {
		if held[0].Effective&(1<<c.number) == 0 {
			return fmt.Errorf("the capability %s is missing", c.name)
		}
	}
	if scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil && strings.TrimSpace(string(scope)) == "3" {
		return errors.New("kernel.yama.ptrace_scope is 3")
	}
	if self, err := os.Readlink("/proc/self"); err != nil || self != fmt.Sprint(os.Getpid()) {
		return errors.New("/proc is that of another PID namespace")
	}
	return tryCalls()
}

// tryCalls makes those calls that an old kernel or a filter around us lacks.
func tryCalls() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("a unix socket: %w", err)
	}
	defer unix.Close(socket)
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(pidfd)
	same, err := unix.PidfdGetfd(pidfd, socket, 0)
	if err != nil {
		return fmt.Errorf("pidfd_getfd: %w", err)
	}
	unix.Close(same)
	from, into := []byte{1}, []byte{0}
	if errno := copyMemory(uint32(os.Getpid()), addressOf(from), into); errno != 0 {
		return fmt.Errorf("process_vm_readv: %w", errno)
	}
	root, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return fmt.Errorf("openat2: %w", err)
	}
	unix.Close(root)
	// A socket without a file: without the right to ask it would be EPERM.
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), siocUnixFile, 0); errno != unix.ENOENT {
		return fmt.Errorf("the file of a unix socket: %w", errno)
	}
	return nil
}
