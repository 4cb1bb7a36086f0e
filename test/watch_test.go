package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

// rulesFor is a file of rules that allows plain HTTP to one name.
func rulesFor(host string) string {
	return "apiVersion: sluice.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: a}\nspec: {to: {hosts: [" + host + "], ports: [{port: 80, protocol: http}]}}\n"
}

// put replaces a file as editors do it.
func put(t *testing.T, file, text string, as mesh.User) {
	t.Helper()
	if err := os.WriteFile(file+"~", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if as.UID >= 0 {
		if err := os.Chown(file+"~", as.UID, as.UID); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(file+"~", file); err != nil {
		t.Fatal(err)
	}
}

func TestRulesThatAreFollowedHoldWhileTheCommandRunsAndAreOutOfItsReach(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		home := filepath.Dir(a.Runtime)
		folder, work := filepath.Join(home, "rules"), filepath.Join(home, "work")
		for _, path := range []string{folder, work} {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
			if a.User.UID >= 0 {
				if err := os.Chown(path, a.User.UID, a.User.UID); err != nil {
					t.Fatal(err)
				}
			}
		}
		file := filepath.Join(folder, "rules.yaml")
		put(t, file, rulesFor("www.example.com"), a.User)

		// The command asks for both names, tries to change the rules, says what it got,
		// and waits for a word before it does it again.
		script := `cd ` + work + `
try() { printf '%s %s %s\n' "$1" "$(` + a.curl + ` -s -o /dev/null -w '%{http_code}' --max-time 30 http://www.example.com/)" "$(` + a.curl + ` -s -o /dev/null -w '%{http_code}' --max-time 30 http://www.google.com/)"; }
try first
echo hostile > ` + file + `
mv ` + folder + ` ` + folder + `-moved; mkdir -p ` + folder + `; echo hostile > ` + file + `; ls ` + folder + `-moved
touch started
for i in $(seq 600); do
	[ -e changed ] && break
	sleep 0.1
done
for i in $(seq 100); do
	r=$(try second)
	[ "$r" = "second 403 200" ] && break
	sleep 0.1
done
echo "$r"`
		cmd := a.Command(t.Context(), "sluice", "run", "--egress-sockets", a.net.Sockets, "--upstream-ca", a.net.CA, "--resolver", "8.8.8.8", "-v",
			"--rules", file, "--watch", "--", "sh", "-c", script)
		done := make(chan mesh.Result, 1)
		go func() { done <- mesh.Finish(t, cmd, "") }()
		mesh.Eventually(t, func() string {
			if _, err := os.Stat(filepath.Join(work, "started")); err != nil {
				return err.Error()
			}
			return ""
		})
		moved := folder + "-moved"
		if _, err := os.Stat(moved); err != nil {
			moved = folder // it could not be renamed
		}
		put(t, filepath.Join(moved, "rules.yaml"), "kind: [", a.User)
		put(t, filepath.Join(moved, "rules.yaml"), rulesFor("www.google.com"), a.User)
		if err := os.WriteFile(filepath.Join(work, "changed"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		r := <-done
		if !strings.Contains(r.Stdout, "first 200 403\n") || !strings.Contains(r.Stdout, "second 403 200\n") {
			t.Errorf("exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
		}
		if strings.Contains(r.Stdout, "rules.yaml") {
			t.Errorf("the command sees the rules: %q", r.Stdout)
		}
		if !strings.Contains(r.Stderr, "the changed rules are in force") {
			t.Errorf("standard error is %q", r.Stderr)
		}
	})
}

func TestWhatWatchDoesNotTake(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		file := filepath.Join(filepath.Dir(a.Runtime), "rules.yaml")
		put(t, file, rulesFor("www.example.com"), a.User)
		for _, row := range []struct {
			args []string
			says string
		}{
			{[]string{"--watch", "--allow", "a.example"}, "--watch follows files of --rules"},
			{[]string{"--watch", "--rules", "-"}, "not standard input"},
			{[]string{"--watch", "--rules", file}, "a folder of their own"}, // the working folder is the home
		} {
			if r := a.run(t, append(row.args, "--", "true")...); r.Code != 125 || !strings.Contains(r.Stderr, row.says) {
				t.Errorf("%q: exit %d, %q", row.args, r.Code, r.Stderr)
			}
		}
	})
}
