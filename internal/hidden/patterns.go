package hidden

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/sandbox"
	"sluice.dev/sluice/rules"
)

const (
	// maxLooked is how much of a file is looked at for what makes it a secret, in bytes.
	maxLooked = 64 << 10
	// maxEntries is how many entries of a folder are compared with a pattern.
	maxEntries = 4096
)

// patterns is the list as it is for one user: below each home, and where variables put
// its folders.
type patterns struct{ all []pattern }

type pattern struct {
	base   string // a home, or the folder that a variable names
	rest   string // below it; * stands within one name
	reason rules.HiddenPath
}

func (p *pattern) path() string { return filepath.Join(p.base, p.rest) }

func newPatterns(list rules.Hidden, homes []string, getenv func(string) string) *patterns {
	type place struct{ folder, base string }
	var places []place // where variables put folders of the home
	for _, moved := range list.Moved {
		if base := getenv(moved.Variable); filepath.IsAbs(base) && filepath.Clean(base) != "/" {
			places = append(places, place{moved.Folder, filepath.Clean(base)})
		}
	}
	p := &patterns{all: make([]pattern, 0, len(list.Paths)*(len(homes)+1))}
	for _, reason := range list.Paths {
		for _, home := range homes {
			p.all = append(p.all, pattern{home, reason.Path, reason})
		}
		for _, moved := range places {
			if rest, below := strings.CutPrefix(reason.Path, moved.folder); below && (rest == "" || rest[0] == '/') {
				p.all = append(p.all, pattern{moved.base, strings.TrimPrefix(rest, "/"), reason})
			}
		}
		for _, file := range list.Files {
			if file.Path != reason.Path {
				continue
			}
			for _, path := range namedBy(file, getenv) {
				p.all = append(p.all, pattern{path, "", reason})
			}
		}
	}
	return p
}

// maxNamed bounds the files that one variable names.
const maxNamed = 64

// namedBy returns the files that a variable names; the first of them, for a program that
// is told of more asks for those first.
func namedBy(file rules.MovedFile, getenv func(string) string) (paths []string) {
	texts := []string{getenv(file.Variable)}
	if file.Separated {
		texts = filepath.SplitList(texts[0])
	}
	for _, path := range texts[:min(len(texts), maxNamed)] {
		if filepath.IsAbs(path) && filepath.Clean(path) != "/" {
			paths = append(paths, filepath.Clean(path))
		}
	}
	return paths
}

// each calls do with every path that is there and is to be hidden.
func (p *patterns) each(do func(path string, folder bool, reason rules.HiddenPath) error) error {
	for _, one := range p.all {
		paths, closed, err := one.expand()
		if err != nil {
			return err
		}
		for _, folder := range closed {
			if err := do(folder, true, closedReason); err != nil {
				return err
			}
		}
		for _, path := range paths {
			info, err := os.Stat(path)
			if _, closed := closedBy(path, err); closed {
				if err := do(path, false, one.reason); err != nil { // it says by which folder
					return err
				}
			}
			if err != nil || !info.IsDir() && !info.Mode().IsRegular() || info.IsDir() && one.wild() || one.excepted(path) {
				continue
			}
			if one.reason.Holds != "" {
				if found, err := holds(path, one.reason.Holds); err != nil {
					return err
				} else if !found {
					continue
				}
			}
			if err := do(path, info.IsDir(), one.reason); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pattern) wild() bool { return strings.Contains(p.rest, "*") }

func (p *pattern) excepted(path string) bool {
	return slices.ContainsFunc(p.reason.Except, func(name string) bool {
		matched, _ := filepath.Match(name, filepath.Base(path))
		return matched
	})
}

// expand returns the paths that may be there, and the folders that are closed to us
// alone. A home may have a * in its name; so only the part below it is a pattern.
func (p *pattern) expand() (paths, closed []string, err error) {
	if !p.wild() {
		return []string{p.path()}, nil, nil
	}
	paths = []string{strings.TrimSuffix(p.base, "/")}
	for name := range strings.SplitSeq(p.rest, "/") {
		var below []string
		for _, folder := range paths {
			if !strings.Contains(name, "*") {
				below = append(below, folder+"/"+name)
				continue
			}
			matched, err := entries(folder, name)
			switch by, found := unlisted(folder, err); {
			case found:
				closed = append(closed, by)
			case err != nil && !errors.Is(err, fs.ErrPermission): // the command does not get there either
				return nil, nil, err
			}
			below = append(below, matched...)
		}
		paths = below
	}
	return paths, closed, nil
}

// entries returns those of a folder whose names match.
func entries(folder, pattern string) (paths []string, err error) {
	fd, err := unix.Open(folder, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
		return nil, nil // it is not there
	}
	file := os.NewFile(uintptr(fd), folder)
	defer file.Close()
	names, err := file.Readdirnames(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("look for files to hide: %w", err)
	}
	if len(names) > maxEntries {
		return nil, fmt.Errorf("%s has more than %d entries, too many to look for those to hide: hide all of it, with %s %s", folder, maxEntries, flagHide, folder)
	}
	for _, name := range names {
		if matched, _ := filepath.Match(pattern, name); matched {
			paths = append(paths, folder+"/"+name)
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// holds says whether the first bytes of a file match; what is longer, or cannot be
// read, may hold anything.
func holds(path, expression string) (bool, error) {
	sought, err := regexp.Compile(expression)
	if err != nil {
		return false, fmt.Errorf("the list of hidden files: %w", err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0) // a pipe has no bytes yet
	if err != nil {
		return true, nil
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxLooked+1))
	if err != nil || len(text) > maxLooked {
		return true, nil
	}
	return sought.Match(text), nil
}

// match says whether a path is one of the list, there or not.
func (p *patterns) match(path string) bool {
	return slices.ContainsFunc(p.all, func(one pattern) bool { return one.matches(path) })
}

// covers says whether a path, something in it, or what it lies in is one of the list.
func (p *patterns) covers(path string) bool {
	if p.match(path) {
		return true
	}
	for folder := path; folder != "/" && folder != "."; folder = filepath.Dir(folder) {
		if slices.ContainsFunc(p.all, func(one pattern) bool { return !one.wild() && one.path() == folder }) {
			return true
		}
	}
	return slices.ContainsFunc(p.all, func(one pattern) bool { return sandbox.IsBelow(one.path(), path) })
}

func (p *pattern) matches(path string) bool {
	if p.rest == "" {
		return path == p.base
	}
	rest, below := strings.CutPrefix(path, strings.TrimSuffix(p.base, "/")+"/")
	if !below || p.excepted(path) {
		return false
	}
	matched, _ := filepath.Match(p.rest, rest) // its * stands within one name, too
	return matched
}
