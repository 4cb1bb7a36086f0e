// Package hidden says which of the machine's files a command does not see, or sees
// read-only: those of the list in rules/hidden.yaml, and what the flags of `sluice run`
// add and bring back. `sluice run` calls it; it looks at names and, where the list says
// so, at the first bytes of a file, and changes nothing.
package hidden

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"sluice.dev/sluice/internal/sandbox"
	"sluice.dev/sluice/rules"
)

// Wishes are the paths of a call's flags, absolute.
type Wishes struct {
	Hide, Show, ReadOnly, Writable []string
	WorkdirOnly                    bool
}

// Config is one call.
type Config struct {
	Wishes
	List    rules.Hidden
	Homes   []string            // of the command's user, as the environment and the machine have them
	Getenv  func(string) string // the command's environment
	Workdir string              // the command's, through no link
	Masked  []string            // folders of Sluice, which are hidden in any case
	Given   []Given             // what the command reaches, wherever it lies
}

// Given is a unix socket that the command may connect to, or a FIFO of its caller's.
type Given struct {
	Path string
	Type fs.FileMode // what it was, and must still be when it is shown
}

// Plan is what is hidden and seen, and why.
type Plan struct {
	Files sandbox.Files
	// Notes are sentences for whoever starts the command.
	Notes []string
	why   map[string]rules.HiddenPath // by the path in Files
}

// Reason says what a hidden path holds, and what is better than to show it; what is
// "" where a flag hides it.
func (p *Plan) Reason(path string) (what, instead string) {
	reason := p.why[path]
	return reason.What, reason.Instead
}

// Make makes the plan of a call. Its errors name the flag.
func Make(c Config) (*Plan, error) {
	m := &maker{Config: c, plan: &Plan{why: make(map[string]rules.HiddenPath)}}
	m.list = newPatterns(c.List, c.Homes, c.Getenv)
	wanted, err := m.wanted()
	if err != nil {
		return nil, err
	}
	if c.WorkdirOnly {
		if err := m.workdirOnly(); err != nil {
			return nil, err
		}
	}
	if err := m.hideWanted(wanted); err != nil {
		return nil, err
	}
	if err := m.hideListed(wanted); err != nil {
		return nil, err
	}
	if err := m.see(wanted); err != nil {
		return nil, err
	}
	return m.plan, m.check()
}

// maker makes one plan.
type maker struct {
	Config
	plan *Plan
	list *patterns
	tops []string // folders that are hidden as a whole, or empty
}

// The flags.
const (
	flagHide     = "--hide"
	flagShow     = "--show"
	flagReadOnly = "--ro"
	flagWritable = "--rw"
	flagOnly     = "--workdir-only"
)

// wish is one path of a flag.
type wish struct {
	flag string
	path string // as the list may have it
	real string // without links; path where there is nothing
	info os.FileInfo
}

// own are folders that a sandbox has of its own, or protects.
var own = []string{"/proc", "/sys", "/dev", "/run", "/var/run"}

// secrets is what of them a command keeps.
const secrets = "/run/secrets"

// wanted looks the paths of the flags up.
func (m *maker) wanted() (all []wish, err error) {
	seen := make(map[string]string)
	for _, flag := range []struct {
		name  string
		paths []string
	}{{flagHide, m.Hide}, {flagShow, m.Show}, {flagReadOnly, m.ReadOnly}, {flagWritable, m.Writable}} {
		for _, path := range flag.paths {
			w := wish{flag: flag.name, path: filepath.Clean(path)}
			w.real = w.path
			if real, err := filepath.EvalSymlinks(w.path); err == nil {
				w.real = real
			}
			w.info, err = os.Stat(w.real)
			if err != nil && (flag.name != flagShow || !m.list.match(w.path)) {
				return nil, fmt.Errorf("%s: %w", flag.name, err)
			}
			if err := m.refuse(w); err != nil {
				return nil, err
			}
			if other, found := seen[w.real]; found {
				return nil, fmt.Errorf("%s %s: %s names the same path; leave one of them out", w.flag, path, other)
			}
			seen[w.real] = w.flag + " " + path
			all = append(all, w)
		}
	}
	return all, nil
}

