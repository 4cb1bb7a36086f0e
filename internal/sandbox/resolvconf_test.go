package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
)

func TestLinksAreFollowedThoughTheyDangle(t *testing.T) {
	root := t.TempDir()
	for _, folder := range []string{"etc", "var", "real"} {
		if err := os.Mkdir(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"var/run":        "/run",
		"etc/plain-link": "resolv.real",
		"etc/relative":   "../run/systemd/resolve/stub-resolv.conf",
		"etc/absolute":   "/var/run/resolvconf/resolv.conf",
		"etc/chain":      "relative",
		"etc/folder":     "../real",
		"etc/beyond":     "../../../../run/x",
		"etc/a":          "b",
		"etc/b":          "a",
	} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"/etc/absent":      "/etc/absent",
		"/etc/plain-link":  "/etc/resolv.real",
		"/etc/relative":    "/run/systemd/resolve/stub-resolv.conf",
		"/etc/absolute":    "/run/resolvconf/resolv.conf",
		"/etc/chain":       "/run/systemd/resolve/stub-resolv.conf",
		"/etc/folder/file": "/real/file",
		"/etc/beyond":      "/run/x",
		"/etc//./../etc/.": "/etc",
	} {
		if got, err := followLinks(root, path); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", path, got, err, want)
		}
	}
	if got, err := followLinks(root, "/etc/a"); err == nil {
		t.Errorf("a loop leads to %s", got)
	}
}

// Each machine has its own /etc; the tests lay theirs over it in a namespace.
func TestAnyMachinesResolvConfIsReplaced(t *testing.T) {
	for name, lay := range map[string]string{
		"a plain file":              "echo nameserver 10.0.0.1 > etc/resolv.conf",
		"a link to systemd's":       "ln -s ../run/systemd/resolve/stub-resolv.conf etc/resolv.conf",
		"a link through /var/run":   "ln -s /var/run/resolvconf/resolv.conf etc/resolv.conf",
		"a link to a file in /etc":  "echo x > etc/resolv.real; ln -s resolv.real etc/resolv.conf",
		"none":                      "true",
		"a link that leads nowhere": "ln -s /nowhere/resolv.conf etc/resolv.conf",
	} {
		t.Run(name, func(t *testing.T) {
			needSandbox(t)
			folder := t.TempDir()
			layOut := exec.Command("sh", "-c", "mkdir etc; "+lay)
			layOut.Dir = folder
			if output, err := layOut.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, output)
			}
			output := roleInMounts(t, "with-etc", filepath.Join(folder, "etc"))
			if name == "none" || name == "a link that leads nowhere" {
				// Then loopback is asked, and answers.
				if strings.Contains(output, "nameserver") || strings.Count(output, ": 198.19.0.7") != 4 {
					t.Errorf("%s", output)
				}
				return
			}
			if !strings.Contains(output, "nameserver "+capture.Gate4.String()) || strings.Contains(output, "10.0.0.1") {
				t.Errorf("%s", output)
			}
		})
	}
}

// roleInMounts runs a role in a mount namespace in which it may mount.
func roleInMounts(t *testing.T, role string, args ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(self, args...)
	command.Env = append(os.Environ(), roleVariable+"="+role)
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWNS | unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		AmbientCaps: slices.Concat(initCapabilities, []uintptr{unix.CAP_SYS_RESOURCE}),
	}
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", role, err, output)
	}
	return string(output)
}

// withEtcRole makes a sandbox on a machine with another /etc, and in it shows
// resolv.conf and asks loopback.
func withEtcRole(args []string) int {
	if err := unix.Mount(args[0], "/etc", "", unix.MS_BIND, ""); err != nil {
		fmt.Println(err)
		return 1
	}
	failed := 0
	testing.Main(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "with-etc", F: func(t *testing.T) {
		os.Unsetenv(roleVariable)
		p := newPlace(t, Config{Command: []string{"resolv"}})
		output, exit := p.run(t)
		fmt.Println(output)
		failed = exit
	}}}, nil, nil)
	return failed
}

func resolvRole([]string) int {
	content, err := os.ReadFile("/etc/resolv.conf")
	if err == nil {
		fmt.Print(string(content))
		return 0
	}
	return askRole([]string{"127.0.0.1", "::1"})
}
