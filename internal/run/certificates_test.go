package run

import (
	"os"
	"path/filepath"
	"testing"
)

// The folder of client certificates is hidden from the command, so it must not be where
// the command works.
func TestTheFolderOfCertificatesIsNotWhereTheCommandWorks(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(base, "certificates")
	if err := os.MkdirAll(filepath.Join(folder, "default"), 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(base, "link")
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{folder, link} {
		if got, err := hideable(name, base); err != nil || got != folder {
			t.Errorf("%s is hidden as %q, %v", name, got, err)
		}
		for _, workdir := range []string{folder, filepath.Join(folder, "default")} {
			if _, err := hideable(name, workdir); err == nil {
				t.Errorf("%s is hidden from a command that works in %s", name, workdir)
			}
		}
	}
	if _, err := hideable(filepath.Join(base, "absent"), base); err == nil {
		t.Error("a folder that is not there is hidden")
	}
}
