package sandbox

import (
	"fmt"
	"io"
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

// reopenStreams puts in the place of standard streams the same as the command's own mounts
// have them, for what was open before leads past these: a folder to everything that they
// hide, and a file that is only read to the same file for writing, where it is read-only
// inside.
func reopenStreams() error {
	for fd, name := range streamNames {
		var opened, now unix.Stat_t
		if unix.Fstat(fd, &opened) != nil {
			continue
		}
		if opened.Mode&unix.S_IFMT == unix.S_IFREG {
			if err := reopenReadOnly(fd, &opened); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			continue
		}
		if opened.Mode&unix.S_IFMT != unix.S_IFDIR {
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

// reopenReadOnly opens a file anew that is only read, where a mount of ours makes it
// read-only and it was not before. The place in it is kept, but from then on no longer
// shared with those outside; so it is done where it matters alone. What is open for writing
// its owner gave for that.
func reopenReadOnly(fd int, opened *unix.Stat_t) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	if flags&(unix.O_ACCMODE|unix.O_PATH) != unix.O_RDONLY || isReadOnly(fd) {
		return nil
	}
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return err
	}
	again, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // it has no name inside, and so no mount that could make it read-only
	}
	defer unix.Close(again)
	var now unix.Stat_t
	if unix.Fstat(again, &now) != nil || now.Dev != opened.Dev || now.Ino != opened.Ino || !isReadOnly(again) {
		return nil
	}
	at, err := unix.Seek(fd, 0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := unix.Seek(again, at, io.SeekStart); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(again), unix.F_SETFL, flags&unix.O_NONBLOCK); err != nil {
		return err
	}
	return unix.Dup3(again, fd, 0)
}

// isReadOnly says of an open file that its mount is read-only. What cannot be asked is
// not.
func isReadOnly(fd int) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(fd, &fs) == nil && fs.Flags&unix.ST_RDONLY != 0
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
