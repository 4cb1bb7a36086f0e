package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A second /proc, as a chroot has one, shows processes outside; a second /sys can be
// written by uid 0.
func TestFilesOfTheKernelAreOutOfReachWhereverTheyAreMounted(t *testing.T) {
	needRoot(t)
	folder := newOutside(t).folder
	for name, kind := range map[string]string{"other proc": "proc", "other-sys": "sysfs"} {
		path := filepath.Join(folder, name)
		if err := errors.Join(os.Chmod(folder, 0o755), os.Mkdir(path, 0o755), unix.Mount(kind, path, kind, 0, "")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
	}
	script := fmt.Sprintf(`cd %q; ls "other proc" | head -1; head -c 1 "other proc/%d/comm"; for f in "other proc/sys/kernel/core_pattern" other-sys/kernel/uevent_helper; do true >>"$f" && echo "$f is writable"; done; ls other-sys | grep -x kernel`, folder, os.Getpid())
	for who, config := range map[string]Config{"root": {}, "a user": {RunAs: &Identity{UID: ordinaryUser, GID: ordinaryUser}}, "in a user namespace": {UserNamespace: true}} {
		if output, exit := scriptIn(t, config, "/", "{ "+script+"; } 2>/dev/null"); exit != 0 || output != "kernel\n" {
			t.Errorf("%s: exit %d: %s", who, exit, output)
		}
	}
}

// remountRole gives flags mount by mount, as a kernel before 5.12 needs it, in mounts of
// its own; it prints those that lost or lack one.
func remountRole(args []string) int {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Println(err)
		return 1
	}
	before, err := readMounted()
	if err == nil {
		err = remountBelow(args[0], unix.MOUNT_ATTR_NODEV)
	}
	after, err2 := readMounted()
	if err := errors.Join(err, err2); err != nil || len(before) != len(after) {
		fmt.Println(err)
		return 1
	}
	changed := 0
	for i, m := range after {
		if now, err := mountOf(m.point); err != nil || now != m.id {
			continue
		}
		want := before[i].flags()
		if IsBelow(m.point, args[0]) {
			want |= unix.MS_NODEV
			changed++
		}
		if m.flags() != want {
			fmt.Println(m.point, "had", before[i].own, "and has", m.own)
		}
	}
	fmt.Println(changed > 0)
	return 0
}

func TestMountsAreRestrictedOneByOneOnAnOldKernel(t *testing.T) {
	needRoot(t)
	folder := t.TempDir()
	for name, flags := range map[string]uintptr{"a b": unix.MS_NOSUID | unix.MS_NOEXEC, "ro": unix.MS_RDONLY | unix.MS_NOATIME} {
		path := filepath.Join(folder, name)
		if err := errors.Join(os.Mkdir(path, 0o755), unix.Mount("tmpfs", path, "tmpfs", flags, "size=1m")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for below, want := range map[string]string{"/": "true\n", filepath.Join(folder, "ro"): "true\n", folder: "remount " + folder + ": no mount is there\n"} {
		command := exec.CommandContext(t.Context(), self, below)
		command.Env = append(os.Environ(), roleVariable+"=remount")
		command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		if output, _ := command.CombinedOutput(); string(output) != want {
			t.Errorf("below %s: %s", below, output)
		}
	}
}
