package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// MaxUnix bounds Config.Unix.
const MaxUnix = 32

// namedSocket is a socket file outside that its owner lets the command reach.
type namedSocket struct {
	path string // as it was named
	real string // without links
	file int    // O_PATH; it is the inode that counts, for the command may rename files
}

// checkUnix says what is wrong with Config.Unix before anything is made.
func (c *Config) checkUnix() error {
	if len(c.Unix) > MaxUnix {
		return fmt.Errorf("sandbox: %d unix sockets, at most %d are taken", len(c.Unix), MaxUnix)
	}
	for _, path := range c.Unix {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("sandbox: the unix socket %q: not an absolute path", path)
		}
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return fmt.Errorf("sandbox: the unix socket: %w", err)
		case info.Mode().Type() != os.ModeSocket:
			return fmt.Errorf("sandbox: the unix socket %s: not a socket", path)
		}
	}
	return nil
}

// openNamed opens them before anything is mounted over them.
func openNamed(paths []string) (named []namedSocket, err error) {
	for _, path := range paths {
		s := namedSocket{path: filepath.Clean(path)}
		if s.real, err = filepath.EvalSymlinks(path); err == nil {
			s.file, err = unix.Open(s.real, unix.O_PATH|unix.O_CLOEXEC, 0)
		}
		if err != nil {
			closeNamed(named)
			return nil, fmt.Errorf("the unix socket %s: %w", path, err)
		}
		named = append(named, s)
	}
	return named, nil
}

func closeNamed(named []namedSocket) {
	for _, s := range named {
		unix.Close(s.file)
	}
}

// placeNamed gives them a name again where a folder around them is masked, and
// leaves all others alone.
func placeNamed(named []namedSocket, masked []string) error {
	for _, s := range named {
		for _, path := range []string{s.real, s.path} {
			if _, err := os.Stat(path); err == nil || !errors.Is(err, os.ErrNotExist) || !isBelowAny(path, masked) {
				continue
			}
			if err := bindName(path, s.file); err != nil {
				return fmt.Errorf("the unix socket %s: %w", s.path, err)
			}
		}
	}
	return nil
}

// bindName makes a name for an open file in a folder that is ours.
func bindName(path string, file int) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	empty, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	empty.Close()
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(file), path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount it: %w", err)
	}
	return nil
}

func isBelowAny(path string, folders []string) bool {
	for _, folder := range folders {
		if IsBelow(path, folder) {
			return true
		}
	}
	return false
}
