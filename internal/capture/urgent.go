package capture

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// InlineUrgent keeps TCP's urgent data in its place in the stream of a socket. Otherwise
// the kernel takes the urgent byte out, and who carries the rest on has lost it. A
// connection inherits it from its listener. That the byte was marked urgent is not carried:
// who looks for it reads it where it stands (RFC 6093 §6).
func InlineUrgent(fd int) error {
	return os.NewSyscallError("setsockopt SO_OOBINLINE", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1))
}

// ControlUrgent is InlineUrgent as the Control of a net.Dialer or net.ListenConfig.
func ControlUrgent(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) { failed = InlineUrgent(int(fd)) })
	if err == nil {
		err = failed
	}
	return err
}
