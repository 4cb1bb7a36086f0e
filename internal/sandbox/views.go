package sandbox

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// memoryShare is how much of the machine's memory all folders in memory take together, in
// percent; what is in them counts as its writer's memory.
const memoryShare = 50

// view is a View whose path was looked up.
type view struct {
	View
	real     string
	info     fs.FileInfo
	readOnly bool
	names    []string       // beside real: other mounts of what is to be read-only
	trees    map[string]int // what is to be seen, detached, by its name
	found    *os.File       // what was found there, where a Type was wanted
}

func findViews(list []View) (found []*view, err error) {
	for _, wanted := range list {
		v := &view{View: wanted, trees: make(map[string]int)}
		if err := v.find(); err != nil {
			closeViews(found)
			return nil, fmt.Errorf("to be %s: %w", wanted.Mode, Denied(wanted.Path, err))
		}
		found = append(found, v)
	}
	slices.SortStableFunc(found, func(a, b *view) int { return byDepth(a.real, b.real) })
	for i, v := range found {
		v.readOnly = v.Mode == ViewReadOnly
		if v.Mode == ViewShown { // it is what the folder around it is
			for _, around := range found[:i] {
				if around.Mode != ViewShown && IsBelow(v.real, around.real) {
					v.readOnly = around.readOnly
				}
			}
		}
	}
	return found, nil
}

func (v *view) find() (err error) {
	if v.Type != 0 {
		return v.findTyped()
	}
	if v.real, err = filepath.EvalSymlinks(v.Path); err == nil {
		v.info, err = os.Lstat(v.real)
	}
	return err
}

// findTyped looks once: what was found then is what is shown, whatever the name leads to
// by that time.
func (v *view) findTyped() error {
	var stat unix.Stat_t
	fd, err := openAt(v.Path, &stat)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), v.Path)
	v.real, err = os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err == nil {
		v.info, err = file.Stat()
	}
	if err == nil && (v.real != v.Path || v.info.Mode().Type() != v.Type) {
		err = errChanges
	}
	if err != nil {
		file.Close()
		return err
	}
	v.found = file
	return nil
}

func closeViews(views []*view) {
	for _, v := range views {
		v.close()
	}
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

func (v *view) placeEmpty(views []*view) error {
	folders := 0
	for _, one := range views {
		if one.Mode == ViewEmpty {
			folders++
		}
	}
	options := fmt.Sprintf("size=%d%%", max(1, memoryShare/folders))
	err := unix.Mount("tmpfs", v.real, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options)
	for _, other := range views {
		if err == nil && other != v && other.real != v.real && IsBelow(other.real, v.real) {
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
	v.found.Close() // nil is closed
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
	defer closeViews(views)
	if err != nil || len(found)+len(views) == 0 {
		return done, err
	}
	if err := h.nameFiles(found, views); err != nil {
		return done, err
	}
	done.watch, err = placeAll(found, views)
	return done, err
}

func placeAll(found []*placeholder, views []*view) (*openWatch, error) {
	s, err := newScratch(found, views)
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
	return watch, placeViews(views)
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
	return keepApart(found, views)
}
