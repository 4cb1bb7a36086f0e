package paths

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAFlagWinsOverTheVariableAndThatOverTheDefault(t *testing.T) {
	t.Setenv("SLUICE_RUNTIME", "/from/variable")
	t.Setenv("SLUICE_DATA", "/data/variable")
	if got := Runtime("/from/flag"); got != "/from/flag" {
		t.Errorf("with a flag: %s", got)
	}
	if got := Runtime(""); got != "/from/variable" {
		t.Errorf("with the variable: %s", got)
	}
	if got, err := Data(""); err != nil || got != "/data/variable" {
		t.Errorf("data with the variable: %s, %v", got, err)
	}
	t.Setenv("SLUICE_RUNTIME", "")
	if got := Runtime(""); !strings.Contains(got, "sluice") {
		t.Errorf("by default: %s", got)
	}
}

func TestAFolderOfTheDesktopCountsWhereItIsAbsolute(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root has folders of its own")
	}
	t.Setenv("SLUICE_RUNTIME", "")
	t.Setenv("SLUICE_DATA", "")
	for _, folder := range []string{"/run/user/7", "relative"} {
		t.Setenv("XDG_RUNTIME_DIR", folder)
		t.Setenv("XDG_STATE_HOME", folder)
		data, err := Data("")
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range []string{Runtime(""), data} {
			if want := filepath.IsAbs(folder); (got == folder+"/sluice") != want || !filepath.IsAbs(got) {
				t.Errorf("with %s: %s", folder, got)
			}
		}
	}
}

func TestAFolderOfAnotherUserIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	if err := Make(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 1000, 1000); err != nil {
		t.Skip(err)
	}
	if os.Geteuid() == 1000 {
		t.Skip("uid 1000 is our own")
	}
	if err := Check(dir); err == nil || !strings.Contains(err.Error(), "uid 1000") {
		t.Errorf("a folder of uid 1000: %v", err)
	}
}

func TestAFolderThatOthersCouldUseIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	if err := Make(dir); err != nil {
		t.Fatalf("a folder of our own: %v", err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := Check(link); err == nil {
		t.Error("a link is taken for a folder")
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Make(dir); err == nil || !strings.Contains(err.Error(), "chmod 0700") {
		t.Errorf("a folder open to others: %v", err)
	}
}

func TestOnlyASocketIsRemovedAsStale(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := RemoveStale(file); err == nil {
		t.Error("a file was removed as a stale socket")
	}
	socket := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := RemoveStale(socket); err != nil {
		t.Errorf("a stale socket: %v", err)
	}
	if err := RemoveStale(socket); err != nil {
		t.Errorf("no socket: %v", err)
	}
	if _, err := Socket(strings.Repeat("x", 200), APISocket); err == nil {
		t.Error("a path that the kernel would cut is accepted")
	}
}

func TestADataFolderIsAnnouncedUntilItIsWithdrawn(t *testing.T) {
	runtime := t.TempDir()
	withdraw, err := Announce(runtime, "sluice-server", "/srv/rules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Announce(runtime, "sluice-proxy", "/"); err != nil {
		t.Fatal(err)
	}
	if folders, err := Announced(runtime); err != nil || len(folders) != 1 || folders[0] != "/srv/rules" {
		t.Errorf("announced: %v, %v; the root is never hidden", folders, err)
	}
	if text, err := os.ReadFile(filepath.Join(runtime, "sluice-server.data")); err != nil || string(text) != `{"format":2,"data":"/srv/rules"}` {
		t.Errorf("the note is %q, %v", text, err)
	}
	withdraw()
	if folders, err := Announced(runtime); err != nil || len(folders) != 0 {
		t.Errorf("after it was withdrawn: %v, %v", folders, err)
	}
	for i := range maxAnnouncements + 1 {
		if _, err := Announce(runtime, strings.Repeat("x", i+1), "/srv"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Announced(runtime); err == nil {
		t.Error("more than the bound are read")
	}
}

func TestANoteOfAnotherFormatIsReadOrRefusedWithTheReason(t *testing.T) {
	for content, want := range map[string]string{
		"/srv/first":                      "", // as the first release wrote it
		`{"format":7,"folders":["/srv"]}`: "the note of a data folder has format 7; this Sluice reads format 2: upgrade this Sluice",
		`{"format":2,"data":["/srv"]}`:    "not valid",
		"srv/relative":                    "not valid JSON",
		"":                                "not valid JSON",
	} {
		runtime := t.TempDir()
		file := filepath.Join(runtime, "sluice-server.data")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		folders, err := Announced(runtime)
		if want == "" {
			if err != nil || len(folders) != 1 || folders[0] != content {
				t.Errorf("%q: %v, %v", content, folders, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: %v, %v", content, folders, err)
		}
	}
}
