package sandbox

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Something may be seen under several names, through mounts of the same filesystem. Each
// name is a layer of its own: what lies deeper comes first where a tree is copied or
// covered, and last where one is put in its place.

// layer is one name of what is hidden or seen.
type layer struct {
	path string
	do   func() error
}

func runLayers(layers []layer, order func(a, b string) int) error {
	slices.SortStableFunc(layers, func(a, b layer) int { return order(a.path, b.path) })
	for _, one := range layers {
		if err := one.do(); err != nil {
			return err
		}
	}
	return nil
}

// inFirst puts what is in a folder before it.
func inFirst(a, b string) int { return byDepth(b, a) }

// coverAndTake covers what is hidden and copies what is to be seen, the innermost first,
// so that a copy holds what is covered in it and not what is covered around it.
func coverAndTake(found []*placeholder, views []*view) error {
	var layers []layer
	for _, v := range views { // before what is hidden by the same name
		for _, name := range v.allNames() {
			layers = append(layers, layer{name, func() error { return v.take(name) }})
		}
	}
	for _, p := range found {
		for i, name := range p.allNames() {
			layers = append(layers, layer{name, func() error { return p.cover(name, i > 0) }})
		}
	}
	return runLayers(layers, inFirst)
}

// placeViews puts each view where it belongs, the outermost first.
func placeViews(views []*view) error {
	var layers []layer
	for _, v := range views {
		for i, name := range v.allNames() {
			layers = append(layers, layer{name, func() error { return v.place(name, i > 0, views) }})
		}
	}
	return runLayers(layers, byDepth)
}

func (v *view) allNames() []string { return append([]string{v.real}, v.names...) }

func (p *placeholder) allNames() []string { return append([]string{p.real}, p.names...) }

// contradictionError says which wishes cannot be met together, on any machine.
type contradictionError struct{ text string }

func (e *contradictionError) Error() string { return e.text }

func contradiction(format string, values ...any) error {
	return &contradictionError{fmt.Sprintf(format, values...)}
}

// keepApart refuses what is to be hidden and seen under two names, and takes from a view
// its other names that lie in what is hidden: there nobody comes. Who hides whole folders
// for the sake of what is to be seen in them may name it by any.
func keepApart(found []*placeholder, views []*view) error {
	for _, v := range views {
		for _, p := range found {
			if !p.Quiet && p.real != v.real && os.SameFile(p.info, v.info) {
				return contradiction("%s, to be %s: it is another name of %s, which is hidden; leave one of the two out", v.Path, v.Mode, p.Path)
			}
			for _, name := range p.names {
				if !p.Quiet && IsBelow(v.real, name) {
					return contradiction("%s, to be %s: it lies in another name of %s, which is hidden; name it below that, or leave one of the two out", v.Path, v.Mode, p.Path)
				}
			}
			v.names = slices.DeleteFunc(v.names, func(name string) bool {
				return slices.ContainsFunc(p.allNames(), func(hidden string) bool { return IsBelow(name, hidden) })
			})
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
	others, err := aliasesIn(all, path, id)
	if err != nil {
		return nil, err
	}
	others = slices.DeleteFunc(others, func(name string) bool { return IsBelow(name, path) })
	if len(others) > maxAliases {
		return nil, errors.New(tooManyAliases(path))
	}
	return others, nil
}

// take copies what is to be seen under one of its names, with all that is mounted in it,
// as long as it is to be seen there.
func (v *view) take(name string) error {
	if v.Mode == ViewEmpty {
		return nil
	}
	from, flags := unix.AT_FDCWD, uint(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_SYMLINK_NOFOLLOW)
	path := name
	if v.found != nil {
		from, path, flags = int(v.found.Fd()), "", flags|unix.AT_EMPTY_PATH
	}
	tree, err := unix.OpenTree(from, path, flags)
	if err == nil {
		v.trees[name] = tree
		if v.readOnly {
			err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		}
	}
	if err != nil {
		return fmt.Errorf("%s, to be %s: %w", v.Path, v.Mode, err)
	}
	return nil
}

// place puts it where one of its names is; views are the others, for which an empty folder
// has a place. What may be gone is a name in what another view has put there.
func (v *view) place(name string, mayBeGone bool, views []*view) error {
	if v.Mode == ViewEmpty {
		return v.placeEmpty(views)
	}
	if err := unix.MoveMount(v.trees[name], "", unix.AT_FDCWD, name, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil && !(mayBeGone && outOfReach(name, err)) {
		return fmt.Errorf("%s, to be %s: %w", v.Path, v.Mode, err)
	}
	return nil
}

// cover puts a placeholder in its place, under one name.
func (p *placeholder) cover(name string, mayBeGone bool) error {
	if err := p.coverOpened(name); err != nil && !(mayBeGone && outOfReach(name, err)) {
		return fmt.Errorf("hide %w", Denied(name, err))
	}
	return nil
}

// coverOpened covers what it opened by a name, and then looks what the name leads to: a
// command of another sandbox may change rights and names all the while.
func (p *placeholder) coverOpened(name string) error {
	var found, made, now unix.Stat_t
	fd, err := openAt(name, &found)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if folder := found.Mode&unix.S_IFMT == unix.S_IFDIR; folder != p.folder() {
		return errChanges
	}
	if err := unix.Mount(p.made, "/proc/self/fd/"+strconv.Itoa(fd), "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := unix.Lstat(p.made, &made); err != nil {
		return err
	}
	again, err := openAt(name, &now)
	if err != nil {
		return err
	}
	unix.Close(again)
	if now.Dev != made.Dev || now.Ino != made.Ino {
		return errChanges
	}
	return nil
}
