package bare

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// cgroups mounts the cgroup v2 tree of this process's namespace, as an init wants it. On
// a machine with hierarchies of v1 an init of today cannot be had.
func cgroups(at string) error {
	var now unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &now); err != nil {
		return err
	}
	if now.Type != unix.CGROUP2_SUPER_MAGIC {
		return errors.New("this machine has not the one hierarchy of cgroup v2 at /sys/fs/cgroup")
	}
	if err := os.MkdirAll(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return unix.Mount("cgroup2", filepath.Clean(at), "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}
