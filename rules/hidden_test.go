package rules_test

import (
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sluice.dev/sluice/rules"
)

// What is hidden by mistake stops work, and what is not hidden is read: each line says
// what it is about and where that is written, and none reaches beyond its folder.
func TestEachLineOfTheHiddenFilesIsBoundedAndSaysWhyWithItsSource(t *testing.T) {
	list := rules.HiddenFiles()
	if len(list.Paths) < 50 || len(list.Moved) == 0 {
		t.Fatalf("the list has %d lines and %d moved folders", len(list.Paths), len(list.Moved))
	}
	seen := make(map[string]bool)
	for _, p := range list.Paths {
		if seen[p.Path] {
			t.Errorf("%s: there are two lines of it", p.Path)
		}
		seen[p.Path] = true
		names := strings.Split(p.Path, "/")
		if !filepath.IsLocal(p.Path) || path.Clean(p.Path) != p.Path || len(names) > 5 || strings.ContainsAny(p.Path, `?[]\`) {
			t.Errorf("%s: not a path below the home with * alone", p.Path)
		}
		if names[0] == "*" || strings.Contains(names[0], "*") || strings.Count(p.Path, "*") > 2 {
			t.Errorf("%s: it stands for too much", p.Path)
		}
		if len(p.What) < 5 || strings.ContainsAny(p.What[len(p.What)-1:], ".;") {
			t.Errorf("%s: what it holds is not said: %q", p.Path, p.What)
		}
		if source, err := url.Parse(p.Source); err != nil || source.Scheme != "https" || source.Host == "" {
			t.Errorf("%s: no source: %q", p.Path, p.Source)
		}
		if _, err := regexp.Compile(p.Holds); err != nil {
			t.Errorf("%s: %v", p.Path, err)
		}
		if len(p.Empty) > 64 || len(p.With) > 0 && p.Empty+p.Holds != "" {
			t.Errorf("%s: what is read in its place is long, or of a folder", p.Path)
		}
		for _, name := range append(slices.Clone(p.Except), p.With...) {
			if _, err := path.Match(name, ""); err != nil || strings.Contains(name, "/") {
				t.Errorf("%s: %q is not the name of one file", p.Path, name)
			}
		}
	}
	for _, m := range list.Moved {
		if !slices.ContainsFunc(list.Paths, func(p rules.HiddenPath) bool { return strings.HasPrefix(p.Path+"/", m.Folder+"/") }) {
			t.Errorf("nothing is hidden in %s, which %s moves", m.Folder, m.Variable)
		}
	}
	for _, f := range list.Files {
		if !seen[f.Path] || strings.Contains(f.Path, "*") {
			t.Errorf("%s, in whose place %s names a file, is not a line of the list", f.Path, f.Variable)
		}
	}
}

func TestTheHiddenFilesAreNoPreset(t *testing.T) {
	if slices.Contains(rules.Presets(), "hidden") {
		t.Error("--preset hidden is offered")
	}
	if _, err := rules.Preset("hidden"); err == nil {
		t.Error("--preset hidden is taken")
	}
}
