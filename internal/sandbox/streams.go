package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// StreamError says that a standard stream is a socket through which the command
// would reach the network outside: a socket stays in the namespace that it was
// made in, and who holds it can connect it anew.
type StreamError struct {
	Stream string // "standard input"
	What   string // "a network socket"
}

func (e *StreamError) Error() string {
	return fmt.Sprintf("%s is %s, through which the command could leave the sandbox; put a pipe between, as in: cat | sluice run … | cat", e.Stream, e.What)
}

// checkStreams refuses standard streams that are a way out. Files, pipes,
// terminals and connected unix streams, which cannot be connected anew, are none.
func (c *Config) checkStreams() error {
	streams := []struct {
		name string
		file *os.File
	}{
		{"standard input", or(c.Stdin, os.Stdin)},
		{"standard output", or(c.Stdout, os.Stdout)},
		{"standard error", or(c.Stderr, os.Stderr)},
	}
	for _, stream := range streams {
		raw, err := stream.file.SyscallConn()
		if err != nil {
			continue // closed: the command gets none
		}
		var what string
		if err := raw.Control(func(fd uintptr) { what = wayOut(int(fd)) }); err == nil && what != "" {
			return &StreamError{Stream: stream.name, What: what}
		}
	}
	return nil
}

// wayOut says what a descriptor is where it is one.
func wayOut(fd int) string {
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return "" // no socket
	}
	if family != unix.AF_UNIX {
		return "a network socket"
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind == unix.SOCK_DGRAM {
		return "a unix datagram socket"
	}
	if _, err := unix.Getpeername(fd); err != nil {
		return "a unix socket that is not connected"
	}
	return ""
}
