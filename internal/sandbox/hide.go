package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// maxHiddenSockets bounds how many sockets outside of masked folders are hidden, and
	// maxSocketList how much of the kernel's list is read for them, in bytes.
	maxHiddenSockets = 1024
	maxSocketList    = 16 << 20
)

// hideSockets puts /dev/null over every unix socket with a path that the machine
// has now: daemons that obey the user (ssh-agent, tmux, X11, a database) listen
// there, and a path knows no network namespace. It is for where connects cannot be
// decided over; named are left. Lists holds the open /proc/net/unix of the namespace
// outside. The note says what stays in reach.
func hideSockets(lists []int, named []namedSocket) (note string, err error) {
	if len(lists) == 0 {
		return "unix sockets with a path stay in reach outside of /run: the machine's list of them cannot be read", nil
	}
	list, err := unix.Dup(lists[0])
	if err != nil {
		return "", fmt.Errorf("list the machine's sockets: %w", err)
	}
	file := os.NewFile(uintptr(list), "sockets")
	defer file.Close()
	paths, whole, err := socketPaths(file)
	if err != nil {
		return "", fmt.Errorf("list the machine's sockets: %w", err)
	}
	all, err := readMounted()
	if err != nil {
		return "", err
	}
	hidden := 0
	for _, path := range append(paths, boundPaths(all)...) {
		if !isSocket(path) || isNamed(path, named) { // masked already, gone, or where neither we nor the command get
			continue
		}
		if hidden == maxHiddenSockets {
			whole = false
			break
		}
		if err := bindDevice(os.DevNull, path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("hide the socket %s: %w", path, err)
		}
		hidden++
	}
	if !whole {
		note = fmt.Sprintf("the machine has more than %d unix sockets outside of /run: the others stay in reach", maxHiddenSockets)
	}
	return note, nil
}

// isNamed says of a path that it leads to one of the sockets that the owner named.
func isNamed(path string, named []namedSocket) bool {
	var found, wanted unix.Stat_t
	if len(named) == 0 || unix.Stat(path, &found) != nil {
		return false
	}
	for _, socket := range named {
		if unix.Fstat(socket.file, &wanted) == nil && wanted.Dev == found.Dev && wanted.Ino == found.Ino {
			return true
		}
	}
	return false
}

func isSocket(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().Type() == os.ModeSocket
}

// socketPaths returns the absolute paths in a list as /proc/net/unix has it, each
// once. One that was bound by a relative path cannot be found.
func socketPaths(list io.Reader) (paths []string, whole bool, err error) {
	limited := &io.LimitedReader{R: list, N: maxSocketList}
	seen := make(map[string]bool)
	lines := bufio.NewScanner(limited)
	for lines.Scan() {
		// Num RefCount Protocol Flags Type St Inode Path
		_, path, found := strings.Cut(lines.Text(), " /")
		path = "/" + path
		if found && !IsBelow(path, runFolder) && !seen[path] {
			seen[path] = true
			paths = append(paths, path)
		}
	}
	return paths, limited.N > 0, lines.Err()
}

// boundPaths returns where single files may be mounted, as a socket of the machine is
// into a container: its listener is in no list that we see.
func boundPaths(all []mounted) (paths []string) {
	for _, m := range all {
		if m.root != "/" && !isRemote(m.kind) {
			paths = append(paths, m.point)
		}
	}
	return paths
}

// isRemote says of which filesystems a dead server would keep us waiting.
func isRemote(kind string) bool {
	for _, prefix := range []string{"nfs", "cifs", "smb", "fuse", "9p", "afs", "ceph", "autofs"} {
		if strings.HasPrefix(kind, prefix) {
			return true
		}
	}
	return false
}
