package hidden

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sluice.dev/sluice/rules"
)

// A command may close folders of its user, so that those which follow find nothing to hide
// there and open them again.
func TestAFolderThatItsOwnerClosedIsHiddenAsAWhole(t *testing.T) {
	if os.Geteuid() == 0 {
		asOrdinaryUser(t)
		return
	}
	home := folder(t, map[string]string{".ssh/id_rsa": "x", ".config/gh/hosts.yml": "x", ".aws/sso/cache/a.json": "{}", ".netrc": "x"})
	for name, mode := range map[string]os.FileMode{".ssh": 0o300, ".config": 0, ".aws/sso": 0} {
		path := filepath.Join(home, name)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(path, 0o700) })
	}
	config := Config{List: rules.HiddenFiles(), Homes: []string{home, "/root"}, Getenv: none, Workdir: "/"}
	plan, err := Make(config)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hides(home, plan), []string{".aws/sso", ".config", ".netrc", ".ssh"}; !slices.Equal(got, want) {
		t.Errorf("hidden: %q, want %q", got, want)
	}
	if len(plan.Notes) != 3 || !strings.Contains(strings.Join(plan.Notes, "\n"), "the folder "+home+"/.ssh cannot be looked through") {
		t.Errorf("it says %q", plan.Notes)
	}
	config.Show = []string{home + "/.ssh"}
	if plan, err = Make(config); err != nil || slices.Contains(hides(home, plan), ".ssh") {
		t.Errorf("shown: %v", err)
	}
	config.Show, config.ReadOnly = nil, []string{home + "/.config/gh"}
	if _, err = Make(config); err == nil || !strings.Contains(err.Error(), "--ro: ") {
		t.Errorf("read-only: %v", err)
	}
}

// asOrdinaryUser runs a test again as a user whom folders can keep out.
func asOrdinaryUser(t *testing.T) {
	t.Helper()
	temporary, err := os.MkdirTemp("/tmp", "hidden-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(temporary) })
	binary := filepath.Join(temporary, "test")
	content, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(binary, content, 0o755)
	}
	if err == nil {
		err = os.Chown(temporary, 1000, 1000)
	}
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), binary, "-test.run=^"+t.Name()+"$", "-test.v")
	command.Dir, command.Env = temporary, append(os.Environ(), "TMPDIR="+temporary, "HOME="+temporary)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	output, err := command.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "--- PASS: "+t.Name()) {
		t.Errorf("as user 1000: %v\n%s", err, output)
	}
}
