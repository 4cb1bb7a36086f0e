package bare

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestTheMirrorIsTheFirstOfDebianItselfInBothFormats(t *testing.T) {
	const mirror = "http://mirror.example/debian"
	for name, c := range map[string]struct{ file, text, want string }{
		"one line":               {"sources.list", "deb " + mirror + " bookworm main\n", mirror},
		"with options":           {"sources.list", "deb [arch=amd64 signed-by=/k.gpg] " + mirror + " bookworm main contrib\n", mirror},
		"behind others":          {"sources.list", "deb https://other.example/x stable main\n# deb http://off.example bookworm main\ndeb " + mirror + " bookworm main\n", mirror},
		"not security's":         {"sources.list", "deb http://security.example/debian-security bookworm-security main\n", ""},
		"not a source package":   {"sources.list", "deb-src " + mirror + " bookworm main\n", ""},
		"not a disc":             {"sources.list", "deb cdrom:[Debian]/ bookworm main\n", ""},
		"deb822":                 {"sources.list.d/debian.sources", "Types: deb\n# a note\nURIs: " + mirror + "\nSuites: bookworm bookworm-updates\nComponents: main\n", mirror},
		"deb822, the other way":  {"sources.list.d/debian.sources", "Suites: bookworm\nURIs: " + mirror + "\n", mirror},
		"of two stanzas the one": {"sources.list.d/a.sources", "URIs: http://other.example\nSuites: nodistro\n\nURIs: " + mirror + "\nSuites: bookworm\n", mirror},
		"not across stanzas":     {"sources.list.d/a.sources", "URIs: http://other.example\nSuites: nodistro\n\nSuites: bookworm\n", ""},
		"another release":        {"sources.list", "deb " + mirror + " trixie main\n", ""},
		"cut off":                {"sources.list", "deb [arch=amd64", ""},
	} {
		got, err := Mirror(fstest.MapFS{c.file: {Data: []byte(c.text)}})
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v: want %q", name, got, err, c.want)
		}
		if err != nil && !strings.Contains(err.Error(), "no mirror") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
