package test

import (
	"os/user"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

// A number beyond the last one stayed root, and one beyond 32 bits became it.
func TestRunAsIsAUserOrTheRunFails(t *testing.T) {
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	for _, who := range mesh.Users(t) {
		t.Run(who.Name, func(t *testing.T) {
			place := mesh.NewPlace(t, who)
			for _, text := range []string{"", "0", "root", "4294967295", "4294967296", "1000:0", "1000:4294967296", "no-such-user-here"} {
				r := place.Sluice(t, "run", "--run-as", text, "--", "id", "-u")
				if r.Code != 125 || r.Stdout != "" || !strings.Contains(r.Stderr, "--run-as") {
					t.Errorf("--run-as %q: exit %d, %q, %q", text, r.Code, r.Stdout, r.Stderr)
				}
			}
			r := place.Sluice(t, "run", "--run-as", "nobody:4294967294", "--", "sh", "-c", "id -u; id -g")
			if who.Name != "root" {
				if r.Code != 125 || r.Stdout != "" || !strings.Contains(r.Stderr, "--run-as: only root") {
					t.Errorf("as an ordinary user: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
				}
				return
			}
			if want := nobody.Uid + "\n4294967294\n"; r.Code != 0 || r.Stdout != want {
				t.Errorf("a named user: exit %d, %q, %q; want %q", r.Code, r.Stdout, r.Stderr, want)
			}
		})
	}
}
