package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

func TestACommandWhoseFolderIsGoneDoesNotStart(t *testing.T) {
	for _, who := range mesh.Users(t) {
		t.Run(who.Name, func(t *testing.T) {
			place := mesh.NewPlace(t, who)
			script := `mkdir x && cd x && rmdir ../x && "$0" run -- pwd`
			r := place.Run(t, "", "/bin/sh", "-c", script, filepath.Join(place.Bin, "sluice"))
			if r.Code != 125 || r.Stdout != "" || !strings.Contains(r.Stderr, "the working folder does not exist any more") {
				t.Errorf("exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
			}
		})
	}
}

// What of the level does not hold stands in the report and in a line, and ends a run
// that requires it before the command.
func TestALevelNeverFallsSilently(t *testing.T) {
	const lacks = "socket files that appear after the start are in reach"
	for _, who := range mesh.Users(t) {
		t.Run(who.Name, func(t *testing.T) {
			place := mesh.NewPlace(t, who)
			report := filepath.Join(filepath.Dir(place.Runtime), "report.jsonl")
			r := place.Sluice(t, "run", "--unsupervised", "--report", report, "--", "true")
			if r.Code != 0 || strings.Count(r.Stderr, lacks) != 1 {
				t.Errorf("exit %d, %q", r.Code, r.Stderr)
			}
			content, err := os.ReadFile(report)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(content), "\n")
			var start struct {
				Level   string
				Lowered []string
			}
			if err := json.Unmarshal([]byte(first), &start); err != nil || start.Level != "sandbox" || len(start.Lowered) == 0 || !strings.Contains(strings.Join(start.Lowered, "\n"), lacks) {
				t.Errorf("the report begins with %s, %v", first, err)
			}
			r = place.Sluice(t, "run", "--unsupervised", "--require-level", "sandbox", "--", "echo", "started")
			if r.Code != 125 || r.Stdout != "" || !strings.Contains(r.Stderr, "--require-level sandbox: not all of it holds here: ") || !strings.Contains(r.Stderr, lacks) {
				t.Errorf("required: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
			}
			r = place.Sluice(t, "run", "--allow-pivot-root", "--require-level", "sandbox", "--", "echo", "started")
			if r.Code != 125 || r.Stdout != "" || !strings.Contains(r.Stderr, "the command can take another root folder (--allow-pivot-root)") {
				t.Errorf("with --allow-pivot-root: %d %q %q", r.Code, r.Stdout, r.Stderr)
			}
			r = place.Sluice(t, "run", "--require-level", "sandbox", "--", "echo", "started")
			if whole := r.Code == 0 && r.Stdout == "started\n" && r.Stderr == ""; !whole && (r.Code != 125 || !strings.Contains(r.Stderr, "--require-level sandbox: ")) {
				t.Errorf("required, and nothing given up: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
			}
			for _, level := range []string{"", "none", "Sandbox"} {
				if r := place.Sluice(t, "run", "--require-level", level, "--", "echo", "started"); r.Code != 125 || r.Stdout != "" || !strings.Contains(r.Stderr, "it takes sandbox") {
					t.Errorf("--require-level %q: exit %d, %q, %q", level, r.Code, r.Stdout, r.Stderr)
				}
			}
		})
	}
}
