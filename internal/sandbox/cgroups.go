package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The command shares the cgroups of who starts it. A cgroup namespace of its own would
// let it mount them anew, from the one in which it is: whoever may write there ends,
// stops and moves processes outside.

// protectCgroups makes every mount of cgroups read-only, or, on a kernel that cannot
// (before Linux 5.12), empty. Programs read their limits there.
func protectCgroups() error {
	all, err := readMounted()
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.kind != "cgroup" && m.kind != "cgroup2" {
			continue
		}
		if now, err := mountOf(m.point); err != nil || now != m.id {
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
// they mounted anew. Where it is not known it could.
func mayWriteCgroups(wanted *setup) bool {
	if os.Geteuid() == 0 || wanted.RunAs != nil {
		return true
	}
	list, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return true
	}
	all, err := readMounted()
	if err != nil {
		return true
	}
	return mayWrite(string(list), all, func(path string) error {
		return unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS)
	})
}

// mayWrite looks at the cgroup in which we are, of each hierarchy in list, which is as
// in cgroups(7), and at the folders below it.
func mayWrite(list string, all []mounted, access func(path string) error) bool {
	for line := range strings.Lines(list) {
		// number:controllers:path
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			return true
		}
		folder, found := cgroupFolder(all, fields[1], fields[2])
		if !found {
			return true
		}
		below, err := filepath.Glob(filepath.Join(escapeGlob(folder), "*", "cgroup.procs"))
		if err != nil || len(below) > 0 {
			return true // who is there may be the user's, at any depth
		}
		for _, name := range []string{"", "cgroup.procs", "tasks"} {
			// EROFS is of this mount alone, and comes where permission was given or not asked
			// for (faccessat(2)): mounted anew it may be written.
			if err := access(filepath.Join(folder, name)); err != unix.EACCES && (name == "" || err != unix.ENOENT) {
				return true
			}
		}
	}
	return false
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// cgroupFolder finds the folder of a cgroup among the mounts.
func cgroupFolder(all []mounted, controllers, path string) (folder string, found bool) {
	for _, m := range all {
		same := m.kind == "cgroup2"
		if controllers != "" {
			same = m.kind == "cgroup" && hasOptions(m.options, controllers)
		}
		if relative, err := filepath.Rel(m.root, path); same && err == nil && filepath.IsLocal(relative) {
			return filepath.Join(m.point, relative), true
		}
	}
	return "", false
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

// cgroupFilter refuses cgroup namespaces; what else is refused the other filter says.
// Flags of clone3 cannot be seen, and programs are ready for a kernel without it.
func cgroupFilter() []unix.SockFilter {
	var p program
	p.load(offsetNumber)
	p.when(unix.SYS_CLONE3, refuseWith(unix.ENOSYS))
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
