package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// memoryOptions bound a folder in memory; what is in it counts as its writer's memory.
const memoryOptions = "size=50%"

// view is a View whose path was looked up.
type view struct {
	View
	real     string
	info     fs.FileInfo
	readOnly bool
	names    []string // beside real: other mounts of what is to be read-only
	trees    []int    // what is to be seen, detached; one for each name, real first
}

func findViews(list []View) (found []*view, err error) {
	for _, wanted := range list {
		real, err := filepath.EvalSymlinks(wanted.Path)
		if err != nil && unreachable(err) {
			continue
		}
		v := &view{View: wanted, real: real}
		if err == nil {
			v.info, err = os.Lstat(real)
		}
		if err != nil {
			return nil, fmt.Errorf("%s, to be %s: %w", wanted.Path, wanted.Mode, err)
		}
		found = append(found, v)
	}
	slices.SortStableFunc(found, func(a, b *view) int { return byDepth(a.real, b.real) })
	for i, v := range found {
		v.readOnly = v.Mode == ViewReadOnly
		if v.Mode == ViewShown { // it is what the folder around it is
			for _, around := range found[:i] {
				if around.Mode != ViewShown && isBelow(v.real, around.real) {
					v.readOnly = around.readOnly
				}
			}
		}
	}
	return found, nil
}

// byDepth puts a folder before what is in it.
func byDepth(a, b string) int {
	return cmp.Or(cmp.Compare(strings.Count(a, "/"), strings.Count(b, "/")), strings.Compare(a, b))
}

// placeIn makes a place for it at a path relative to a folder of ours.
func (v *view) placeIn(folder, relative string) error {
	at := filepath.Join(folder, relative)
	if v.info.IsDir() {
		return os.MkdirAll(at, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(at, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}

// take copies what is to be seen, with all that is mounted in it, as long as it is
// to be seen by its name.
func (v *view) take() error {
	if v.Mode == ViewEmpty {
		return nil
	}
	for _, name := range append([]string{v.real}, v.names...) {
		tree, err := unix.OpenTree(unix.AT_FDCWD, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			return fmt.Errorf("%s, to be %s: %w", v.Path, v.Mode, err)
		}
		v.trees = append(v.trees, tree)
		if !v.readOnly {
			continue
		}
		err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		if err != nil {
			return fmt.Errorf("%s, to be %s: %w", v.Path, v.Mode, err)
		}
	}
	return nil
}

// place puts it where it belongs; views are the others, for which an empty folder has
// a place.
func (v *view) place(views []*view) error {
	if v.Mode == ViewEmpty {
		return v.placeEmpty(views)
	}
	for i, name := range append([]string{v.real}, v.names...) {
		if err := unix.MoveMount(v.trees[i], "", unix.AT_FDCWD, name, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil && !(i > 0 && unreachable(err)) {
			return fmt.Errorf("%s, to be %s: %w", v.Path, v.Mode, err)
		}
	}
	return nil
}

func (v *view) placeEmpty(views []*view) error {
	err := unix.Mount("tmpfs", v.real, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, memoryOptions)
	for _, other := range views {
		if err == nil && other != v && other.real != v.real && isBelow(other.real, v.real) {
			relative, _ := filepath.Rel(v.real, other.real)
			err = other.placeIn(v.real, relative)
		}
	}
	if err != nil {
		return fmt.Errorf("%s, to be %s: %w", v.Path, v.Mode, err)
	}
	own(v.real, v.info)
	return nil
}

func (v *view) close() {
	for _, tree := range v.trees {
		unix.Close(tree)
	}
}

// applied is what came of it.
type applied struct {
	watch   *openWatch // nil where nothing is hidden
	lowered []string
}

// applyFiles hides what is to be hidden and gives each view its place, for a command of
// the holder's user.
func applyFiles(h *holder, files *Files) (done applied, err error) {
	found, lowered, err := findHidden(files.Hide)
	if err != nil {
		return done, err
	}
	done.lowered = lowered
	views, err := findViews(files.Views)
	if err != nil || len(found)+len(views) == 0 {
		return done, err
	}
	defer func() {
		for _, v := range views {
			v.close()
		}
	}()
	if err := h.nameFiles(found, views); err != nil {
		return done, err
	}
	done.watch, err = placeAll(found, views)
	return done, err
}

func placeAll(found []*placeholder, views []*view) (*openWatch, error) {
	s, err := newScratch()
	if err != nil {
		return nil, err
	}
	for _, p := range found {
		if err := s.add(p, views); err != nil {
			return nil, err
		}
	}
	watch := watchPlaceholders(found)
	if err := s.seal(); err != nil {
		return nil, err
	}
	if err := coverAndTake(found, views); err != nil {
		return nil, err
	}
	if err := s.remove(); err != nil {
		return nil, err
	}
	for _, v := range views {
		if err := v.place(views); err != nil {
			return nil, err
		}
	}
	return watch, nil
}

// nameFiles holds the folders around all of it, and finds what else leads there.
func (h *holder) nameFiles(found []*placeholder, views []*view) error {
	for _, p := range found {
		if err := h.hold(p.real); err != nil {
			return err
		}
	}
	for _, v := range views {
		if err := h.hold(v.real); err != nil {
			return err
		}
	}
	all, err := readMounted()
	if err != nil {
		return err
	}
	for _, p := range found {
		if p.names, err = otherNames(all, p.real); err != nil {
			return err
		}
	}
	for _, v := range views {
		if v.Mode != ViewReadOnly {
			continue
		}
		if v.names, err = otherNames(all, v.real); err != nil {
			return err
		}
	}
	return nil
}

// coverAndTake covers what is hidden and copies what is to be seen, the innermost first,
// so that a copy holds what is covered in it and not what is covered around it.
func coverAndTake(found []*placeholder, views []*view) error {
	type step struct {
		path string
		do   func() error
	}
	var steps []step
	for _, v := range views { // before what is hidden by the same name
		steps = append(steps, step{v.real, v.take})
	}
	for _, p := range found {
		steps = append(steps, step{p.real, p.cover})
	}
	slices.SortStableFunc(steps, func(a, b step) int { return byDepth(b.path, a.path) })
	for _, step := range steps {
		if err := step.do(); err != nil {
			return err
		}
	}
	return nil
}

// otherNames are the names beside path, and not below it, under which it is seen.
func otherNames(all []mounted, path string) ([]string, error) {
	id, err := mountOf(path)
	if err != nil {
		return nil, fmt.Errorf("the mount of %s: %w", path, err)
	}
	others := slices.DeleteFunc(aliasesIn(all, path, id), func(name string) bool { return isBelow(name, path) })
	if len(others) > maxAliases {
		return nil, errors.New(tooManyAliases(path))
	}
	return others, nil
}
