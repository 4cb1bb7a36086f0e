package doctor

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestAReportForOthersNamesNoPathThatWasChosenHere(t *testing.T) {
	home := filepath.Join(t.TempDir(), "margue\"rite")
	t.Setenv("HOME", home)
	t.Setenv("USER", "rite")
	r := &Report{hide: []hidden{{home + "/sluice/data", "$SLUICE_DATA"}, {home + "/sluice", "$SLUICE_RUNTIME"}}}
	r.Folders = []Folder{
		{Path: home + "/sluice"}, {Path: home + "/sluice/data", Problem: home + "/sluice/data is open to others; run chmod 0700 " + home + "/sluice/data"},
	}
	r.Sandbox.Problem = "mount " + home + "/.docker: no"
	r.Sandbox.Notes = []string{"/media/rite/disk"}
	var b strings.Builder
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "rite") {
		t.Errorf("the user is named:\n%s", b.String())
	}
	var read Report
	if err := json.Unmarshal([]byte(b.String()), &read); err != nil {
		t.Fatalf("%v:\n%s", err, b.String())
	}
	if f := read.Folders; f[0].Path != "$SLUICE_RUNTIME" || f[1].Problem != "$SLUICE_DATA is open to others; run chmod 0700 $SLUICE_DATA" || read.Sandbox.Problem != "mount ~/.docker: no" {
		t.Errorf("%+v", read)
	}
	if r.Folders[0].Path != home+"/sluice" {
		t.Error("the report itself was changed: who asked reads the paths as they are")
	}
}

func TestAProgramIsAskedForItsVersionAndNothingElseIsRepeated(t *testing.T) {
	for script, want := range map[string]Program{
		"echo sluice-proxy version v1.2.3":            {Name: "sluice-proxy", Version: "v1.2.3"},
		"echo sluice-server version v1.2.3":           {Name: "sluice-proxy", Problem: "what is there by that name is another program"},
		"echo my secret; echo sluice-proxy version 1": {Name: "sluice-proxy", Problem: "what is there by that name is another program"},
		"exit 3": {Name: "sluice-proxy", Problem: "it does not report its version"},
	} {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "sluice-proxy"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", folder+":/bin:/usr/bin")
		if got := examineProgram(t.Context(), "sluice-proxy"); got != want {
			t.Errorf("%s: %+v", script, got)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if got := examineProgram(t.Context(), "sluice-proxy"); got.Problem != "neither beside sluice nor in PATH" {
		t.Errorf("none: %+v", got)
	}
}

func TestAFolderIsReportedWithWhoOwnsItAndWhyItWouldNotBeUsed(t *testing.T) {
	open := t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	private := filepath.Join(open, "private")
	if err := errors.Join(os.Mkdir(private, 0o700), os.WriteFile(filepath.Join(open, "file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]Folder{
		private:                           {Name: "data", Path: private, Exists: true, UID: os.Geteuid(), Mode: "0700"},
		open:                              {Name: "data", Path: open, Exists: true, UID: os.Geteuid(), Mode: "0755", Problem: "open to other users"},
		filepath.Join(open, "none"):       {Name: "data", Path: filepath.Join(open, "none"), UID: -1},
		filepath.Join(open, "file/below"): {Name: "data", Path: filepath.Join(open, "file/below"), UID: -1, Problem: "not a directory"},
	} {
		got := new(Report).examineFolder("data", path, "shown")
		problem := got.Problem
		if got.Problem = want.Problem; got != want || !strings.Contains(problem, want.Problem) || want.Problem == "" && problem != "" {
			t.Errorf("%s: %+v, %s", path, got, problem)
		}
	}
}

// read is how the source reads a variable of ours; another name of one is a constant.
var read = regexp.MustCompile(`(?:Getenv|environment)\("(SLUICE_[A-Z_]+)"|Variable += "(SLUICE_[A-Z_]+)"`)

func TestEveryVariableThatSluiceReadsIsReportedByItsName(t *testing.T) {
	found := 0
	for _, tree := range []string{"../../cmd", "../../internal"} {
		err := filepath.WalkDir(tree, func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, names := range read.FindAllStringSubmatch(string(text), -1) {
				found++
				if name := names[1] + names[2]; !slices.Contains(variables, name) {
					t.Errorf("%s reads %s, which the report does not know", path, name)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 15 {
		t.Errorf("only %d places were found that read one", found)
	}
}
