package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// ways are attempts of a command to come to what a hidden folder holds, or to put a
// folder of its own in the place of one around it. The folder is home/share/data.
func ways(home string) []attempt {
	data := filepath.Join(home, "share/data")
	busy := []error{unix.EBUSY}
	gone := []error{unix.ENOENT, unix.EACCES, unix.EPERM, unix.EXDEV, unix.EINVAL}
	rename := func(path string) func() error {
		return func() error { return unix.Rename(path, path+"-moved") }
	}
	read := func(path string) func() error {
		return func() error { _, err := os.ReadFile(path); return err }
	}
	nested := func(script string) func() error {
		return func() error {
			output, _ := exec.Command("unshare", nestedFlags(), "sh", "-c", script+"; true").CombinedOutput()
			if strings.Contains(string(output), "the secret") || strings.Contains(string(output), "MOVED") {
				return fmt.Errorf("%s", output)
			}
			return unix.ENOENT
		}
	}
	all := []attempt{
		{"rename the folder", rename(data), busy},
		{"rename its parent", rename(filepath.Dir(data)), busy},
		{"rename the parent's parent", rename(home), busy},
		{"rename what is around that", rename(filepath.Dir(home)), busy},
		{"exchange its parent", func() error {
			other := filepath.Join(home, "other")
			if err := os.Mkdir(other, 0o755); err != nil {
				return fmt.Errorf("mkdir: %v", err)
			}
			defer os.Remove(other)
			return unix.Renameat2(unix.AT_FDCWD, other, unix.AT_FDCWD, filepath.Dir(data), unix.RENAME_EXCHANGE)
		}, append(busy, unix.EXDEV)},
		{"remove the folder", func() error { return unix.Rmdir(data) }, busy},
		{"read by the name", read(data + "/secret"), gone},
		{"read by a relative name", func() error {
			if err := os.Chdir(home); err != nil {
				return fmt.Errorf("chdir: %v", err)
			}
			return read("share/../share/data/secret")()
		}, gone},
		{"hard link", func() error { return os.Link(data+"/secret", home+"/linked") }, gone},
		{"bind mount", func() error { return unix.Mount(home, "/mnt", "", unix.MS_BIND, "") }, gone},
		{"bind mount in a nested namespace", nested(fmt.Sprintf(
			"for from in / %[1]s %[1]s/share; do for how in --bind --rbind; do mount $how $from /mnt && cat /mnt/share/data/secret /mnt/data/secret /mnt%[1]s/share/data/secret; done; done", home)), gone},
		{"unmount and rename in a nested namespace", nested(fmt.Sprintf(
			"umount %[1]s/share/data; umount %[1]s/share; umount -l %[1]s; cat %[1]s/share/data/secret; mv -T %[1]s/share %[1]s/moved && echo MOVED", home)), gone},
		{"rename from mounts of its own without the old root", pivotAway(home), []error{unix.EBUSY, unix.EPERM}},
		{"the root of init", read("/proc/1/root" + data + "/secret"), gone},
		{"the working folder of init", read("/proc/1/cwd/share/data/secret"), gone},
		{"the root of its own process", read("/proc/self/root" + data + "/secret"), gone},
		{"standard input, which is a folder around it", func() error {
			fd, err := unix.Openat(0, "share/data/secret", unix.O_RDONLY, 0)
			unix.Close(fd)
			return err
		}, gone},
	}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		all = append(all, attempt{"descriptor " + entry.Name(), read("/proc/self/fd/" + entry.Name() + "/secret"), append(gone, unix.ENOTDIR)})
	}
	if alias := os.Getenv("ALIAS"); alias != "" {
		all = append(all,
			attempt{"another mount of a folder around it", read(alias + "/around/share/data/secret"), gone},
			attempt{"another mount of the folder", read(alias + "/folder/secret"), gone},
			attempt{"another mount of a folder in it", read(alias + "/inner/secret"), gone},
			attempt{"rename by another mount", rename(alias + "/around/share"), busy})
	}
	return all
}

// pivotAway renames the parent of the folder in a mount namespace from which the mounts
// that hold it were detached, by a descriptor from before.
func pivotAway(home string) func() error {
	return func() error {
		around, err := os.Open(home)
		if err != nil {
			return fmt.Errorf("open: %v", err)
		}
		defer around.Close()
		self, _ := os.Executable()
		child := exec.Command(self)
		child.Env = append(os.Environ(), roleVariable+"=pivoted")
		child.ExtraFiles = []*os.File{around}
		child.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}},
			AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN},
		}
		output, err := child.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit) && exit.ExitCode() > 0:
			return unix.Errno(exit.ExitCode())
		case err != nil && !errors.Is(err, unix.EPERM): // uid 0 without CAP_SETFCAP maps no uid 0
			return fmt.Errorf("the attempt did not run: %v %s", err, output)
		case err != nil:
			return unix.EPERM
		}
		return nil
	}
}

