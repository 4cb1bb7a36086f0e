package test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

// secretHome makes a home below a place, of the place's user, with secrets.
func secretHome(t *testing.T, place *mesh.Place, owner int) string {
	t.Helper()
	home := filepath.Join(filepath.Dir(place.Runtime), "home")
	for name, text := range map[string]string{
		".npmrc": "//registry.example/:_authToken=secret", ".ssh/id_ed25519": "secret", ".ssh/known_hosts": "known", ".cargo/config.toml": "cargo",
		".config/chromium/Local State": "secret", "work/file": "work", "tool": "#!/bin/sh\necho tool\n",
	} {
		path := filepath.Join(home, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	err := os.Chmod(filepath.Join(home, "tool"), 0o755)
	if owner >= 0 {
		err = errors.Join(err, filepath.WalkDir(home, func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Chown(path, owner, owner))
		}))
	}
	if err != nil {
		t.Fatal(err)
	}
	return home
}

// inHome runs sluice run in the working folder of a home.
func inHome(t *testing.T, place *mesh.Place, home string, arguments ...string) mesh.Result {
	t.Helper()
	command := place.Command(t.Context(), "sluice", append([]string{"run"}, arguments...)...)
	command.Dir = filepath.Join(home, "work")
	command.Env = append(command.Env, "HOME="+home, "XDG_CONFIG_HOME=", "XDG_DATA_HOME=")
	return mesh.Finish(t, command, "")
}

// What holds a secret is empty for a command, who is told what gives it back; what the
// owner says counts.
func TestSecretsAreHiddenFromACommandAndItsOpeningIsTold(t *testing.T) {
	for _, who := range mesh.Users(t) {
		for _, runAs := range []int{-1, 4242} {
			if runAs >= 0 && who.Name != "root" {
				continue
			}
			name, identity := who.Name, []string(nil)
			if runAs >= 0 {
				name, identity = "as another user", []string{"--run-as", strconv.Itoa(runAs)}
			}
			t.Run(name, func(t *testing.T) {
				place := mesh.NewPlace(t, who)
				home := secretHome(t, place, max(who.UID, runAs))
				run := func(arguments ...string) mesh.Result {
					return inHome(t, place, home, append(identity, arguments...)...)
				}

				const look = `cat ~/.npmrc ~/.npmrc ~/.ssh/id_ed25519 ~/.ssh/known_hosts "$HOME/.config/chromium/Local State"; echo; echo forged > ~/.npmrc || true`
				report := filepath.Join(filepath.Dir(place.Runtime), "report.jsonl")
				r := run("--report", report, "--", "sh", "-c", look)
				if r.Code != 0 || r.Stdout != "known\n" {
					t.Errorf("unasked: exit %d, %q", r.Code, r.Stdout)
				}
				for _, line := range []string{
					"sluice: the command opened " + home + "/.npmrc, which is hidden from it (tokens of npm registries); --show '" + home + "/.npmrc' gives it to the command\n",
					"sluice: the command opened " + home + "/.ssh/id_ed25519, which is hidden from it (a private key); --unix ",
					"sluice: the command opened " + home + "/.config/chromium, which is hidden from it",
				} {
					if strings.Count(r.Stderr, line) != 1 {
						t.Errorf("it says %q, and not once %q", r.Stderr, line)
					}
				}
				if got, want := hiddenIn(t, report), []string{home + "/.config/chromium", home + "/.npmrc", home + "/.ssh/id_ed25519"}; !slices.Equal(got, want) {
					t.Errorf("the report has %q, want %q", got, want)
				}

				r = run("--show", home+"/.npmrc", "--hide", filepath.Join(home, "work/file"), "--", "sh", "-c", "cat ~/.npmrc file")
				if want := "//registry.example/:_authToken=secret"; r.Code != 0 || r.Stdout != want || !strings.Contains(r.Stderr, filepath.Join(home, "work/file")+", which --hide hides from it") {
					t.Errorf("shown and hidden: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
				}
				r = run("--ro", home, "--rw", ".", "--", "sh", "-c", "echo x > ~/new; echo x > new && cat new ~/.npmrc")
				if r.Code != 0 || r.Stdout != "x\n" || !strings.Contains(r.Stderr, "Read-only file system") {
					t.Errorf("read-only but one: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
				}
				r = run("--workdir-only", "--ro", home+"/.cargo", "--", "sh", "-c", "cd ~; ls -A; ls -A /mnt /srv; cat work/file .cargo/config.toml; echo; touch gone && echo x > .cargo/x")
				if out := strings.Fields(r.Stdout); r.Code == 0 || !slices.Equal(out, []string{".cargo", "work", "/mnt:", "/srv:", "workcargo"}) {
					t.Errorf("the working folder alone: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
				}
				r = run("--workdir-only", "--", home+"/tool")
				if r.Code != 125 || !strings.Contains(r.Stderr, "the command's own program "+home+"/tool is hidden from it: show it with --show "+home+"/tool") {
					t.Errorf("a program that is hidden: exit %d, %q", r.Code, r.Stderr)
				}
				if r = run("--workdir-only", "--show", home+"/tool", "--", home+"/tool"); r.Code != 0 || r.Stdout != "tool\n" {
					t.Errorf("a program that is shown: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
				}
			})
		}
	}
}

// hiddenIn are the paths of a report's lines of hidden files, sorted.
func hiddenIn(t *testing.T, report string) (paths []string) {
	t.Helper()
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var l struct{ Kind, Path string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		if l.Kind == "hidden" {
			paths = append(paths, l.Path)
		}
	}
	slices.Sort(paths)
	return paths
}

// A command may close folders of its user, so that the next one finds them closed when it
// starts, and opens them.
func TestAFolderThatACommandClosedIsNotOpenedByTheNextOne(t *testing.T) {
	for _, who := range mesh.Users(t) {
		if who.Name == "root" {
			continue // whom no folder keeps out
		}
		t.Run(who.Name, func(t *testing.T) {
			place := mesh.NewPlace(t, who)
			home := secretHome(t, place, who.UID)
			result := inHome(t, place, home, "--quiet", "--", "sh", "-c", "chmod 300 ../.ssh; chmod 0 ../.config")
			if result.Code != 0 {
				t.Fatalf("%+v", result)
			}
			result = inHome(t, place, home, "--require-level", "sandbox", "--", "sh", "-c", "chmod 700 ../.ssh ../.config; cat ../.ssh/id_ed25519 '../.config/chromium/Local State'; echo end")
			if strings.Contains(result.Stdout, "secret") || !strings.Contains(result.Stdout, "end") || !strings.Contains(result.Stderr, ".ssh cannot be looked through for files to hide, so all of it is hidden") {
				t.Errorf("%+v", result)
			}
		})
	}
}
