package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Uid 0 opens disks, keyboards and the screens of others by its number, and with
// CAP_DAC_OVERRIDE by any. So it gets a /dev of its own, and no other device file works,
// wherever the machine has one.

const devFolder = "/dev"

// deviceFiles are those that reach nobody.
var deviceFiles = []struct {
	name         string
	major, minor uint32
}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}

// deviceFolders are made where the machine has them, for what is mounted there.
var deviceFolders = []string{"pts", "shm", "mqueue"}

var deviceLinks = []struct{ name, target string }{
	{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
	{"ptmx", "pts/ptmx"},
}

// rootRights is what a command as uid 0 has.
type rootRights struct {
	ownDevices bool // and no others
	files      bool // fileCapabilities
}

// giveRoot closes the machine's device files where the command is uid 0 and nobody
// wants them, and says what it is given. It makes no /dev yet. Lowered says what went wrong.
func giveRoot(wanted *setup) (given rootRights, lowered string) {
	if os.Geteuid() != 0 || wanted.RunAs != nil || wanted.NoFileCapabilities {
		return rootRights{}, ""
	}
	if err := restrictMounts("/", unix.MOUNT_ATTR_NODEV); err != nil {
		return rootRights{}, fmt.Sprintf("uid 0 may open the machine's devices, and has no rights over files of other users (%v)", err)
	}
	// In a user namespace of one user there are no files but those of that user.
	return rootRights{ownDevices: true, files: !wanted.OneUser}, ""
}

// ownDev covers /dev by one that holds what programs need, with a file for the name of a
// terminal if one is given.
func ownDev(terminal bool) error {
	old, err := unix.Open(devFolder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", devFolder, err)
	}
	defer unix.Close(old)
	if err := unix.Mount("tmpfs", devFolder, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, maskOptions); err != nil {
		return fmt.Errorf("mount %s: %w", devFolder, err)
	}
	for _, device := range deviceFiles {
		if err := takeDevice(old, device.name, unix.Mkdev(device.major, device.minor)); err != nil {
			return fmt.Errorf("the device %s: %w", device.name, err)
		}
	}
	for _, name := range deviceFolders {
		var stat unix.Stat_t
		if unix.Fstatat(old, name, &stat, 0) != nil || stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		if err := os.Mkdir(filepath.Join(devFolder, name), 0o755); err != nil {
			return err
		}
	}
	for _, link := range deviceLinks {
		if err := os.Symlink(link.target, filepath.Join(devFolder, link.name)); err != nil {
			return err
		}
	}
	if terminal {
		return makeEmpty(console, 0o600)
	}
	return nil
}

// takeDevice gives one of the old files a name in /dev; what is missing, or not that device,
// is left out.
func takeDevice(old int, name string, number uint64) error {
	file, err := unix.Openat(old, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(file)
	var stat unix.Stat_t
	if err := unix.Fstat(file, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFCHR || stat.Rdev != number {
		return err
	}
	path := filepath.Join(devFolder, name)
	if err := makeEmpty(path, 0o666); err != nil {
		return err
	}
	return bindDevice("/proc/self/fd/"+strconv.Itoa(file), path)
}

func makeEmpty(path string, mode os.FileMode) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	return file.Close()
}

// bindDevice puts a device file on path, and lets it work there where device files have
// been closed. It is the machine's own file: read-only, it can be written to, and its owner
// and its rights cannot be changed.
func bindDevice(source, path string) error {
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	var there unix.Statfs_t
	if err := unix.Statfs(path, &there); err != nil {
		return err
	}
	if there.Flags&unix.ST_NODEV != 0 {
		err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NOEXEC, "")
		if err != unix.EPERM { // whoever made our namespace closed it
			return err
		}
	}
	return restrictMounts(path, unix.MOUNT_ATTR_RDONLY)
}
