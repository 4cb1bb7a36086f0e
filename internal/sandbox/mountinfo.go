package sandbox

import (
	"bufio"
	"fmt"
	"io"
	"os"
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
	list, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer list.Close()
	return parseMounted(list)
}

// parseMounted reads a list of the form of proc_pid_mountinfo(5). A line that it cannot
// read is an error: a mount that nobody sees is one that nobody covers.
func parseMounted(list io.Reader) (all []mounted, err error) {
	lines := bufio.NewScanner(list)
	lines.Buffer(nil, 1<<20) // overlay's options are long
	for lines.Scan() {
		// ID parent major:minor root mountpoint options… - type source options
		fields := strings.Fields(lines.Text())
		_, tail, _ := strings.Cut(lines.Text(), " - ")
		behind := strings.Fields(tail)
		if len(fields) < 6 || len(behind) < 2 {
			return nil, fmt.Errorf("list mounts: %q is not a mount", lines.Text())
		}
		all = append(all, mounted{
			id: fields[0], device: fields[2], root: unescapeMount(fields[3]), point: unescapeMount(fields[4]),
			own: fields[5], kind: behind[0], options: behind[len(behind)-1],
		})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return all, nil
}

// unescapeMount undoes \040 and its kind.
func unescapeMount(path string) string {
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

// mountOf returns the number of the mount in which a path lies, as mountinfo has it.
func mountOf(path string) (id string, err error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(info)) {
		if number, found := strings.CutPrefix(line, "mnt_id:"); found {
			return strings.TrimSpace(number), nil
		}
	}
	return "", fmt.Errorf("%s: the kernel does not tell its mount", path)
}