// pivotedRole ends with the number of the error that the first failing step had.
func pivotedRole([]string) int {
	const at = "/mnt"
	for _, step := range []func() error{
		func() error { return unix.Mount("tmpfs", at, "tmpfs", 0, "") },
		func() error { return unix.Mkdir(at+"/old", 0o755) },
		func() error { return unix.PivotRoot(at, at+"/old") },
		func() error { return unix.Unmount("/old", unix.MNT_DETACH) },
		func() error { return unix.Renameat(3, "share", 3, "moved") },
		func() error { return unix.Renameat(3, "moved", 3, "share") }, // for the next attempt
	} {
		var errno unix.Errno
		if err := step(); errors.As(err, &errno) {
			return int(errno)
		}
	}
	return 0
}

func waysToFolderRole(args []string) int {
	for _, a := range ways(args[0]) {
		err := a.do()
		if !slices.ContainsFunc(a.refused, func(want error) bool { return errors.Is(err, want) }) {
			fmt.Printf("%s: %v, want one of %v\n", a.name, err, a.refused)
		}
	}
	return 0
}

// makeHome makes a home whose share/data holds secrets.
func makeHome(t *testing.T) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "home")
	inner := filepath.Join(home, "share/data/inner")
	err := os.MkdirAll(inner, 0o755)
	for _, folder := range []string{inner, filepath.Dir(inner)} {
		err = errors.Join(err, os.WriteFile(filepath.Join(folder, "secret"), []byte("the secret"), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	return home
}

func TestAHiddenFolderIsReachedInNoWay(t *testing.T) {
	home := makeHome(t)
	leaked, err := unix.Open(filepath.Join(home, "share/data"), unix.O_RDONLY|unix.O_DIRECTORY, 0) // without CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leaked)
	input, err := os.Open(home)
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	p := newPlace(t, Config{Command: []string{"ways-to-folder", home}, Mask: []string{filepath.Join(home, "share/data")}, Dir: home, Stdin: input})
	if output, exit := p.run(t); exit != 0 || output != "" {
		t.Errorf("exit %d\n%s", exit, output)
	}
	checkHome(t, home)
}

func checkHome(t *testing.T, home string) {
	t.Helper()
	if content, err := os.ReadFile(filepath.Join(home, "share/data/secret")); err != nil || string(content) != "the secret" {
		t.Errorf("outside the folder holds %q, %v", content, err)
	}
}

// The same folder can have other names on a machine: mounts that were there before.
func TestAHiddenFolderIsHiddenInEveryMount(t *testing.T) {
	needSandbox(t)
	home := makeHome(t)
	if output := roleInMounts(t, "aliased", home, t.TempDir()); output != "" {
		t.Error(output)
	}
	checkHome(t, home)
}

func aliasedRole(args []string) int {
	home, alias := args[0], args[1]
	for name, folder := range map[string]string{"around": home, "folder": home + "/share/data", "inner": home + "/share/data/inner"} {
		point := filepath.Join(alias, name)
		err := os.Mkdir(point, 0o755)
		if err == nil {
			err = unix.Mount(folder, point, "", unix.MS_BIND, "")
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
	}
	os.Setenv("ALIAS", alias)
	input, err := os.Open(home)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	self, _ := os.Executable()
	s, err := New(context.Background(), Config{
		Command: []string{self, home}, Env: append(os.Environ(), roleVariable+"=ways-to-folder"),
		Mask: []string{filepath.Join(home, "share/data")}, Dir: home, Stdin: input,
	})
	if err == nil {
		err = s.Start(nil)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	exit, err := s.Wait()
	if err != nil {
		fmt.Println(err)
	}
	return exit
}

// What a folder's user may rename is told by the owners and bits of the folders.
func TestAFolderIsHeldWhereItsUserCouldRenameIt(t *testing.T) {
	const user, other = 1000, 65534
	for _, test := range []struct {
		name              string
		own, parent, mode uint32
		want              bool
	}{
		{"a folder in one's own", user, user, 0o755, true},
		{"another's folder in one's own", other, user, 0o755, true},
		{"a home", user, other, 0o755, false},
		{"one's own in /tmp", user, other, 0o1777, true},
		{"another's in /tmp", other, other, 0o1777, false},
		{"another's in one's own that is sticky", other, user, 0o1777, true},
		{"a folder that a group shares", other, other, 0o775, true},
		{"a folder that all share", other, other, 0o757, true},
	} {
		if got := mayRename(user, &unix.Stat_t{Uid: test.own}, &unix.Stat_t{Uid: test.parent, Mode: test.mode}); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
	if got, want := ancestors("/home/u/data"), []string{"/home", "/home/u"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
