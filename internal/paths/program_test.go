package paths

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAProgramBesideThisOneIsTakenBeforeThatOfPATH(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const name = "sluice-of-a-test"
	beside, folder := filepath.Join(filepath.Dir(self), name), t.TempDir()
	t.Cleanup(func() { os.Remove(beside) })
	t.Setenv("PATH", folder)
	if found, err := Program(name); err == nil {
		t.Fatalf("%s is found and is nowhere", found)
	}
	in := filepath.Join(folder, name)
	for _, at := range []string{in, beside} {
		if err := os.WriteFile(at, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Skip(err) // the folder of the test's binary cannot be written
		}
		if found, err := Program(name); err != nil || found != at {
			t.Errorf("%s, %v: want %s", found, err, at)
		}
	}
	// What cannot be executed is not a program.
	if err := os.Chmod(beside, 0o644); err != nil {
		t.Fatal(err)
	}
	if found, err := Program(name); err != nil || found != in {
		t.Errorf("%s, %v: want %s", found, err, in)
	}
}
