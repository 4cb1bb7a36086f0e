package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

// terminal is one of tmux, with sluice top in it.
type terminal struct {
	place  *mesh.Place
	socket string
}

func (w *terminal) do(t *testing.T, args ...string) string {
	t.Helper()
	cmd := w.place.Command(context.Background(), "/usr/bin/env", append([]string{"tmux", "-f", filepath.Join(filepath.Dir(w.socket), "conf"), "-S", w.socket}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("tmux %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// shows waits until the screen shows a text, with the escape sequences that it was drawn with.
func (w *terminal) shows(t *testing.T, want string) (screen string) {
	t.Helper()
	mesh.Eventually(t, func() string {
		if screen = w.do(t, "capture-pane", "-p", "-e", "-t", "top"); strings.Contains(screen, want) {
			return ""
		}
		return fmt.Sprintf("the screen does not show %q:\n%s", want, screen)
	})
	return screen
}

// What is denied shows on the screen as it happens, why and by which rule with one key; on a
// small terminal, and without colour where NO_COLOR is set.
func TestTopShowsInATerminalWhatIsDeniedAndWhy(t *testing.T) {
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("tmux is missing: apt-get install tmux")
	}
	m := &machinery{Place: mesh.NewPlace(t, mesh.User{Name: "user", UID: -1})}
	m.net = m.StartInternet(t)
	m.server = m.StartServer(t)
	m.proxy = m.StartProxy(t, m.net)
	caller := m.StartWorkload(t, "--service", "caller", "--version", "v3")
	folder, err := os.MkdirTemp("", "top") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	// What has ended keeps its screen, on which it may have said why.
	if err := os.WriteFile(filepath.Join(folder, "conf"), []byte("set -g remain-on-exit on\nset -g default-terminal screen-256color\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w := &terminal{m.Place, filepath.Join(folder, "s")}
	w.do(t, "new-session", "-d", "-s", "top", "-x", "110", "-y", "30", filepath.Join(m.Bin, "sluice")+" top")
	t.Cleanup(func() {
		_ = w.place.Command(context.Background(), "/usr/bin/env", "tmux", "-S", w.socket, "kill-server").Run() // it may have ended
	})
	w.shows(t, "caller-v3/1")
	w.do(t, "send-keys", "-t", "top", "3")
	w.shows(t, "[3 Denials]")
	if a := m.get(t, caller, "https://www.google.com/"); a.Code == 200 {
		t.Fatal("www.google.com is not denied")
	}
	if screen := w.shows(t, "www.google.com:443"); !strings.Contains(screen, "\x1b[7m") {
		t.Errorf("the selected row is not in reverse:\n%q", screen)
	}
	w.do(t, "send-keys", "-t", "top", "Enter")
	w.shows(t, "No rule allows www.google.com:443.")
	w.do(t, "send-keys", "-t", "top", "Escape")
	w.shows(t, "[3 Denials]")
	w.do(t, "send-keys", "-t", "top", "r")
	w.shows(t, "No rule has to do with it")
	w.do(t, "send-keys", "-t", "top", "Escape")
	w.shows(t, "[3 Denials]") // else the terminal takes escape and 2 for one key
	w.do(t, "send-keys", "-t", "top", "2")
	w.shows(t, "DESTINATION")
	w.do(t, "resize-window", "-t", "top", "-x", "24", "-y", "5")
	w.shows(t, "www.google.~")
	w.do(t, "send-keys", "-t", "top", "q")
	mesh.Eventually(t, func() string {
		if status := w.do(t, "display-message", "-p", "-t", "top", "#{pane_dead} #{pane_dead_status}"); strings.TrimSpace(status) != "1 0" {
			return "it has not ended with status 0: " + status
		}
		return ""
	})
	w.do(t, "kill-session", "-t", "top")
	w.do(t, "new-session", "-d", "-s", "top", "-x", "110", "-y", "30", "NO_COLOR=1 "+filepath.Join(m.Bin, "sluice")+" top")
	if screen := w.shows(t, "caller-v3/1"); strings.Contains(screen, "\x1b[") {
		t.Errorf("there is colour in spite of NO_COLOR:\n%q", screen)
	}
}
