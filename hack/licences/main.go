// Command licences writes the licence texts of every module that a binary of Sluice
// links, each text once, and fails where a module has none or one that Sluice, which
// is under Apache-2.0, cannot be passed on with. `make generate` calls it.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// builds are what is passed on: each system's binaries.
var builds = []struct {
	system, machine string
	packages        []string
}{
	{"linux", "amd64", []string{"./cmd/..."}},
	{"linux", "arm64", []string{"./cmd/..."}},
	{"darwin", "arm64", []string{"./cmd/sluice"}},
	{"windows", "amd64", []string{"./cmd/sluice"}},
}

func main() {
	out := flag.String("out", "THIRD_PARTY_LICENSES", "file to write")
	flag.Parse()
	if err := write(*out); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

// linked is a module and the files of its licence that hold for its linked packages.
type linked struct {
	path, version, folder string
	files                 []string
}

func write(out string) error {
	modules, err := list()
	if err != nil {
		return err
	}
	var head, texts bytes.Buffer
	head.WriteString("Written by `make generate`; do not edit.\n\nThe modules that Sluice's programs link, with their licences, and below the text of each.\n\n")
	holders := map[string][]string{} // of a text
	var order []string
	for _, m := range modules {
		var kinds []string
		for _, file := range m.files {
			raw, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			text := strings.TrimSpace(strings.ReplaceAll(string(raw), "\r\n", "\n"))
			switch kind := kindOf(text); {
			case kind == "" && !isNotice(file):
				return fmt.Errorf("%s holds no licence that Sluice can be passed on with (%s): do not link its package", file, strings.Join(names(), ", "))
			case kind != "" && !slices.Contains(kinds, kind):
				kinds = append(kinds, kind)
			}
			if holders[text] == nil {
				order = append(order, text)
			}
			name, err := filepath.Rel(m.folder, file)
			if err != nil {
				return err
			}
			holders[text] = append(holders[text], m.path+" ("+filepath.ToSlash(name)+")")
		}
		if len(kinds) == 0 {
			return fmt.Errorf("%s has no file of a licence: do not link it", m.path)
		}
		fmt.Fprintf(&head, "%s %s: %s\n", m.path, m.version, strings.Join(kinds, ", "))
	}
	for _, text := range order {
		fmt.Fprintf(&texts, "\n%s\n\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(holders[text], "\n"), text)
	}
	return os.WriteFile(out, append(head.Bytes(), texts.Bytes()...), 0o644)
}

// isNotice says whether a file says whom to thank (Apache-2.0, 4d), and grants nothing.
func isNotice(file string) bool {
	return strings.HasPrefix(strings.ToLower(filepath.Base(file)), "notice")
}

// list returns every linked module, sorted, and Go's own library first.
func list() ([]linked, error) {
	found := map[string]*linked{}
	for _, b := range builds {
		cmd := exec.Command("go", append([]string{"list", "-deps", "-json=Dir,Standard,Module"}, b.packages...)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+b.system, "GOARCH="+b.machine)
		cmd.Stderr = os.Stderr
		answer, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go list for %s/%s: %w", b.system, b.machine, err)
		}
		for packages := json.NewDecoder(bytes.NewReader(answer)); ; {
			var p struct {
				Dir      string
				Standard bool
				Module   *struct {
					Path, Version, Dir string
					Main               bool
				}
			}
			err := packages.Decode(&p)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("go list: %w", err)
			}
			if p.Standard || p.Module == nil || p.Module.Main {
				continue
			}
			m := found[p.Module.Path]
			if m == nil {
				m = &linked{path: p.Module.Path, version: p.Module.Version, folder: p.Module.Dir}
				found[m.path] = m
			}
			if err := m.add(p.Dir); err != nil {
				return nil, err
			}
		}
	}
	var all []linked
	for _, m := range found {
		slices.Sort(m.files)
		all = append(all, *m)
	}
	slices.SortFunc(all, func(a, b linked) int { return strings.Compare(a.path, b.path) })
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	folder := strings.TrimSpace(string(root))
	library := linked{path: "Go's standard library", version: runtime.Version(), folder: folder, files: []string{filepath.Join(folder, "LICENSE")}}
	return append([]linked{library}, all...), nil
}

var licence = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|unlicense)([-.](txt|md|mit|bsd|apache.*|\w+))?$`)

// add notes the files of a package's folder and of those above it, to the module's.
func (m *linked) add(folder string) error {
	for {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			file := filepath.Join(folder, entry.Name())
			if entry.Type().IsRegular() && licence.MatchString(entry.Name()) && filepath.Ext(entry.Name()) != ".go" && !slices.Contains(m.files, file) {
				m.files = append(m.files, file)
			}
		}
		if folder == m.folder || len(folder) <= len(m.folder) {
			return nil
		}
		folder = filepath.Dir(folder)
	}
}

// fitting are licences of what a work under Apache-2.0 may link, with words that their
// texts alone hold. MPL-2.0 asks for its own files' source alone, which their module is.
var fitting = []struct {
	name  string
	words []string
}{
	{"Apache-2.0", []string{"apache license", "version 2.0"}},
	{"MPL-2.0", []string{"mozilla public license", "version 2.0"}},
	{"BSD-3-Clause", []string{"redistribution and use in source and binary forms", "endorse or promote"}},
	{"BSD-2-Clause", []string{"redistribution and use in source and binary forms"}},
	{"MIT", []string{"permission is hereby granted, free of charge", "without restriction"}},
	{"ISC", []string{"permission to use, copy, modify, and/or distribute this software for any purpose"}},
	{"ISC", []string{"permission to use, copy, modify, and distribute this software for any purpose"}},
}

func names() (all []string) {
	for _, f := range fitting {
		if !slices.Contains(all, f.name) {
			all = append(all, f.name)
		}
	}
	return all
}

var gnu = regexp.MustCompile(`gnu (affero |lesser )?general public license`)

// kindOf names a licence by its text; "" is one that does not fit, or a notice.
func kindOf(text string) string {
	text = strings.ToLower(strings.Join(strings.Fields(text), " "))
	if gnu.MatchString(text) && !strings.Contains(text, "mozilla public license") {
		return ""
	}
	for _, f := range fitting {
		if !slices.ContainsFunc(f.words, func(words string) bool { return !strings.Contains(text, words) }) {
			return f.name
		}
	}
	return ""
}
