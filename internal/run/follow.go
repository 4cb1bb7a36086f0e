package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// followEvery is how often a followed file is looked at.
const followEvery = 250 * time.Millisecond

// followed is the files of rules of a run that follows them (--watch). The folder of each
// is held open and hidden from the command, and the file is read below it and through no
// link: so whatever the command does to paths, the rules that are read are the owner's.
type followed struct {
	files map[string]*followedFile // by the name that the user gave
}

type followedFile struct {
	folder *os.File
	base   string
	path   string // of the folder
	seen   fileState
}

// fileState is what tells one content from another.
type fileState struct {
	device, inode uint64
	size          int64
	changed       unix.Timespec
}

// follow opens the folders of files. One that holds the working folder of the command
// cannot be hidden from it, and is refused.
func follow(files []string, workdir string) (*followed, error) {
	f := &followed{files: make(map[string]*followedFile)}
	for _, name := range files {
		if err := f.add(name, workdir); err != nil {
			f.close()
			return nil, fmt.Errorf("--watch: the rules %s cannot be followed: %w", name, err)
		}
	}
	return f, nil
}

func (f *followed) add(name, workdir string) error {
	if f.files[name] != nil {
		return nil
	}
	real, err := filepath.EvalSymlinks(name) // the folder of the file, and not that of a link to it
	if err != nil {
		return err
	}
	path, err := hideable(filepath.Dir(real), workdir)
	if err != nil {
		return err
	}
	if info, err := os.Lstat(name); err != nil || info.Mode()&os.ModeSymlink != 0 {
		return errors.Join(err, errors.New("it is a symbolic link, of which a new target would go unnoticed; name the file itself"))
	}
	folder, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	f.files[name] = &followedFile{folder: folder, base: filepath.Base(real), path: path}
	return nil
}

// folders are what the command must not see.
func (f *followed) folders() (paths []string) {
	for _, file := range f.files {
		paths = append(paths, file.path)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// open opens a file by the name that the user gave, and notes what it is.
func (f *followed) open(name string) (io.ReadCloser, error) {
	file := f.files[name]
	fd, err := unix.Openat(int(file.folder.Fd()), file.base, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	opened := os.NewFile(uintptr(fd), name)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFREG {
		opened.Close()
		return nil, &os.PathError{Op: "open", Path: name, Err: errors.Join(err, errors.New("not a regular file"))}
	}
	file.seen = stateOf(&stat)
	return opened, nil
}

func stateOf(s *unix.Stat_t) fileState {
	return fileState{device: s.Dev, inode: s.Ino, size: s.Size, changed: s.Mtim}
}

// changed reports whether a file is another one than when it was looked at last. A file
// that is gone, for a moment as editors do it or for good, has not changed.
func (f *followed) changed() (changed bool) {
	for _, file := range f.files {
		var stat unix.Stat_t
		err := unix.Fstatat(int(file.folder.Fd()), file.base, &stat, unix.AT_SYMLINK_NOFOLLOW)
		if now := stateOf(&stat); err == nil && now != file.seen {
			file.seen, changed = now, true
		}
	}
	return changed
}

// each calls read whenever a file has changed, until ctx ends.
func (f *followed) each(ctx context.Context, read func()) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if f.changed() {
				read()
			}
		}
	}
}

func (f *followed) close() {
	for _, file := range f.files {
		file.folder.Close()
	}
}
