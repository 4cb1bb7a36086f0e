package attack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// writeCgroups opens the files of the cgroups below a folder for writing, and ends what
// is in the victim's.
func (in *Inside) writeCgroups(folder string) error {
	if made := filepath.Join(folder, "of-the-attack-"+strconv.Itoa(os.Getpid())); os.Mkdir(made, 0o755) == nil {
		os.Remove(made)
		return nil
	}
	last := error(unix.ENOENT)
	for _, pattern := range []string{"cgroup.*", "*/cgroup.*", "tasks", "*/tasks", "freezer.state", "*/freezer.state"} {
		paths, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			file, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				last = err
				continue
			}
			if in.Cgroup != "" && strings.HasSuffix(path, in.Cgroup+"/cgroup.kill") {
				file.WriteString("1")
			}
			file.Close()
			return nil
		}
	}
	return last
}

// cgroupsThere tries every mount of cgroups that there is.
func cgroupsThere(in *Inside) error {
	list, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	last := error(skipped("no cgroups are mounted"))
	for line := range strings.Lines(string(list)) {
		before, after, _ := strings.Cut(line, " - ")
		if fields := strings.Fields(before); strings.HasPrefix(after, "cgroup") && len(fields) > 4 {
			if last = in.writeCgroups(fields[4]); last == nil {
				return nil
			}
		}
	}
	return last
}

// cgroupsMounted mounts them anew, as a user namespace allows for its own cgroups.
func cgroupsMounted(in *Inside) error {
	last := error(held("no cgroups can be mounted"))
	for kind, options := range map[string][]string{"cgroup2": {""}, "cgroup": {"freezer", "pids", "memory", "cpu", "none,name=systemd"}} {
		for _, option := range options {
			if err := unix.Mount("none", "/mnt", kind, 0, option); err != nil {
				continue
			}
			last = held("it shows the sandbox's own alone")
			if in.Bare || in.foreignCgroups("/mnt") {
				last = in.writeCgroups("/mnt")
			}
			unix.Unmount("/mnt", unix.MNT_DETACH)
			if last == nil {
				return nil
			}
		}
	}
	return last
}

// foreignCgroups says whether a mount shows more than the cgroup of the sandbox: that of
// the victim, or one with processes that have no number inside.
func (in *Inside) foreignCgroups(folder string) (found bool) {
	filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if entry.IsDir() {
			found = found || entry.Name() == in.Cgroup
			return nil
		}
		if entry.Name() == "cgroup.procs" {
			pids, _ := os.ReadFile(path) // of a threaded one it cannot be read
			found = found || slices.Contains(strings.Fields(string(pids)), "0")
		}
		return nil
	})
	return found
}

// placeVictim puts the process outside in a cgroup of its own, where we may make one.
func (o *outside) placeVictim() error {
	list, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	for line := range strings.Lines(string(list)) {
		before, after, _ := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !strings.HasPrefix(after, "cgroup2") || len(fields) < 5 {
			continue
		}
		folder := filepath.Join(fields[4], o.inside.Name)
		if err := os.Mkdir(folder, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			continue // it is not ours to write
		}
		o.inside.Cgroup, o.cgroup = o.inside.Name, folder
		return os.WriteFile(filepath.Join(folder, "cgroup.procs"), []byte(strconv.Itoa(o.victim.Process.Pid)), 0)
	}
	return nil
}

func cgroupRows() []Row {
	refused := []error{unix.EROFS, unix.EACCES, unix.EPERM, unix.ENOENT}
	const right = "of others nothing can be written; the process outside lives"
	return []Row{
		{ID: "cgroup-write", Tried: "End, freeze or move processes outside by the cgroups that are mounted, or make a cgroup", Right: right,
			Bare: Root, Inside: cgroupsThere, Refused: refused},
		{ID: "cgroup-mount", Tried: "Mount cgroups anew in a user namespace, and end, freeze or move processes outside there", Right: right,
			Flags: unix.CLONE_NEWNS, Nested: cgroupsMounted, Refused: refused},
		{ID: "cgroup-namespace", Tried: "Mount cgroups anew in a user namespace and a cgroup namespace", Right: right,
			Bare: Root, Flags: unix.CLONE_NEWNS, Nested: func(in *Inside) error {
				if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
					return held(fmt.Sprint("no cgroup namespace: ", err))
				}
				return cgroupsMounted(in)
			}, Refused: refused},
	}
}
