package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A command that makes a cgroup namespace can mount cgroups anew, from the one in which
// it is: whoever may write there ends, stops and moves the processes in it. So the root
// of its namespaces is a cgroup of its own where there is one (see group), and where
// there is none it makes a namespace only if it may write nothing that this shows.

// ownCgroupNamespace gives the calling thread a namespace whose root is the cgroup in
// which we are, and mounts what that shows over every mount of cgroups: programs read
// their limits there.
func ownCgroupNamespace() error {
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("make a cgroup namespace: %w", err)
	}
	all, err := readMounted()
	if err != nil {
		return err
	}
	for _, m := range all {
		if !isCgroups(m) {
			continue
		}
		if now, err := mountOf(m.point); err != nil || now != m.id {
			continue // covered by another mount, or out of our reach and the command's
		}
		// Linux mounts nothing on itself, and all mounts of a hierarchy are the same to it.
		const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
		if unix.Mount("tmpfs", m.point, "tmpfs", flags|unix.MS_RDONLY, maskOptions) != nil {
			continue // protectCgroups does what it can
		}
		if unix.Mount(m.kind, m.point, m.kind, flags, hierarchyOptions(m)) != nil {
			unix.Unmount(m.point, unix.MNT_DETACH)
		}
	}
	return nil
}

func isCgroups(m mounted) bool { return m.kind == "cgroup" || m.kind == "cgroup2" }

// hierarchyOptions are those that say which hierarchy a mount is of.
func hierarchyOptions(m mounted) string {
	if m.kind == "cgroup2" {
		return ""
	}
	var of []string
	for _, option := range strings.Split(m.options, ",") {
		switch name, _, _ := strings.Cut(option, "="); name {
		case "rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "release_agent", "favordynmods":
		case "name":
			of = append(of, "none", option)
		default:
			of = append(of, option)
		}
	}
	return strings.Join(of, ",")
}

// protectCgroups makes every mount of cgroups read-only, or, on a kernel that cannot
// (before Linux 5.12), empty.
func protectCgroups() error {
	all, err := readMounted()
	if err != nil {
		return err
	}
	for _, m := range all {
		if !isCgroups(m) {
			continue
		}
		if seen, err := isSeen(m.point, m.id); err != nil {
			return fmt.Errorf("protect the cgroups: %w", err)
		} else if !seen {
			continue // covered by another mount, or out of our reach and the command's
		}
		if unix.MountSetattr(-1, m.point, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}) == nil {
			continue
		}
		if err := unix.Mount("tmpfs", m.point, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_RDONLY, maskOptions); err != nil {
			return fmt.Errorf("protect the cgroups on %s: %w", m.point, err)
		}
	}
	return nil
}

// mayWriteCgroups says whether the command could write to cgroups of the outside, were
// they mounted anew, but for the hierarchies in which it has one of its own. Where it is
// not known it could.
func mayWriteCgroups(runAs *Identity, own map[string]bool) bool {
	list, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return true
	}
	all, err := readMounted()
	if err != nil {
		return true
	}
	others := os.Geteuid() == 0 || runAs != nil
	return mayWrite(string(list), all, own, func(path string) error {
		if others {
			return nil
		}
		return unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS)
	})
}

// mostLooked bounds how many cgroups of one hierarchy are looked at.
const mostLooked = 1024

// mayWrite looks at the cgroup in which we are, of each hierarchy in list, which is as
// in cgroups(7), and at those below it.
func mayWrite(list string, all []mounted, own map[string]bool, access func(path string) error) bool {
	for line := range strings.Lines(list) {
		// number:controllers:path
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			return true
		}
		if own[fields[1]] {
			continue
		}
		_, folder, found := cgroupFolder(all, fields[1], fields[2])
		if !found {
			return true
		}
		looked := 0
		err := filepath.WalkDir(folder, func(cgroup string, entry fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, os.ErrNotExist) && cgroup != folder:
				return nil // it is gone
			case err != nil && !errors.Is(err, os.ErrNotExist):
				return err
			case entry != nil && !entry.IsDir():
				return nil
			}
			if looked++; looked > mostLooked {
				return fs.ErrExist
			}
			for _, name := range []string{"", procsFile, "tasks"} {
				// EROFS is of this mount alone, and comes where permission was given or not asked
				// for (faccessat(2)): mounted anew it may be written.
				if err := access(filepath.Join(cgroup, name)); err != unix.EACCES && (name == "" || err != unix.ENOENT) {
					return fs.ErrExist
				}
			}
			if isLeaf(entry) {
				return fs.SkipDir
			}
			return nil
		})
		if err != nil {
			return true
		}
	}
	return false
}

// isLeaf says of a cgroup that it has none below it, by the links of its folder: to read
// one, with its many files, takes much longer.
func isLeaf(entry fs.DirEntry) bool {
	if entry == nil {
		return false
	}
	info, err := entry.Info()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink == 2 // its own, and its parent's
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// cgroupFolder finds the folder of a cgroup among the mounts, and the mount.
func cgroupFolder(all []mounted, controllers, path string) (mount, folder string, found bool) {
	for _, m := range all {
		same := m.kind == "cgroup2"
		if controllers != "" {
			same = m.kind == "cgroup" && hasOptions(m.options, controllers)
		}
		if relative, err := filepath.Rel(m.root, path); same && err == nil && filepath.IsLocal(relative) {
			return m.point, filepath.Join(m.point, relative), true
		}
	}
	return "", "", false
}

func hasOptions(options, wanted string) bool {
	has := "," + options + ","
	for _, option := range strings.Split(wanted, ",") {
		if !strings.Contains(has, ","+option+",") {
			return false
		}
	}
	return true
}

// cgroupFilter refuses cgroup namespaces; what else is refused, clone3 with them, the
// other filter says.
func cgroupFilter() []unix.SockFilter {
	var p program
	p.load(offsetNumber)
	for _, number := range []uint32{unix.SYS_UNSHARE, unix.SYS_CLONE} {
		p.whenThen(number, func(p *program) {
			p.load(lowHalf(0))
			p.whenBit(unix.CLONE_NEWCGROUP, refuseWith(unix.EPERM))
			p.end(unix.SECCOMP_RET_ALLOW)
		})
	}
	p.end(unix.SECCOMP_RET_ALLOW)
	return p.instructions
}
