package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// placeSSHConfig puts a copy that is the user's over each of the files at paths, which
// are open as files. One that is hidden, gone or another by now is left alone.
func placeSSHConfig(paths []string, files []int) error {
	place := "" // of ours, for the copies
	targets := make(map[int]int)
	defer func() {
		for target := range targets {
			unix.Close(target)
		}
	}()
	for i, path := range paths {
		target, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if !sameFile(target, files[i]) {
			unix.Close(target)
			continue
		}
		targets[target], place = files[i], filepath.Dir(path)
	}
	if place == "" {
		return nil
	}
	// It is taken away again, and the copies stay where they are bound.
	if err := unix.Mount("tmpfs", place, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, maskOptions); err != nil {
		return fmt.Errorf("a place for copies: %w", err)
	}
	defer unix.Unmount(place, unix.MNT_DETACH)
	for target, file := range targets {
		if err := placeSSHFile(filepath.Join(place, strconv.Itoa(target)), file, target); err != nil {
			return err
		}
	}
	return nil
}

func sameFile(a, b int) bool {
	var first, second unix.Stat_t
	return unix.Fstat(a, &first) == nil && unix.Fstat(b, &second) == nil && first.Dev == second.Dev && first.Ino == second.Ino
}

func placeSSHFile(path string, file, target int) error {
	own, err := unix.Dup(file)
	if err != nil {
		return err
	}
	source := os.NewFile(uintptr(own), path)
	defer source.Close()
	text, err := readSSHConfig(source)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(text), 0o444); err != nil {
		return err
	}
	return unix.Mount(path, "/proc/self/fd/"+strconv.Itoa(target), "", unix.MS_BIND, "")
}
