package peer

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

type namespaceKind struct {
	name    string // under /proc/PID/ns
	request uint   // ioctl on a pidfd
}

var (
	pidNamespace  = namespaceKind{"pid", unix.PIDFD_GET_PID_NAMESPACE}
	userNamespace = namespaceKind{"user", unix.PIDFD_GET_USER_NAMESPACE}
)

// system is the kernel that we run on.
type system struct{}

func (system) pidfd(socket, pid int) (int, error) {
	pidfd, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err == unix.ENOPROTOOPT || err == unix.EINVAL { // before 6.5
		pidfd, err = unix.PidfdOpen(pid, 0)
	}
	return pidfd, err
}

func (system) namespace(pidfd int, kind namespaceKind) (string, error) {
	fd, err := unix.IoctlRetInt(pidfd, kind.request)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// namespaceByNumber finds the namespace through /proc. For a PID namespace, a
// line that everybody may read says enough: a process of a child namespace has a
// number in each.
func namespaceByNumber(pid int, kind namespaceKind) (string, error) {
	if kind == pidNamespace {
		numbers, err := status(fmt.Sprint(pid), "NSpid")
		if err != nil {
			return "", err
		}
		if n := len(strings.Fields(numbers)); n != 1 {
			return fmt.Sprintf("pid:[%d levels below]", n-1), nil
		}
	}
	return os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind.name))
}

// status returns a line of /proc/PID/status.
func status(pid, field string) (string, error) {
	content, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("/proc/%s/status has no %s", pid, field)
}
