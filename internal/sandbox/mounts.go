package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	stepMounts = "mounts"

	runFolder     = "/run"
	secretsFolder = "/run/secrets" // of a container
	procFolder    = "/proc"
	// A masked folder is a small tmpfs.
	maskOptions = "mode=0755,size=4m,nr_inodes=1024"
)

type mounts struct {
	resolvConf *resolvConf // nil where there is none to replace
	opens      *openWatch  // nil where nothing is hidden
	lowered    []string    // what does not hold here, though it does where a machine gives everything
}

// ownMounts gives this mount namespace a /proc of its own and no other, where the machine
// allows one; lowered says so where it does not.
func ownMounts() (lowered []string, err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		// A container that hides parts of /proc does not allow a whole one.
		lowered = append(lowered, fmt.Sprintf("the command sees the machine's /proc (%v)", err))
	}
	if err := coverOtherProc(); err != nil {
		return nil, err
	}
	return lowered, nil
}

// setUpMounts hides /run, the folders of the outside and the files of the list, gives
// the command places of its own in which processes meet, gives back the sockets that the
// owner named, and puts a resolv.conf of ours. Unless connects are decided over it also
// hides each socket file that the machine has now.
func setUpMounts(wanted *setup, files *Files, lists []int, named []namedSocket, root rootRights, supervised bool) (*mounts, error) {
	m := new(mounts)
	owner := Identity{UID: os.Geteuid(), GID: os.Getegid()}
	if wanted.RunAs != nil {
		owner = *wanted.RunAs
	}
	// First, for what is below /run may have names elsewhere.
	holder := newHolder(owner.UID, root.files)
	masked, err := holder.maskAll(wanted.Mask)
	if err != nil {
		return nil, err
	}
	seen, err := applyFiles(holder, files)
	if err != nil {
		return nil, err
	}
	m.opens, m.lowered = seen.watch, append(holder.lowered, seen.lowered...)
	runMasked, err := maskRun(owner)
	if err != nil {
		return nil, err
	}
	if err := ownPerformanceFolders(wanted.Performance, owner); err != nil {
		return nil, err
	}
	own, lowered, err := ownMeetingPlaces(root.ownDevices)
	if err != nil {
		return nil, err
	}
	m.lowered = append(m.lowered, lowered...)
	masked = append(append(masked, own...), runFolder)
	for _, path := range socketFolders() {
		folder, err := mask(path)
		if err != nil {
			return nil, err
		}
		if folder != "" {
			masked = append(masked, folder)
		}
	}
	if err := placeNamed(named, masked); err != nil {
		return nil, err
	}
	if !supervised {
		note, err := hideSockets(lists, named)
		if err != nil {
			return nil, err
		}
		if note != "" {
			m.lowered = append(m.lowered, note)
		}
	}
	if m.resolvConf, err = replaceResolvConf("/", runMasked); err != nil {
		return nil, err
	}
	return m, nil
}

// socketFolders are those outside /run in which daemons that obey the user have
// their sockets.
func socketFolders() []string {
	folders := []string{"/var/run"} // nearly always a link into /run
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		folders = append(folders, filepath.Join(home, ".docker/run"), filepath.Join(home, ".docker/desktop"))
	}
	return folders
}

// mask makes a folder empty and returns its path without links, and puts /dev/null in
// the place of a file; what the command does not reach, whatever it does, is skipped.
func mask(path string) (folder string, err error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil && outOfReach(path, err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("hide %w", Denied(path, err))
	}
	if real == runFolder {
		return "", nil // masked already
	}
	info, err := os.Lstat(real)
	switch {
	case err != nil:
		return "", fmt.Errorf("mask %s: %w", path, err)
	case info.IsDir():
		folder = real
		err = unix.Mount("tmpfs", real, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, maskOptions)
	default:
		err = bindDevice(os.DevNull, real)
	}
	if err != nil {
		return "", fmt.Errorf("mask %s: %w", path, err)
	}
	return folder, nil
}

// maskRun hides /run, where daemons have their sockets, but for what commands
// need of it: links that lead elsewhere (NixOS has its programs behind one),
// secrets of a container, /run/lock and the folder of the command's user, empty.
func maskRun(owner Identity) (masked bool, err error) {
	entries, err := os.ReadDir(runFolder)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	links := make(map[string]string)
	for _, entry := range entries { // none where we may not read it
		if target, err := os.Readlink(filepath.Join(runFolder, entry.Name())); err == nil {
			links[filepath.Join(runFolder, entry.Name())] = target
		}
	}
	secrets, secretsErr := unix.Open(secretsFolder, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if secretsErr == nil {
		defer unix.Close(secrets)
	}
	if err := unix.Mount("tmpfs", runFolder, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, maskOptions); err != nil {
		return false, fmt.Errorf("mask %s: %w", runFolder, err)
	}
	for path, target := range links {
		if !IsBelow(filepath.Join(runFolder, target), runFolder) || filepath.IsAbs(target) {
			os.Symlink(target, path)
		}
	}
	os.MkdirAll(filepath.Join(runFolder, "lock"), 0o755)
	os.Chmod(filepath.Join(runFolder, "lock"), 0o1777|os.ModeSticky)
	user := filepath.Join(runFolder, "user", strconv.Itoa(owner.UID))
	os.MkdirAll(user, 0o755)
	os.Chmod(user, 0o700)
	os.Chown(user, owner.UID, owner.GID)
	if secretsErr == nil {
		// With what was put over some of them.
		os.Mkdir(secretsFolder, 0o755)
		unix.Mount("/proc/self/fd/"+strconv.Itoa(secrets), secretsFolder, "", unix.MS_BIND|unix.MS_REC, "")
	}
	return true, nil
}
