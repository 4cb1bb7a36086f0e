// Package modules reads what kernel modules say of themselves: their names, what they
// need, and under which aliases the kernel asks for them. The harness of test/kernels
// makes the index, the guest loads by it. It never asks the machine's own modprobe.
package modules

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Module is one file below /lib/modules.
type Module struct {
	File    string   `json:"file"` // relative to the index's folder
	Needs   []string `json:"needs,omitempty"`
	Aliases []string `json:"aliases,omitempty"` // patterns, as of path.Match
}

// Index is modules by their names, in which "-" is "_".
type Index map[string]Module

// Canonical is the name of a module, however it was written.
func Canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

// Read makes the index of the modules below folder. Compressed ones are an error:
// no kernel that is tested has them.
func Read(folder string) (Index, error) {
	index := make(Index)
	err := filepath.WalkDir(folder, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		base := filepath.Base(file)
		name, ok := strings.CutSuffix(base, ".ko")
		if !ok {
			if strings.Contains(base, ".ko.") {
				return fmt.Errorf("%s: compressed modules are not supported yet", file)
			}
			return nil
		}
		m, err := readModule(file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if m.File, err = filepath.Rel(folder, file); err != nil {
			return err
		}
		index[Canonical(name)] = m
		return nil
	})
	return index, err
}

// readModule reads the section .modinfo: strings of name=value that end with a zero.
func readModule(file string) (m Module, err error) {
	opened, err := elf.Open(file)
	if err != nil {
		return m, err
	}
	defer opened.Close()
	section := opened.Section(".modinfo")
	if section == nil {
		return m, errors.New("it has no section .modinfo")
	}
	content, err := section.Data()
	if err != nil {
		return m, err
	}
	for field := range bytes.SplitSeq(content, []byte{0}) {
		name, value, _ := strings.Cut(string(field), "=")
		switch name {
		case "depends":
			for needed := range strings.SplitSeq(value, ",") {
				if needed != "" {
					m.Needs = append(m.Needs, Canonical(needed))
				}
			}
		case "alias":
			m.Aliases = append(m.Aliases, value)
		}
	}
	return m, nil
}

// Find returns the modules that the kernel means by a name or an alias.
func (x Index) Find(name string) []string {
	if _, ok := x[Canonical(name)]; ok {
		return []string{Canonical(name)}
	}
	var found []string
	for module, m := range x {
		for _, alias := range m.Aliases {
			if alias == name || matches(alias, name) {
				found = append(found, module)
				break
			}
		}
	}
	slices.Sort(found)
	return found
}

func matches(alias, name string) bool {
	ok, err := path.Match(alias, name)
	return ok && err == nil
}

// Order returns modules and what they need, each behind what it needs itself.
func (x Index) Order(names ...string) ([]string, error) {
	var order []string
	var visit func(name string, above []string) error
	visit = func(name string, above []string) error {
		name = Canonical(name)
		if slices.Contains(order, name) {
			return nil
		}
		if slices.Contains(above, name) {
			return fmt.Errorf("module %s needs itself", name)
		}
		m, ok := x[name]
		if !ok {
			return fmt.Errorf("there is no module %s", name)
		}
		for _, needed := range m.Needs {
			if err := visit(needed, append(above, name)); err != nil {
				return err
			}
		}
		order = append(order, name)
		return nil
	}
	for _, name := range names {
		if err := visit(name, nil); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// Below returns the names of the modules in one of the folders, or which are one of
// the files, and of what those need that is a module.
func (x Index) Below(paths ...string) ([]string, error) {
	var names []string
	for name, m := range x {
		for _, p := range paths {
			if m.File == p || strings.HasPrefix(m.File, p+string(os.PathSeparator)) {
				names = append(names, name)
				break
			}
		}
	}
	slices.Sort(names)
	return x.Order(names...)
}
