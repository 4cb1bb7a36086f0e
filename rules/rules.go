// Package rules holds the rules that come with Sluice: the presets of `sluice run
// --preset`, each a file of EgressPolicies that names exact hosts, with the source of
// each and the day on which it was read. The commands read them; they hold nowhere
// unless somebody names them.
package rules

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

//go:embed *.yaml
var files embed.FS

// Presets returns the names of the presets, sorted.
func Presets() []string {
	entries, _ := fs.ReadDir(files, ".") // of an embedded folder: it cannot fail
	var names []string
	for _, entry := range entries {
		if entry.Name() == HiddenFile {
			continue
		}
		names = append(names, strings.TrimSuffix(entry.Name(), ".yaml"))
	}
	slices.Sort(names)
	return names
}

// Preset returns the file of a preset. The error of one that is not there lists those
// that are.
func Preset(name string) ([]byte, error) {
	if !slices.Contains(Presets(), name) {
		return nil, fmt.Errorf("--preset %s: there is no preset of that name; there are %s", name, strings.Join(Presets(), ", "))
	}
	return files.ReadFile(name + ".yaml")
}
