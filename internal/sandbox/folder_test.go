package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A working folder that the command cannot have is no reason to start it in another.
func TestACommandStartsInItsFolderOrNotAtAll(t *testing.T) {
	needSandbox(t)
	masked := t.TempDir()
	below := filepath.Join(masked, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	hidden := "is hidden from the command"
	for dir, why := range map[string]string{masked: hidden, below: "cannot be entered inside", "/run": hidden} {
		s, err := New(t.Context(), Config{Command: []string{"true"}, Mask: []string{masked}, Dir: dir})
		if err == nil {
			s.Kill()
			s.Wait()
		}
		if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "no sandbox") {
			t.Errorf("in %s: %v, want one that says %q", dir, err, why)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	want, err := filepath.EvalSymlinks(link)
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t, Config{Command: []string{"sh", "-c", "pwd -P"}, Dir: link})
	if output, exit := p.run(t); exit != 0 || output != want+"\n" {
		t.Errorf("behind a link: exit %d, %q, want %q", exit, output, want)
	}
}

func TestAFolderThatIsAnotherNowIsNotEntered(t *testing.T) {
	parent := t.TempDir()
	inner := filepath.Join(parent, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(inner)
	f, err := workingFolder()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.enter(); err != nil {
		t.Errorf("the same: %v", err)
	}
	if err := os.Rename(inner, inner+"-before"); err != nil {
		t.Fatal(err)
	}
	if err := f.enter(); err == nil {
		t.Error("a folder that was renamed was entered by its old name")
	}
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.enter(); err == nil || !strings.Contains(err.Error(), "is hidden") {
		t.Errorf("another folder of the same name: %v", err)
	}
}
