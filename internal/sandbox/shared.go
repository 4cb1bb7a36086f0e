package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxCovered bounds the mounts of one kind that are covered; a machine that has more
// gets no sandbox, for the rest would stay in reach.
const maxCovered = 256

// Where processes of one machine meet without a network.
const (
	shmFolder = "/dev/shm"
	ptsFolder = "/dev/pts"
	ptmxFile  = "/dev/ptmx"
	console   = "/dev/console"
)

// ownMeetingPlaces gives the command a /dev/shm, message queues and terminals of its
// own, and with ownDevices a whole /dev. Lowered says what could not be had. Call it
// before anything else is mounted over the terminal that the command is given.
func ownMeetingPlaces(ownDevices bool) (masked, lowered []string, err error) {
	all, err := readMounted()
	if err != nil {
		return nil, nil, err
	}
	queues, terminals, err := meetingMounts(all)
	if err != nil {
		return nil, nil, err
	}
	given := givenTerminal()
	if given >= 0 {
		defer unix.Close(given)
	}
	if ownDevices {
		if err := ownDev(given >= 0); err != nil {
			return nil, nil, err
		}
		masked = append(masked, devFolder)
	}
	shm, err := filepath.EvalSymlinks(shmFolder)
	if err == nil {
		if err := unix.Mount("tmpfs", shm, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
			return nil, nil, fmt.Errorf("mount %s: %w", shm, err)
		}
		masked = append(masked, shm)
	}
	// Queues are those of the IPC namespace in which a mount was made, wherever it is.
	for _, folder := range queues {
		err := unix.Mount("mqueue", folder, "mqueue", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		if err == unix.EBUSY {
			continue // ours are there already: one mount of a folder that is held, too, was listed before
		}
		if err != nil && !outOfReach(folder, err) {
			return nil, nil, fmt.Errorf("mount message queues on %s: %w", folder, err)
		}
	}
	if err := ownTerminals(terminals, given); err != nil {
		lowered = append(lowered, fmt.Sprintf("the command can write to other terminals of its user (%v)", err))
	}
	return masked, lowered, nil
}

// meetingMounts returns where message queues and terminals are mounted.
func meetingMounts(all []mounted) (queues, terminals []string, err error) {
	for _, m := range all {
		switch m.kind {
		case "mqueue":
			queues = append(queues, m.point)
		case "devpts":
			terminals = append(terminals, m.point)
		}
	}
	if len(queues) > maxCovered || len(terminals) > maxCovered {
		return nil, nil, fmt.Errorf("the machine has more than %d mounts of message queues or terminals", maxCovered)
	}
	return queues, terminals, nil
}

// ownTerminals covers every mount of terminals by one of our own. Given, the terminal that
// the command was given, or -1, has its name on /dev/console, as in a container.
func ownTerminals(mounted []string, given int) error {
	if _, err := os.Stat(ptsFolder); err != nil {
		return nil // there are none
	}
	if err := unix.Mount("devpts", ptsFolder, "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return fmt.Errorf("mount %s: %w", ptsFolder, err)
	}
	if info, err := os.Lstat(ptmxFile); err == nil && info.Mode().Type() != os.ModeSymlink {
		if err := unix.Mount(ptsFolder+"/ptmx", ptmxFile, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", ptmxFile, err)
		}
	}
	for _, path := range mounted {
		if path == ptsFolder {
			continue
		}
		var err error
		if info, statErr := os.Stat(path); statErr == nil && !info.IsDir() { // a single terminal
			err = bindDevice(os.DevNull, path)
		} else {
			err = unix.Mount(ptsFolder, path, "", unix.MS_BIND, "")
		}
		if err != nil && !outOfReach(path, err) {
			return fmt.Errorf("cover %s: %w", path, err)
		}
	}
	if given >= 0 {
		// Only its name is lost where there is no such file.
		err := bindDevice("/proc/self/fd/"+strconv.Itoa(given), console)
		if err != nil && !outOfReach(console, err) {
			return fmt.Errorf("mount the terminal on %s: %w", console, err)
		}
	}
	return nil
}

// givenTerminal opens the first standard stream that is a terminal by its name in our
// mounts, for what is open itself belongs to those outside; -1 where there is none.
func givenTerminal() int {
	for stream := range 3 {
		var opened, named unix.Stat_t
		if _, err := unix.IoctlGetTermios(stream, unix.TCGETS); err != nil || unix.Fstat(stream, &opened) != nil {
			continue
		}
		path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(stream))
		if err != nil {
			continue
		}
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if unix.Fstat(fd, &named) == nil && named.Rdev == opened.Rdev && named.Dev == opened.Dev && named.Ino == opened.Ino {
			return fd
		}
		unix.Close(fd)
	}
	return -1
}
