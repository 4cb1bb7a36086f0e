package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxAliases bounds the other mounts through which one folder is seen; a machine that
// has more gets no sandbox, for the rest would stay in reach.
const maxAliases = 256

// holder keeps hidden folders where they are: the command can neither take away a
// folder around one, and put its own in the place, nor come to it by another mount.
type holder struct {
	uid       int             // of the command
	overrides bool            // it may write any folder
	held      map[string]bool // folders that were looked at, whether they had to be held or not
	lowered   []string        // what of what is hidden cannot be held
}

func newHolder(uid int, overrides bool) *holder {
	return &holder{uid: uid, overrides: overrides, held: make(map[string]bool)}
}

// maskAll masks paths, and returns the folders that are masked.
func (h *holder) maskAll(paths []string) (masked []string, err error) {
	for _, path := range paths {
		h.lowered = append(h.lowered, h.limitsOf(path)...)
		folders, err := h.mask(path)
		if err != nil {
			return nil, err
		}
		masked = append(masked, folders...)
	}
	return masked, nil
}

// hold makes each folder around path that the command could rename a mount point of
// its own, which the kernel does not rename, under whatever name. Path has no links.
func (h *holder) hold(path string) error {
	for _, folder := range ancestors(path) {
		if h.held[folder] {
			continue
		}
		movable, err := h.movable(folder)
		if err != nil {
			return fmt.Errorf("hold %s: %w", folder, err)
		}
		h.held[folder] = true
		if !movable {
			continue
		}
		if err := unix.Mount(folder, folder, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("hold %s: %w", folder, err)
		}
	}
	return nil
}

// mask hides a folder under all its names, and holds what is around it; a file is
// hidden under all its names. The folders that are hidden are returned.
func (h *holder) mask(path string) (folders []string, err error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		folder, err := mask(path) // it says what that means
		return nonEmpty(folder), err
	}
	if info, err := os.Lstat(real); err == nil && info.IsDir() {
		if err := h.hold(real); err != nil {
			return nil, err
		}
	}
	others, err := aliases(real)
	if err != nil {
		return nil, err
	}
	for _, name := range append([]string{real}, others...) {
		folder, err := mask(name)
		if err != nil {
			return nil, err
		}
		folders = append(folders, nonEmpty(folder)...)
	}
	return folders, nil
}

func nonEmpty(folder string) []string {
	if folder == "" {
		return nil
	}
	return []string{folder}
}

// ancestors are the folders around path but /, the outermost first.
func ancestors(path string) (folders []string) {
	for at := 1; at < len(path); at++ {
		if path[at] == '/' {
			folders = append(folders, path[:at])
		}
	}
	return folders
}

// movable says whether the command's user may rename a folder: by its parent's owner
// and bits. Any group counts as the command's, for lists of access show in those bits.
func (h *holder) movable(folder string) (bool, error) {
	if h.overrides {
		return true, nil
	}
	var own, parent unix.Stat_t
	if err := unix.Lstat(folder, &own); err != nil {
		return false, err
	}
	if err := unix.Lstat(filepath.Dir(folder), &parent); err != nil {
		return false, err
	}
	return mayRename(h.uid, &own, &parent), nil
}

func mayRename(uid int, own, parent *unix.Stat_t) bool {
	switch {
	case int(parent.Uid) == uid: // who may give itself the right, too
		return true
	case parent.Mode&0o022 == 0:
		return false
	case parent.Mode&unix.S_ISVTX != 0:
		return int(own.Uid) == uid
	}
	return true
}

// aliases returns the other paths at which a folder, or what is in it, is seen through
// mounts of the same filesystem: bind mounts, and a filesystem that is mounted twice.
func aliases(path string) (others []string, err error) {
	all, err := readMounted()
	if err != nil {
		return nil, err
	}
	id, err := mountOf(path)
	if err != nil {
		return nil, fmt.Errorf("the mount of %s: %w", path, err)
	}
	others, err = aliasesIn(all, path, id)
	if err != nil {
		return nil, err
	}
	if len(others) > maxAliases {
		return nil, errors.New(tooManyAliases(path))
	}
	return others, nil
}

func tooManyAliases(path string) string {
	return fmt.Sprintf("%s is seen through more than %d mounts", path, maxAliases)
}

func aliasesIn(all []mounted, path, id string) (others []string, err error) {
	var inside, device string // of the folder: its path in its filesystem
	for _, m := range all {
		if m.id == id && IsBelow(path, m.point) {
			relative, _ := filepath.Rel(m.point, path)
			inside, device = filepath.Join(m.root, relative), m.device
		}
	}
	for _, m := range all {
		at := m.point
		switch {
		case m.device != device || m.id == id:
			continue
		case IsBelow(inside, m.root):
			relative, _ := filepath.Rel(m.root, inside)
			at = filepath.Join(m.point, relative)
		case !IsBelow(m.root, inside):
			continue
		}
		seen, err := isSeen(at, m.id)
		if err != nil {
			return nil, err
		}
		if seen {
			others = append(others, at)
		}
	}
	return others, nil
}
