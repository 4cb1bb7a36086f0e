package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// scratchOptions are those of the filesystem in which placeholders are made: each is an
// inode, with a few bytes where a format wants them.
const scratchOptions = "mode=0755,size=4m,nr_inodes=4096"

// placeholder is what is seen in a hidden file's or folder's place.
type placeholder struct {
	Hidden
	real  string // the path without links
	info  fs.FileInfo
	names []string // beside real: other mounts of the same
	made  string   // in the scratch folder
}

func (p *placeholder) folder() bool { return p.info.IsDir() }

// findHidden looks up what is there of a list, each once. What the command does not reach
// whatever it does is skipped, unless it has to be there; a socket or a device is no file.
func findHidden(list []Hidden) (found []*placeholder, lowered []string, err error) {
	seen := make(map[string]bool, len(list))
	for _, hidden := range list {
		var info fs.FileInfo
		real, err := filepath.EvalSymlinks(hidden.Path)
		if err == nil {
			info, err = os.Lstat(real)
		}
		switch {
		case err != nil && !hidden.Required && outOfReach(hidden.Path, err):
			continue
		case err != nil:
			return nil, nil, fmt.Errorf("hide %w", Denied(hidden.Path, err))
		case seen[real] || IsBelow(real, runFolder) && !IsBelow(real, secretsFolder) || !info.IsDir() && !info.Mode().IsRegular():
			continue
		}
		seen[real] = true
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() && stat.Nlink > 1 {
			lowered = append(lowered, fmt.Sprintf("%s is hidden, and has another name (a hard link) under which it stays in reach", hidden.Path))
		}
		found = append(found, &placeholder{Hidden: hidden, real: real, info: info})
	}
	return found, lowered, nil
}

// scratch is a filesystem of ours that is nowhere once its parts are where they are to be.
type scratch struct {
	folder string
	next   int
}

// scratchFolders are where one may be made, for as long as nothing of ours looks there.
var scratchFolders = []string{runFolder, "/mnt", "/media", "/srv", "/opt", "/boot", "/sys", "/usr"}

// newScratch mounts one on a folder in which nothing of what is hidden or seen lies, and
// that lies in none of it.
func newScratch(found []*placeholder, views []*view) (*scratch, error) {
	var names []string
	for _, p := range found {
		names = append(names, p.allNames()...)
	}
	for _, v := range views {
		names = append(names, v.allNames()...)
	}
	for _, folder := range scratchFolders {
		if slices.ContainsFunc(names, func(name string) bool { return IsBelow(name, folder) || IsBelow(folder, name) }) {
			continue
		}
		err := unix.Mount("tmpfs", folder, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, scratchOptions)
		if err == nil {
			return &scratch{folder: folder}, nil
		}
		if !outOfReach(folder, err) {
			return nil, fmt.Errorf("make placeholders: %w", err)
		}
	}
	return nil, fmt.Errorf("make placeholders: each of %s is missing, hidden or seen otherwise than it is", strings.Join(scratchFolders, ", "))
}

// add makes a placeholder with the rights and the owner of what it stands for, and
// in a folder the names that are to be there.
func (s *scratch) add(p *placeholder, views []*view) error {
	p.made = filepath.Join(s.folder, strconv.Itoa(s.next))
	s.next++
	if !p.folder() {
		return s.finish(p, os.WriteFile(p.made, []byte(p.Empty), 0o600))
	}
	err := os.Mkdir(p.made, 0o755)
	for _, name := range p.With {
		if info, statErr := os.Lstat(filepath.Join(p.real, name)); err == nil && statErr == nil && info.Mode().IsRegular() {
			err = os.WriteFile(filepath.Join(p.made, name), nil, 0o600)
			own(filepath.Join(p.made, name), info)
		}
	}
	for _, v := range views {
		for _, name := range p.allNames() {
			if err == nil && v.real != name && IsBelow(v.real, name) {
				relative, _ := filepath.Rel(name, v.real)
				err = v.placeIn(p.made, relative)
			}
		}
	}
	return s.finish(p, err)
}

func (s *scratch) finish(p *placeholder, err error) error {
	if err != nil {
		return fmt.Errorf("hide %s: %w", p.Path, err)
	}
	own(p.made, p.info)
	return nil
}

// own gives what we made the owner and the rights of the original. Where there is no
// right to, it stays ours, and the command is nobody else. An empty folder its owner may
// enter in any case: there is nothing in it, and we may have to look what leads there.
func own(made string, info fs.FileInfo) {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		os.Chown(made, int(stat.Uid), int(stat.Gid))
	}
	mode := info.Mode() & (fs.ModePerm | fs.ModeSticky)
	if info.IsDir() {
		mode |= 0o500
	}
	os.Chmod(made, mode)
}

// seal makes it read-only, and with it each mount of a part that follows.
func (s *scratch) seal() error {
	const flags = unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("", s.folder, "", flags, ""); err != nil {
		return fmt.Errorf("make placeholders read-only: %w", err)
	}
	return nil
}

// remove takes it from where it was made.
func (s *scratch) remove() error {
	if err := unix.Unmount(s.folder, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("make placeholders: %w", err)
	}
	return nil
}

var errChanges = contradiction("it changes while the sandbox is made; start the command again")

func openAt(path string, stat *unix.Stat_t) (fd int, err error) {
	fd, err = unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Fstat(fd, stat); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
