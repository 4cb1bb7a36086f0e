package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// deviceWays tries device files: each line is a name and what came of it.
const deviceWays = `
	for name in $(cd /dev && find . -mindepth 1 ! -path './pts/*' ! -path './shm/*' | sort); do printf '%s ' "${name#./}"; done; echo
	echo x >/dev/null && head -c 4 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c; echo x 2>/dev/null >/dev/full || echo full
	echo from input </dev/fd/0 >/dev/stdout`

func TestRootHasDevicesOfItsOwnAndNoOthers(t *testing.T) {
	needRoot(t)
	folder := newOutside(t).folder
	output, exit := scriptIn(t, Config{}, folder, deviceWays)
	own := []string{"fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"}
	if info, err := os.Stat("/dev/mqueue"); err != nil || !info.IsDir() {
		own = slices.DeleteFunc(own, func(name string) bool { return name == "mqueue" })
	}
	want := strings.Join(own, " ") + " \n4\n4\nfull\nfrom input\n"
	if exit != 0 || output != want {
		t.Errorf("exit %d: %q, want %q", exit, output, want)
	}
	// As it was: those of the machine, in a user namespace of another user's neither.
	for _, config := range []Config{{NoFileCapabilities: true}, {RunAs: &Identity{UID: ordinaryUser, GID: ordinaryUser}}} {
		machine, err := os.ReadDir(devFolder)
		if err != nil {
			t.Fatal(err)
		}
		output, exit := scriptIn(t, config, "/", `ls -A /dev | wc -l`)
		if exit != 0 || strings.TrimSpace(output) != fmt.Sprint(len(machine)) {
			t.Errorf("%+v: exit %d: %s files in /dev, want %d", config, exit, output, len(machine))
		}
	}
	output, exit = scriptIn(t, Config{UserNamespace: true}, "/", `ls -A /dev | grep -c -x -E 'vda|sda|tty1|vcs|kmsg|mem'; echo x >/dev/null && head -c 4 /dev/zero | wc -c`)
	if exit != 0 || output != "0\n4\n" {
		t.Errorf("in a user namespace: exit %d: %s", exit, output)
	}
}

// A file of a device that somebody made outside, in an ordinary folder, opens nothing.
func TestNoDeviceFileInAnOrdinaryFolderWorksForRoot(t *testing.T) {
	needRoot(t)
	folder := newOutside(t).folder
	mounted := filepath.Join(folder, "mounted")
	if err := os.Mkdir(mounted, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", mounted, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(mounted, unix.MNT_DETACH) })
	disk, err := diskNumber()
	if err != nil {
		t.Skip(err)
	}
	null := int(unix.Mkdev(1, 3))
	for _, in := range []string{folder, mounted} {
		if err := errors.Join(unix.Mknod(filepath.Join(in, "disk"), unix.S_IFBLK|0o666, disk), unix.Mknod(filepath.Join(in, "null"), unix.S_IFCHR|0o666, null)); err != nil {
			t.Skip("this machine makes no device files: ", err)
		}
	}
	script := `for f in disk null mounted/disk mounted/null /proc/self/cwd/disk; do dd if=$f of=/dev/null bs=512 count=1 2>/dev/null && echo "$f opens"; done
		unshare -Um sh -c 'dd if=disk of=/dev/null bs=512 count=1' 2>/dev/null && echo nested opens; true`
	if output, exit := scriptIn(t, Config{}, folder, script); exit != 0 || output != "" {
		t.Errorf("exit %d: %s", exit, output)
	}
	// The same files do work where that was left as it was, or this test says nothing.
	if output, _ := scriptIn(t, Config{NoFileCapabilities: true}, folder, script); !strings.Contains(output, "null opens\n") {
		t.Errorf("with the machine's devices: %s", output)
	}
}

func diskNumber() (int, error) {
	disks, err := os.ReadDir("/sys/block")
	if err != nil {
		return 0, err
	}
	for _, disk := range disks {
		text, err := os.ReadFile(filepath.Join("/sys/block", disk.Name(), "dev"))
		var major, minor uint32
		if err != nil {
			continue
		}
		if _, err := fmt.Sscanf(string(text), "%d:%d", &major, &minor); err == nil {
			return int(unix.Mkdev(major, minor)), nil
		}
	}
	return 0, errors.New("the machine has no disk")
}
