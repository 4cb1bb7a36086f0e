package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Whoever can write where it lies may put something else there until the sandbox looks.
func TestWhatIsShownByItsTypeIsThatFileAndNothingInItsPlace(t *testing.T) {
	needSandbox(t)
	home := makeUserHome(t, "secrets/key", "there/key")
	home, err := filepath.EvalSymlinks(home)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(unix.Mkfifo(home+"/fifo", 0o600), unix.Mkfifo(home+"/secrets/fifo", 0o600),
		os.Symlink(home+"/secrets", home+"/link"), os.Symlink(home+"/fifo", home+"/renamed"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path    string
		kind    fs.FileMode
		refused string
	}{
		"a FIFO":                            {"/fifo", fs.ModeNamedPipe, ""},
		"a folder in the place of a FIFO":   {"/secrets", fs.ModeNamedPipe, "it changes while the sandbox is made"},
		"a file in its place":               {"/there/key", fs.ModeNamedPipe, "it changes while the sandbox is made"},
		"a link in its place":               {"/renamed", fs.ModeNamedPipe, "it changes while the sandbox is made"},
		"a link to secrets in its place":    {"/link", fs.ModeNamedPipe, "it changes while the sandbox is made"},
		"a link in a folder's place":        {"/link/fifo", fs.ModeNamedPipe, "it changes while the sandbox is made"},
		"a FIFO in the place of a socket":   {"/fifo", fs.ModeSocket, "it changes while the sandbox is made"},
		"nothing in its place":              {"/gone", fs.ModeNamedPipe, "no such file"},
		"whatever it is, where no type was": {"/link", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			box, err := New(t.Context(), Config{Command: []string{"true"}, Files: Files{Views: []View{{Path: home, Mode: ViewEmpty}, {Path: home + c.path, Mode: ViewShown, Type: c.kind}}}})
			if box != nil {
				box.Kill()
				box.Wait()
			}
			if c.refused == "" && err != nil || c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
				t.Error(err)
			}
		})
	}
}
