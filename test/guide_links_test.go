package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	fenced  = regexp.MustCompile("(?s)\n```.*?\n```")
	reason  = regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\|")
)

// pages are the README and all of docs.
func pages(t *testing.T) (root string, files []string) {
	t.Helper()
	root, err := mesh.Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 10 {
		t.Fatalf("only %d pages: %v", len(files), files)
	}
	return root, files
}

func TestLinksOfThePagesLeadSomewhere(t *testing.T) {
	root, files := pages(t)
	for _, file := range files {
		text := readPage(t, file)
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			name, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s leads nowhere", name, m[1])
				continue
			}
			if anchor != "" && !anchors(readPage(t, target))[anchor] {
				t.Errorf("%s: %s names no heading", name, m[1])
			}
		}
	}
}

// Whoever sees a code finds out what to do about it.
func TestEveryReasonHasALineInTroubleshooting(t *testing.T) {
	root, _ := pages(t)
	listed := reason.FindAllStringSubmatch(readPage(t, filepath.Join(root, "docs/reference/reasons.md")), -1)
	if len(listed) < 20 {
		t.Fatalf("the reference lists %d codes", len(listed))
	}
	guide := readPage(t, filepath.Join(root, "docs/guide/troubleshooting.md"))
	for _, m := range listed {
		if !strings.Contains(guide, "`"+m[1]+"`") {
			t.Errorf("nothing is said of %s", m[1])
		}
	}
}

func readPage(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// anchors are what a page's headings are called in links.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		var b strings.Builder
		for _, r := range strings.ToLower(m[1]) {
			switch {
			case r == ' ':
				b.WriteByte('-')
			case r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
				b.WriteRune(r)
			}
		}
		found[b.String()] = true
	}
	return found
}
