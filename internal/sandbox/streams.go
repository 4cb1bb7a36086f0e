package sandbox

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// StreamError says that a standard stream is a way out: a socket, which stays in the
// namespace that it was made in and can be connected anew, or a folder that is hidden.
type StreamError struct {
	Stream string // "standard input"
	What   string // "a network socket"
}

func (e *StreamError) Error() string {
	if e.What == hiddenFolder {
		return fmt.Sprintf("%s is %s, through which the command would reach what is in it", e.Stream, e.What)
	}
	return fmt.Sprintf("%s is %s, through which the command could leave the sandbox; put a pipe between, as in: cat | sluice run … | cat", e.Stream, e.What)
}

const hiddenFolder = "a folder that is hidden from the command"

// streamNames are those of the descriptors 0, 1 and 2.
var streamNames = [...]string{"standard input", "standard output", "standard error"}

// reopenFolders puts in the place of each standard stream that is a folder the same
// one as the command's own mounts have it: below what was open before, everything
// that they hide would be in reach.
func reopenFolders() error {
	for fd, name := range streamNames {
		var opened, now unix.Stat_t
		if unix.Fstat(fd, &opened) != nil || opened.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		refused := &StreamError{Stream: name, What: hiddenFolder}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		if err != nil {
			return refused
		}
		again, err := unix.Open(path, flags&unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return refused
		}
		same := unix.Fstat(again, &now) == nil && now.Dev == opened.Dev && now.Ino == opened.Ino
		if same {
			err = unix.Dup3(again, fd, 0)
		}
		unix.Close(again)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if !same {
			return refused
		}
	}
	return nil
}

// checkStreams refuses standard streams that are a way out. Files, pipes,
// terminals and connected unix streams, which cannot be connected anew, are none.
func (c *Config) checkStreams() error {
	streams := []struct {
		name string
		file *os.File
	}{
		{streamNames[0], or(c.Stdin, os.Stdin)},
		{streamNames[1], or(c.Stdout, os.Stdout)},
		{streamNames[2], or(c.Stderr, os.Stderr)},
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
