package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	// maxWayLinks bounds the symbolic links on the way to a folder, as the kernel does.
	maxWayLinks = 40
	// maxLooked bounds the files below hidden folders that are looked at for other names.
	maxLooked = 4096
)

// limitsOf says of a path that is to be hidden what hiding cannot hold: a link on the
// way to it that the command can replace, so that who follows the path later comes
// elsewhere, and files in it that have other names too.
func (h *holder) limitsOf(path string) (lowered []string) {
	for _, link := range linksTo(path) {
		if movable, err := h.movable(link); err == nil && movable {
			lowered = append(lowered, fmt.Sprintf("the way to %s leads over the link %s, which the command can replace: a server that is started later would use another folder", path, link))
		}
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return lowered
	}
	other, whole := linkedFile(real)
	switch {
	case other != "":
		lowered = append(lowered, fmt.Sprintf("%s is hidden, and has another name (a hard link) under which it may remain reachable", other))
	case !whole:
		lowered = append(lowered, fmt.Sprintf("%s is hidden, and not each file in it was looked at: one that has another name (a hard link) may remain reachable", path))
	}
	return lowered
}

// linksTo returns the symbolic links on the way to a path, as far as it can be followed.
func linksTo(path string) (links []string) {
	at, rest := "/", path
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/")
		if name == "" {
			break
		}
		next := filepath.Join(at, name)
		target, err := os.Readlink(next)
		if err != nil {
			at = next
			continue
		}
		if links = append(links, next); len(links) == maxWayLinks {
			break
		}
		if rest = target + "/" + rest; filepath.IsAbs(target) {
			at = "/"
		}
	}
	return links
}

// linkedFile returns the first file of or below a path that has more than one name; whole
// says that all were looked at.
func linkedFile(path string) (found string, whole bool) {
	looked := 0
	whole = true
	filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		if looked++; looked > maxLooked {
			whole = false
			return filepath.SkipAll
		}
		if err != nil {
			whole = whole && outOfReach(file, err)
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return nil
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink > 1 {
			found = file
			return filepath.SkipAll
		}
		return nil
	})
	return found, whole
}
