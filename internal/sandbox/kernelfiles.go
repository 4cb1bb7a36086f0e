package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// kernelFiles can be written by uid 0 without any capability, and some of them make the
// kernel execute what they say: /sys, and of /proc each folder that is not a process, and
// each file that can be written. Links lead to one of them, or to a process.
func kernelFiles() (paths []string, err error) {
	entries, err := os.ReadDir(procFolder)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if _, err := strconv.ParseUint(entry.Name(), 10, 32); err == nil || entry.Type()&fs.ModeSymlink != 0 {
			continue
		}
		info, err := entry.Info()
		if err != nil || info.IsDir() || info.Mode().Perm()&0o222 != 0 {
			paths = append(paths, filepath.Join(procFolder, entry.Name()))
		}
	}
	return append(paths, "/sys"), nil
}

// kernelFilesystems are of the same kind, wherever they are mounted. Those of cgroups are
// protected for every user.
var kernelFilesystems = []string{"sysfs", "debugfs", "tracefs", "securityfs", "configfs", "efivarfs", "bpf", "pstore", "binfmt_misc", "fusectl", "selinuxfs", "smackfs", "resctrl", "rpc_pipefs", "nfsd", "cpuset", "xenfs", "ocfs2_dlmfs"}

// deviceFilesystem is that of which every mount holds the machine's own device files.
const deviceFilesystem = "devtmpfs"

// protectKernelFiles makes them read-only, and returns a sentence for each that it
// could not.
func protectKernelFiles() (lowered []string) {
	say := func(path string, err error) {
		if err != nil && !outOfReach(path, err) {
			lowered = append(lowered, fmt.Sprintf("uid 0 may write %s (%v)", path, err))
		}
	}
	paths, err := kernelFiles()
	say(procFolder, err)
	for _, path := range paths {
		err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, "")
		if err == nil {
			err = restrictMounts(path, unix.MOUNT_ATTR_RDONLY)
		}
		say(path, err)
	}
	all, err := readMounted()
	if err != nil {
		return append(lowered, fmt.Sprintf("uid 0 may write files of the kernel (%v)", err))
	}
	for _, m := range all {
		if m.kind != deviceFilesystem && !slices.Contains(kernelFilesystems, m.kind) || m.flags()&unix.MS_RDONLY != 0 {
			continue
		}
		if seen, err := isSeen(m.point, m.id); err != nil || !seen {
			say(m.point, err)
			continue
		}
		if m.kind == deviceFilesystem { // what is mounted in it is the command's own
			say(m.point, restrictMount(&m, unix.MOUNT_ATTR_RDONLY))
			continue
		}
		say(m.point, restrictMounts(m.point, unix.MOUNT_ATTR_RDONLY))
	}
	return lowered
}

// coverOtherProc hides what is mounted of /proc elsewhere, as for a chroot: it shows the
// processes outside, and their folders by way of them.
func coverOtherProc() error {
	all, err := readMounted()
	if err != nil {
		return err
	}
	covered := 0
	for _, m := range all {
		if m.kind != "proc" || IsBelow(m.point, procFolder) {
			continue
		}
		if seen, err := isSeen(m.point, m.id); err != nil {
			return err
		} else if !seen {
			continue
		}
		if covered++; covered > maxCovered {
			return fmt.Errorf("the machine has more than %d other mounts of /proc", maxCovered)
		}
		info, err := os.Stat(m.point)
		switch {
		case err != nil:
		case info.IsDir():
			err = unix.Mount("tmpfs", m.point, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_RDONLY, maskOptions)
		default:
			err = bindDevice(os.DevNull, m.point)
		}
		if err != nil && !outOfReach(m.point, err) {
			return fmt.Errorf("cover %s: %w", m.point, err)
		}
	}
	return nil
}