// refuse says which paths no flag takes.
func (m *maker) refuse(w wish) error {
	if w.real == "/" {
		return fmt.Errorf("%s /: name folders below it, as in %s /home", w.flag, w.flag)
	}
	for _, folder := range own {
		if sandbox.IsBelow(w.real, folder) && !sandbox.IsBelow(w.real, secrets) {
			return fmt.Errorf("%s %s: the sandbox has a %s of its own", w.flag, w.path, folder)
		}
	}
	for _, folder := range m.Masked {
		if real, err := filepath.EvalSymlinks(folder); err == nil {
			folder = real
		}
		if sandbox.IsBelow(w.real, folder) {
			return fmt.Errorf("%s %s: it lies in %s, which is hidden from every command", w.flag, w.path, folder)
		}
	}
	if w.info != nil && !w.info.IsDir() && !w.info.Mode().IsRegular() {
		return fmt.Errorf("%s %s: neither a file nor a folder", w.flag, w.path)
	}
	return nil
}

// only are the folders that --workdir-only hides beside the home: where the machine
// keeps what belongs to somebody. empty are those in whose place a command needs one.
var (
	only  = []string{"/home", "/root", "/mnt", "/media", "/srv"}
	empty = []string{"/tmp", "/var/tmp"}
)

func (m *maker) workdirOnly() (failed error) {
	add := func(path string) (real string, ok bool) {
		real, err := filepath.EvalSymlinks(path)
		if _, closed := closedBy(path, err); closed {
			failed = fmt.Errorf("%s %w", flagOnly, sandbox.Denied(path, err))
		}
		if err != nil || real == "/" || slices.Contains(m.tops, real) || slices.ContainsFunc(own, func(folder string) bool { return sandbox.IsBelow(real, folder) }) {
			return "", false
		}
		m.tops = append(m.tops, real)
		return real, true
	}
	for _, folder := range append(slices.Clone(m.Homes), empty...) {
		if real, ok := add(folder); ok {
			m.plan.Files.Views = append(m.plan.Files.Views, sandbox.View{Path: real, Mode: sandbox.ViewEmpty})
		}
	}
	for _, folder := range only {
		if real, ok := add(folder); ok {
			m.plan.Files.Hide = append(m.plan.Files.Hide, sandbox.Hidden{Path: real, Quiet: true, Required: true})
		}
	}
	return failed
}

func (m *maker) hideWanted(wanted []wish) error {
	for _, w := range wanted {
		if w.flag != flagHide {
			continue
		}
		if slices.Contains(m.tops, w.real) {
			return fmt.Errorf("%s %s: %s hides it already", w.flag, w.path, flagOnly)
		}
		m.plan.Files.Hide = append(m.plan.Files.Hide, sandbox.Hidden{Path: w.path, Required: true})
		if w.info.IsDir() {
			m.tops = append(m.tops, w.real)
		}
	}
	return nil
}

// hideListed adds what of the list is there and was not asked for.
func (m *maker) hideListed(wanted []wish) error {
	shown := func(path string) bool {
		return slices.ContainsFunc(wanted, func(w wish) bool {
			return w.flag == flagShow && (sandbox.IsBelow(path, w.path) || sandbox.IsBelow(path, w.real))
		})
	}
	seen := []string{m.Workdir}
	for _, w := range wanted {
		if w.flag != flagHide {
			seen = append(seen, w.real)
		}
	}
	gone := func(path string) bool { // with a folder that is hidden, and in no part of it that is seen
		return slices.ContainsFunc(m.tops, func(top string) bool {
			return sandbox.IsBelow(path, top) && !slices.ContainsFunc(seen, func(part string) bool { return sandbox.IsBelow(part, top) && sandbox.IsBelow(path, part) })
		})
	}
	return m.list.each(func(path string, folder bool, reason rules.HiddenPath) error {
		real, err := filepath.EvalSymlinks(path)
		if closed, found := closedBy(path, err); found && !shown(path) {
			path, real, folder, err, reason = closed, closed, true, nil, closedReason
		}
		if err != nil || shown(path) || shown(real) {
			return nil
		}
		if _, there := m.plan.why[path]; there || gone(real) {
			return nil
		}
		if err := m.refuseLink(path, real); err != nil {
			return err
		}
		if len(m.plan.Files.Hide) == sandbox.MaxHidden {
			return fmt.Errorf("more than %d files are to be hidden, %s among them: hide their folder, as in %s %s", sandbox.MaxHidden, path, flagHide, filepath.Dir(path))
		}
		m.plan.why[path] = reason
		m.plan.Files.Hide = append(m.plan.Files.Hide, sandbox.Hidden{Path: path, Empty: reason.Empty, With: reason.With})
		if folder {
			m.tops = append(m.tops, real)
		}
		if reason.What == closedReason.What {
			m.plan.Notes = append(m.plan.Notes, fmt.Sprintf("the folder %s cannot be looked through for files to hide, so all of it is hidden from the command; chmod u+rwx %[1]s opens it", path))
		}
		return nil
	})
}

