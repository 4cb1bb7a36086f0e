package sandbox

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mounted is one line of mountinfo.
type mounted struct {
	id, device  string
	root, point string // in its filesystem, and here
	own         string // options of the mount alone
	kind        string // of filesystem
	options     string // of the filesystem
}

// readMounted returns the mounts of our namespace.
func readMounted() ([]mounted, error) {
	fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer unix.Close(fd)
	var usual [8 << 10]byte // most lists fit, and are read without garbage
	list, n := usual[:], 0
	for {
		if n == len(list) {
			list = append(list, make([]byte, len(list))...)
		}
		more, err := unix.Read(fd, list[n:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, fmt.Errorf("list mounts: %w", err)
		case more == 0:
			return parseMounted(string(list[:n]))
		default:
			n += more
		}
	}
}

// parseMounted reads a list of the form of proc_pid_mountinfo(5). A line that it cannot
// read is an error: a mount that nobody sees is one that nobody covers. What it returns
// are parts of the list: it is read often, and by an init whose memory counts.
func parseMounted(list string) (all []mounted, err error) {
	all = make([]mounted, 0, strings.Count(list, "\n"))
	for line := range strings.Lines(list) {
		line = strings.TrimSuffix(line, "\n")
		// ID parent major:minor root mountpoint options… - type source options, between which
		// the kernel writes spaces: every other blank is one of a path.
		var m mounted
		ahead, behind := 0, 0
		head, tail, _ := strings.Cut(line, " - ")
		for field := range strings.SplitSeq(head, " ") {
			switch ahead++; ahead {
			case 1:
				m.id = field
			case 3:
				m.device = field
			case 4:
				m.root = unescapeMount(field)
			case 5:
				m.point = unescapeMount(field)
			case 6:
				m.own = field
			}
		}
		for field := range strings.SplitSeq(tail, " ") {
			if behind++; behind == 1 {
				m.kind = field
			}
			m.options = field
		}
		if ahead < 6 || behind < 2 {
			return nil, fmt.Errorf("list mounts: %q is not a mount", line)
		}
		all = append(all, m)
	}
	return all, nil
}

// unescapeMount undoes \040 and its kind.
func unescapeMount(path string) string {
	if !strings.Contains(path, `\`) {
		return path
	}
	var plain strings.Builder
	for len(path) > 0 {
		if path[0] == '\\' && len(path) >= 4 {
			if b, err := strconv.ParseUint(path[1:4], 8, 8); err == nil {
				plain.WriteByte(byte(b))
				path = path[4:]
				continue
			}
		}
		plain.WriteByte(path[0])
		path = path[1:]
	}
	return plain.String()
}

// mountOf returns the number of the mount in which a path lies, as mountinfo has it. By
// statx(2) a filesystem of another user's refuses it.
func mountOf(path string) (id string, err error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	info, err := unix.Open("/proc/self/fdinfo/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(info)
	var text [256]byte // of its first three lines, of which the last is what we look for
	n, err := unix.Read(info, text[:])
	if err != nil {
		return "", err
	}
	for line := range bytes.Lines(text[:n]) {
		if number, found := bytes.CutPrefix(line, []byte("mnt_id:")); found && line[len(line)-1] == '\n' {
			return string(bytes.TrimSpace(number)), nil
		}
	}
	return "", fmt.Errorf("%s: the kernel does not tell its mount", path)
}
