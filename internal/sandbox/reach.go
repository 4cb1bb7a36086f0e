package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Denier returns the folder that keeps us from a path, through no link, and whether it
// keeps the command out, too, whatever that does: the owner of a folder gives itself every
// right to it. Where root is denied, as on a filesystem of another machine, its users may
// have rights that root has not. A path that can be followed by now has no denier; the
// command may do so, too.
func Denier(path string) (folder string, holds bool) {
	var failed *fs.PathError
	_, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &failed) {
		return "", false
	}
	// It follows step by step: what failed is the name in the folder that denies.
	folder = filepath.Dir(failed.Path)
	info, err := os.Lstat(folder)
	if err != nil {
		return folder, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() {
		return folder, false
	}
	return folder, os.Geteuid() != 0 || inOneUserNamespace()
}

// inOneUserNamespace says that no process here can be another user.
func inOneUserNamespace() bool {
	list, err := os.ReadFile("/proc/self/uid_map") // lines of: first inside, first outside, how many
	fields := bytes.Fields(list)
	return err == nil && len(fields) == 3 && string(fields[2]) == "1"
}

// gone says that a path leads to nothing.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) }

// outOfReach says of a path that could not be looked up, or mounted on, that the command
// does not reach it either. A mount that a security module of the kernel refuses ends with
// EACCES too, while the path can be followed.
func outOfReach(path string, err error) bool {
	if gone(err) {
		return true
	}
	if !errors.Is(err, fs.ErrPermission) {
		return false
	}
	_, holds := Denier(path)
	return holds
}

// Denied explains the error of a path that we do not reach, and the command may.
func Denied(path string, err error) error {
	var failed *fs.PathError
	folder, holds := Denier(path)
	if errors.As(err, &failed) {
		err = failed.Err
	}
	if holds || folder == "" || !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: %w", path, err)
	}
	if os.Geteuid() == 0 {
		return contradiction("%s: root may not look into the folder %s, and the command maybe may", path, folder)
	}
	return contradiction("%s: permission denied; the command could give itself the rights to the folder %s, which you have not now: chmod u+rwx %[2]s", path, folder)
}

// isSeen says whether a mount is what a path leads to, and not covered by another one.
func isSeen(path, id string) (bool, error) {
	now, err := mountOf(path)
	if err != nil && errors.Is(err, fs.ErrPermission) && !outOfReach(path, err) {
		return false, Denied(path, err)
	}
	return err == nil && now == id, nil
}
