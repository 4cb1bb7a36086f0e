package attack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// makeFiles makes the data folder of Sluice, with a secret, below folders that are the
// command's user's: FOLDER/share/data.
func (o *outside) makeFiles() error {
	folder := func(path string) error { return os.Mkdir(path, 0o755) }
	secret := func(path string) error { return os.WriteFile(path, []byte("the secret"), 0o644) }
	for _, made := range []struct {
		path string
		how  func(string) error
	}{
		{"home", folder}, {"run", folder}, {"share", folder}, {"share/data", folder}, {"share/data/inner", folder},
		{"share/data/secret", secret}, {"share/data/inner/secret", secret},
	} {
		if err := o.own(filepath.Join(o.Folder, made.path), made.how); err != nil {
			return err
		}
	}
	return nil
}

// secretThere returns an error where the data folder is not what it was.
func secretThere(o *outside) error {
	content, err := os.ReadFile(filepath.Join(o.Folder, "share/data/secret"))
	if err != nil || string(content) != "the secret" {
		return fmt.Errorf("the data folder was changed: %q, %v", content, err)
	}
	return nil
}

func (in *Inside) data() string { return filepath.Join(in.Folder, "share/data") }

func readFile(path string) error {
	content, err := os.ReadFile(path)
	if err == nil && string(content) != "the secret" {
		return held("another file is there")
	}
	return err
}

// readAny reads the first of some files that can be read.
func readAny(paths ...string) error {
	var all error
	for _, path := range paths {
		err := readFile(path)
		if err == nil {
			return nil
		}
		all = errors.Join(all, err)
	}
	return held(all.Error())
}

// moved renames a folder, and back where that went.
func moved(path string) error {
	err := unix.Rename(path, path+"-moved")
	if err == nil {
		err = errors.Join(err, unix.Rename(path+"-moved", path))
	}
	return err
}

// pivoted renames the parent of the data folder from mounts of its own, from which all
// others were detached, by a descriptor from before.
func pivoted(in *Inside) error {
	around, err := unix.Open(in.Folder, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(around)
	for _, step := range []func() error{
		func() error { return unix.Mount("tmpfs", "/mnt", "tmpfs", 0, "") },
		func() error { return unix.Chdir("/mnt") },
		func() error { return unix.PivotRoot(".", ".") }, // the old one lies over the new one then
		func() error { return unix.Unmount(".", unix.MNT_DETACH) },
		func() error { return unix.Renameat(around, "share", around, "moved") },
		func() error { return unix.Renameat(around, "moved", around, "share") }, // for the next attempt
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func fileRows() []Row {
	busy := []error{unix.EBUSY, unix.EXDEV}
	gone := []error{unix.ENOENT, unix.EACCES, unix.EPERM, unix.EXDEV, unix.EINVAL, unix.ENOTDIR}
	rows := []Row{
		{ID: "data-read", Tried: "Read the data folder of Sluice, by its name and by a relative one", Right: "it is empty",
			Bare: everybody, Inside: func(in *Inside) error {
				if err := os.Chdir(filepath.Join(in.Folder, "share")); err != nil {
					return err
				}
				return readAny(in.data()+"/secret", "data/secret", "../share/data/inner/secret")
			}},
		{ID: "data-rename", Tried: "Rename the data folder, or a folder around it, and put another in its place", Right: "they are mount points and stay",
			Bare: everybody, Inside: each(busy, func(in *Inside) error { return moved(in.data()) },
				func(in *Inside) error { return moved(filepath.Join(in.Folder, "share")) }, func(in *Inside) error { return moved(in.Folder) }), Refused: busy},
		{ID: "data-exchange", Tried: "Exchange a folder around the data folder with another, or remove the data folder", Right: "they are mount points and stay",
			Inside: each(busy, func(in *Inside) error {
				other := filepath.Join(in.Folder, "other")
				if err := os.Mkdir(other, 0o755); err != nil {
					return err
				}
				defer os.Remove(other)
				return unix.Renameat2(unix.AT_FDCWD, other, unix.AT_FDCWD, filepath.Join(in.Folder, "share"), unix.RENAME_EXCHANGE)
			}, func(in *Inside) error { return unix.Rmdir(in.data()) }), Refused: busy},
		{ID: "data-hard-link", Tried: "Make a hard link to a file of the data folder", Right: "it is not there",
			Bare: everybody, Inside: func(in *Inside) error {
				linked := filepath.Join(in.Folder, "home/linked")
				defer os.Remove(linked)
				return os.Link(in.data()+"/secret", linked)
			}, Refused: gone},
		{ID: "data-proc", Tried: "Read the data folder by the root and the working folder of process 1 and of itself", Right: "it is empty there, or not permitted",
			Bare: everybody, Inside: func(in *Inside) error {
				return readAny("/proc/1/root"+in.data()+"/secret", "/proc/1/cwd/../share/data/secret", "/proc/self/root"+in.data()+"/secret", "/proc/self/cwd/../share/data/secret")
			}},
		{ID: "data-input", Tried: "Read the data folder by standard input, which is a folder around it", Right: "it is empty there",
			Bare: everybody, Inside: func(in *Inside) error {
				fd, err := unix.Openat(0, "share/data/secret", unix.O_RDONLY, 0)
				unix.Close(fd)
				return err
			}, Refused: gone},
		{ID: "data-descriptor", Tried: "Read the data folder by a descriptor that whoever started Sluice left open", Right: "the descriptor is closed",
			Bare: everybody, Inside: func(in *Inside) error {
				var paths []string
				for fd := range 64 {
					paths = append(paths, fmt.Sprintf("/proc/self/fd/%d/secret", fd), fmt.Sprintf("/proc/%d/fd/%d/secret", os.Getppid(), fd), fmt.Sprintf("/proc/1/fd/%d/secret", fd))
				}
				return readAny(paths...)
			}},
		{ID: "data-mount", Tried: "Mount a folder around the data folder elsewhere", Right: "it is not permitted",
			Bare: Root, Inside: func(in *Inside) error { return unix.Mount(in.Folder, "/mnt", "", unix.MS_BIND, "") }, Refused: permission},
		{ID: "data-nested", Tried: "Mount folders around the data folder elsewhere, or uncover it, in a user namespace", Right: "what covers it stays",
			Flags: unix.CLONE_NEWNS, Bare: noRoot, Nested: func(in *Inside) error {
				for _, from := range []string{"/", in.Folder, in.Folder + "/share"} {
					for _, flags := range []uintptr{unix.MS_BIND, unix.MS_BIND | unix.MS_REC} {
						if unix.Mount(from, "/mnt", "", flags, "") == nil {
							if readAny("/mnt/data/secret", "/mnt/share/data/secret", "/mnt"+in.data()+"/secret") == nil {
								return nil
							}
						}
					}
				}
				for _, folder := range []string{in.data(), filepath.Dir(in.data()), in.Folder} {
					unix.Unmount(folder, unix.MNT_DETACH)
				}
				if err := moved(filepath.Join(in.Folder, "share")); err == nil && !in.Bare {
					return nil
				}
				return readAny(in.data() + "/secret")
			}},
		{ID: "data-pivot", Tried: "Take another root folder and be rid of the mounts that hide the data folder, in a user namespace, and rename what is around it", Right: "it is not permitted",
			Flags: unix.CLONE_NEWNS, Bare: noRoot, Nested: pivoted, Refused: append(permission, unix.EBUSY)},
	}
	for i := range rows {
		rows[i].After = secretThere
	}
	return rows
}
