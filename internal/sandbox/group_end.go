package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kill ends every process in the group but those that the kernel is ending already.
func (f *folders) kill() {
	if f.controllers == "" && writeFile(filepath.Join(f.top, "cgroup.kill"), "1") == nil {
		return // Linux 5.14
	}
	f.each(func(cgroup string) {
		thaw(cgroup)
		for _, text := range words(filepath.Join(cgroup, procsFile)) {
			if pid, err := strconv.Atoi(text); err == nil {
				killIn(pid, f.controllers, f.top)
			}
		}
	})
}

// thaw lets the processes of a version 1 freezer go on, which else take no signal.
func thaw(cgroup string) {
	writeFile(filepath.Join(cgroup, freezerState), "THAWED") // an error says that it is not one
}

const freezerState = "freezer.state" // of each cgroup of a version 1 freezer

// killIn kills the process of that number if it is in a cgroup below top: the number may
// be another's by now.
func killIn(pid int, controllers, top string) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it has ended
	}
	defer unix.Close(fd)
	list, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(list)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) == 3 && fields[1] == controllers && strings.Contains(fields[2]+"/", "/"+filepath.Base(top)+"/") {
			unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
	}
}

// each calls do for every cgroup of the group, the outer ones first.
func (f *folders) each(do func(cgroup string)) {
	filepath.WalkDir(f.top, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			do(path)
		}
		return nil // what is gone has no processes
	})
}

// removeWithin bounds the wait for processes that have ended to be gone.
const removeWithin = 2 * time.Second

// remove removes the folders; what stays is for the next run, see removeStale.
func (f *folders) remove() {
	deadline := time.Now().Add(removeWithin)
	for !errors.Is(f.removeAll(), os.ErrNotExist) && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if f.lock != nil {
		f.lock.Close()
	}
}

// removeAll removes the folders that we made, and where the command made some below them,
// those too. os.ErrNotExist says that all of it is gone.
func (f *folders) removeAll() error {
	for _, folder := range []string{f.command(), f.bounds(), f.init()} {
		unix.Rmdir(folder) // what does not go at once is looked for
	}
	return removeTree(f.top)
}

// removeTree removes cgroups from the leaves on, at any depth: a path has a length.
// os.ErrNotExist says that all of it is gone.
func removeTree(top string) error {
	for {
		if err := unix.Rmdir(top); err != unix.EBUSY && err != unix.ENOTEMPTY {
			if err == nil {
				return os.ErrNotExist
			}
			return err
		}
		if err := removeLeaf(top); err != nil {
			return err
		}
	}
}

// removeLeaf removes the first cgroup below another that has none below itself.
func removeLeaf(top string) error {
	at, err := os.Open(top)
	if err != nil {
		return err
	}
	defer func() { at.Close() }()
	for {
		child, err := firstFolder(at)
		if err != nil {
			return err
		}
		if child == "" {
			return unix.EBUSY // it has processes
		}
		// A leaf goes at once; in another is the next step.
		switch err := unix.Unlinkat(int(at.Fd()), child, unix.AT_REMOVEDIR); err {
		case nil, unix.ENOENT:
			return nil
		case unix.EBUSY, unix.ENOTEMPTY:
		default:
			return err
		}
		fd, err := unix.Openat(int(at.Fd()), child, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		at.Close()
		at = os.NewFile(uintptr(fd), child)
	}
}

func firstFolder(folder *os.File) (string, error) {
	entries, err := folder.ReadDir(-1)
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			return entry.Name(), nil
		}
	}
	return "", nil
}

const (
	// staleAfter is how old the group of another run is when it is looked at.
	staleAfter = 10 * time.Second
	// mostStale is how many of them one run looks at.
	mostStale = 64
)

// removeStale removes empty groups in a cgroup that a sluice left which was killed. One
// that lives holds a lock, which does not show in another cgroup namespace; but there
// are processes in its group, and then the kernel removes nothing. Nobody is ended here:
// with a sluice ends its init, and with that all that is inside.
func removeStale(parent string, age time.Duration) {
	folder, err := os.Open(parent)
	if err != nil {
		return
	}
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return
	}
	looked := 0
	for _, name := range names {
		if !strings.HasPrefix(name, groupPrefix) {
			continue
		}
		if looked++; looked > mostStale {
			return
		}
		top := filepath.Join(parent, name)
		info, err := os.Lstat(top)
		if err != nil || time.Since(info.ModTime()) < age {
			continue
		}
		lock, err := os.Open(top)
		if err != nil {
			continue
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			f := folders{top: top}
			if _, err := os.Lstat(filepath.Join(top, freezerState)); err == nil {
				f.each(thaw) // a process in a frozen one does not take note of its end
			}
			f.removeAll()
		}
		lock.Close()
	}
}
