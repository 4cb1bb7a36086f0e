package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// closedHome is a home in which a folder of the user's own lets nobody in, as a command
// may leave one for those that follow.
func closedHome(t *testing.T) (home, closed string) {
	t.Helper()
	if os.Geteuid() == 0 {
		t.Skip("root may enter every folder")
	}
	home = makeUserHome(t, ".config/gh/hosts.yml")
	closed = filepath.Join(home, ".config")
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(closed, 0o700) })
	return home, closed
}

func TestAFolderThatTheCommandCanOpenIsNotTakenForOneThatItCannot(t *testing.T) {
	needSandbox(t)
	home, closed := closedHome(t)
	secret := filepath.Join(closed, "gh/hosts.yml")
	for name, config := range map[string]Config{
		"a hidden file":   {Files: Files{Hide: []Hidden{{Path: secret}}}},
		"a masked folder": {Mask: []string{filepath.Dir(secret)}},
		"a view":          {Files: Files{Views: []View{{Path: filepath.Dir(secret), Mode: ViewReadOnly}}}},
	} {
		config.Command = []string{"sh", "-c", "chmod 700 " + closed + "; cat " + secret}
		s, err := New(t.Context(), config)
		if err == nil {
			s.Kill()
			s.Wait()
		}
		if err == nil || !strings.Contains(err.Error(), closed+", which you have not now") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// One that is hidden as a whole needs nobody's rights.
	p := newPlace(t, Config{
		Command: []string{"sh", "-c", "chmod 700 " + closed + "; ls -A " + closed + "; cat " + secret + "; echo end"}, Dir: home,
		Files: Files{Hide: []Hidden{{Path: closed}}},
	})
	if output, _ := p.run(t); strings.Contains(output, "the secret") || !strings.HasSuffix(output, "end\n") {
		t.Errorf("a closed folder that is hidden: %s", output)
	}
}

func TestAFolderOfAnotherUserThatLetsNobodyInIsPassedOver(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may enter every folder")
	}
	config := Config{Command: []string{"echo", "started"}, Mask: []string{"/root/x"}, Files: Files{Hide: []Hidden{{Path: "/root/.ssh/id_rsa"}}}}
	if _, err := os.Lstat("/root/x"); !errors.Is(err, os.ErrPermission) {
		t.Skip("this machine has no such folder: ", err)
	}
	if output, exit := newPlace(t, config).run(t); exit != 0 || output != "started\n" {
		t.Errorf("exit %d: %s", exit, output)
	}
}

func TestWhatHasToBeThereIsRefusedWhereItIsGone(t *testing.T) {
	needSandbox(t)
	missing := filepath.Join(t.TempDir(), "missing")
	for _, files := range []Files{{Hide: []Hidden{{Path: missing, Required: true}}}, {Views: []View{{Path: missing, Mode: ViewReadOnly}}}, {Views: []View{{Path: missing, Mode: ViewShown}}}} {
		s, err := New(t.Context(), Config{Command: []string{"true"}, Files: files})
		if err == nil {
			s.Kill()
			s.Wait()
		}
		if err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("%+v: %v", files, err)
		}
	}
}