// refuseLink says which link of the list leads to more than it can stand for: a command
// may have left it, and nothing would work with that hidden.
func (m *maker) refuseLink(path, real string) error {
	if path == real {
		return nil
	}
	for _, folder := range append(append(slices.Clone(m.Homes), m.Workdir), own...) {
		if found, err := filepath.EvalSymlinks(folder); err == nil && sandbox.IsBelow(found, real) {
			return fmt.Errorf("%s is of those that are hidden, and a link on the way to it makes it %s, which a command needs: remove the link", path, real)
		}
	}
	return nil
}

// see adds the views.
func (m *maker) see(wanted []wish) error {
	views := &m.plan.Files.Views
	in := func(path string, folders []string) bool {
		return slices.ContainsFunc(folders, func(folder string) bool { return path != folder && sandbox.IsBelow(path, folder) })
	}
	var readOnly []string
	for _, w := range wanted {
		if w.flag == flagReadOnly {
			readOnly = append(readOnly, w.real)
		}
	}
	for _, w := range wanted {
		switch w.flag {
		case flagShow:
			switch {
			case slices.Contains(m.tops, w.real):
				return fmt.Errorf("%s %s: %s hides it; leave one of the two out, or show what is in it", w.flag, w.path, flagOnly)
			case in(w.real, m.tops):
				*views = append(*views, sandbox.View{Path: w.real, Mode: sandbox.ViewShown})
			case !m.list.covers(w.path) && !m.list.covers(w.real):
				return fmt.Errorf("%s %s: it is not hidden", w.flag, w.path)
			}
		case flagReadOnly:
			*views = append(*views, sandbox.View{Path: w.real, Mode: sandbox.ViewReadOnly})
		case flagWritable:
			if !in(w.real, readOnly) && !in(w.real, m.tops) {
				return fmt.Errorf("%s %s: it lies in nothing that is read-only or hidden: it is for a path in one of %s or %s", w.flag, w.path, flagReadOnly, flagOnly)
			}
			*views = append(*views, sandbox.View{Path: w.real, Mode: sandbox.ViewWritable})
		}
	}
	if m.WorkdirOnly {
		m.seeOwn(in)
	}
	if len(*views) > sandbox.MaxViews {
		return fmt.Errorf("%s, %s and %s name more than %d paths", flagShow, flagReadOnly, flagWritable, sandbox.MaxViews)
	}
	return nil
}

// seeOwn adds the working folder, and what else the command was given.
func (m *maker) seeOwn(in func(string, []string) bool) {
	for _, given := range append([]Given{{Path: m.Workdir}}, m.Given...) {
		real, err := filepath.EvalSymlinks(given.Path)
		if err != nil || !in(real, m.tops) || slices.ContainsFunc(m.plan.Files.Views, func(v sandbox.View) bool { return v.Path == real }) {
			continue
		}
		m.plan.Files.Views = append(m.plan.Files.Views, sandbox.View{Path: real, Mode: sandbox.ViewShown, Type: given.Type})
	}
}

// Sees says whether a path is seen: a folder is, and so is what is in it, unless it is
// hidden or empty.
func (p *Plan) Sees(real string) bool {
	longest, seen := "", true
	for _, v := range p.Files.Views {
		if sandbox.IsBelow(real, v.Path) && len(v.Path) >= len(longest) {
			longest, seen = v.Path, v.Mode != sandbox.ViewEmpty
		}
	}
	for _, hidden := range p.Files.Hide {
		path := hidden.Path
		if found, err := filepath.EvalSymlinks(path); err == nil {
			path = found
		}
		if sandbox.IsBelow(real, path) && len(path) > len(longest) {
			longest, seen = path, false
		}
	}
	return seen
}

// check says which wishes leave the command without its folder.
func (m *maker) check() error {
	if m.Workdir == "" || m.plan.Sees(m.Workdir) {
		return nil
	}
	for _, path := range m.Hide {
		if real, err := filepath.EvalSymlinks(path); err == nil && sandbox.IsBelow(m.Workdir, real) {
			return fmt.Errorf("%s %s: the command's working folder %s lies in it; start it in another one, or name it with %s", flagHide, path, m.Workdir, flagShow)
		}
	}
	if m.WorkdirOnly {
		return fmt.Errorf("%s: the working folder %s is one that is hidden; start the command in a folder below it", flagOnly, m.Workdir)
	}
	return fmt.Errorf("the command's working folder %s is hidden; start it in another one, or name it with %s", m.Workdir, flagShow)
}
