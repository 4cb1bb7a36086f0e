// Package mesh runs Sluice's real processes for the end-to-end tests: it builds
// the binaries once, starts a demo or a command of it as root or as an ordinary
// user, and leaves nothing behind. It never reaches into a process but by the
// commands and sockets that a user has.
package mesh

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var (
	buildOnce sync.Once
	buildDir  string
	buildErr  error
)

// Binaries builds every binary once and returns their folder, which any user may
// read.
func Binaries(t testing.TB) string {
	t.Helper()
	buildOnce.Do(func() {
		buildDir, buildErr = build("./cmd/...", "./samples/bookinfo", "./test/simnet/cmd/simnet", "./test/mesh/cmd/agent", "./test/attack/cmd/attack")
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return buildDir
}

// Build builds some commands of the module, and returns their folder, which any user
// may read.
func Build(t testing.TB, packages ...string) string {
	t.Helper()
	dir, err := build(packages...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func build(packages ...string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	if err := watchSources(root); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "sluice-test-bin-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	cmd := exec.Command("go", append([]string{"build", "-o", dir + "/"}, packages...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the binaries: %w\n%s", err, out)
	}
	return dir, nil
}

// watchSources looks at every source file, so that the go command takes a test's
// result from its cache only while the binaries would be the same.
func watchSources(root string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".go" {
			_, err = os.Stat(path)
		}
		return err
	})
}

// Root is the folder of the module.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no go.mod above the working directory")
}

// Clean removes what Binaries built; TestMain calls it at the end.
func Clean() {
	if buildDir != "" {
		os.RemoveAll(buildDir)
	}
}
