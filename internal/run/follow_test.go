package run

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// read reads a followed file.
func read(t *testing.T, f *followed, name string) string {
	t.Helper()
	opened, err := f.open(name)
	if err != nil {
		return err.Error()
	}
	defer opened.Close()
	text, err := io.ReadAll(opened)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAFollowedFileIsReadInItsOwnFolderWhateverItsPathLeadsTo(t *testing.T) {
	base := t.TempDir()
	folder, work := filepath.Join(base, "rules"), filepath.Join(base, "work")
	file := filepath.Join(folder, "rules.yaml")
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(file, "first")
	f, err := follow([]string{file, file}, work)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	if got := f.folders(); len(got) != 1 || got[0] != folder {
		t.Errorf("the folders are %q", got)
	}
	if got := read(t, f, file); got != "first" || f.changed() {
		t.Errorf("it is read as %q, and has changed at once", got)
	}

	write(file+"~", "second") // as editors do it
	if err := os.Rename(file+"~", file); err != nil {
		t.Fatal(err)
	}
	if !f.changed() || f.changed() || read(t, f, file) != "second" || f.changed() {
		t.Error("a file in the place of another is not one change")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if f.changed() {
		t.Error("a file that is gone is a change")
	}

	// The command renames the folder and puts one of its own in its place.
	if err := os.Rename(folder, folder+"-moved"); err != nil {
		t.Fatal(err)
	}
	write(file, "the command's")
	if f.changed() {
		t.Error("a file in another folder of that name is a change")
	}
	write(filepath.Join(folder+"-moved", "rules.yaml"), "third")
	if !f.changed() || read(t, f, file) != "third" {
		t.Errorf("it is read as %q", read(t, f, file))
	}
	if err := os.Remove(filepath.Join(folder+"-moved", "rules.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, filepath.Join(folder+"-moved", "rules.yaml")); err != nil {
		t.Fatal(err)
	}
	if !f.changed() || f.changed() {
		t.Error("a link in its place is not one change")
	}
	if got := read(t, f, file); strings.Contains(got, "the command's") || !strings.Contains(got, "symbolic link") {
		t.Errorf("through a link it is read as %q", got)
	}
}

func TestRulesThatCannotBeKeptFromTheCommandAreNotFollowed(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "rules.yaml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	link := filepath.Join(elsewhere, "link.yaml")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct{ file, workdir, says string }{
		"in the working folder": {file, base, "a folder of their own"},
		"above it":              {file, filepath.Join(base, "a/b"), "a folder of their own"},
		"by a link into it":     {link, base, "a folder of their own"},
		"missing":               {file + "x", elsewhere, "no such file"},
	} {
		if f, err := follow([]string{row.file}, row.workdir); err == nil || !strings.Contains(err.Error(), row.says) || !strings.Contains(err.Error(), row.file) {
			t.Errorf("%s: %v %v", name, f, err)
		}
	}
	if f, err := follow([]string{link}, elsewhere+"/work"); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a link, of which a new target would go unnoticed: %v %v", f, err)
	}
	second := filepath.Join(base, "more.yaml")
	if err := os.WriteFile(second, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	two, err := follow([]string{file, second}, elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	defer two.close()
	if got := two.folders(); len(got) != 1 {
		t.Errorf("the folder of two files is hidden %d times", len(got))
	}
	f, err := follow([]string{file}, base+"-beside")
	if err != nil {
		t.Fatalf("a folder whose name begins alike: %v", err)
	}
	f.close()
}
