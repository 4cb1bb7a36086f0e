package sandbox

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// restrictMounts gives a flag, as MOUNT_ATTR_RDONLY, to the mount on path and to all
// below it. Those without the right to mount here, in a user namespace of their own
// neither, cannot take it away.
func restrictMounts(path string, flag uint64) error {
	if unix.MountSetattr(-1, path, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: flag}) == nil {
		return nil
	}
	return remountBelow(path, flag) // before Linux 5.12, or a filter around us does not know the call
}

// restrictMount does it to one mount, and not to those below it.
func restrictMount(m *mounted, flag uint64) error {
	if unix.MountSetattr(-1, m.point, 0, &unix.MountAttr{Attr_set: flag}) == nil {
		return nil
	}
	return m.remount(flag)
}

// remount adds a flag; those of both calls have the same values.
func (m *mounted) remount(flag uint64) error {
	if err := unix.Mount("", m.point, "", unix.MS_REMOUNT|unix.MS_BIND|m.flags()|uintptr(flag), ""); err != nil {
		return fmt.Errorf("remount %s: %w", m.point, err)
	}
	return nil
}

// remountBelow does it mount by mount. One that another covers is out of reach.
func remountBelow(path string, flag uint64) error {
	all, err := readMounted()
	if err != nil {
		return err
	}
	found := false
	for _, m := range all {
		if !IsBelow(m.point, path) {
			continue
		}
		if now, err := mountOf(m.point); err != nil || now != m.id {
			continue
		}
		if err := m.remount(flag); err != nil {
			return err
		}
		found = found || m.point == path
	}
	if !found {
		return fmt.Errorf("remount %s: no mount is there", path)
	}
	return nil
}

// mountFlags are those of a mount that a remount would take away; how the times of access are
// kept stays without a word.
var mountFlags = map[string]uintptr{
	"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC, "nosymfollow": unix.MS_NOSYMFOLLOW,
}

func (m *mounted) flags() (flags uintptr) {
	for option := range strings.SplitSeq(m.own, ",") {
		flags |= mountFlags[option]
	}
	return flags
}
