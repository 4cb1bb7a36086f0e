package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// program is a static binary of this module that the image holds.
type program struct {
	name  string // its file in the image's /bin
	path  string // its package
	tests bool   // its package's tests, not the package
}

var programs = []program{
	{name: "guest", path: "./test/kernels/guest"},
	{name: "sluice", path: "./cmd/sluice"},
	{name: "attack", path: "./test/attack/cmd/attack"},
	{name: "simnet", path: "./test/simnet/cmd/simnet"},
	{name: "sandbox.test", path: "./internal/sandbox", tests: true},
	{name: "supervise.test", path: "./internal/sandbox/supervise", tests: true},
	{name: "capture.test", path: "./internal/capture", tests: true},
}

// build builds the programs for a processor and returns their folder.
func build(ctx context.Context, t target, cache string) (string, error) {
	folder, err := filepath.Abs(filepath.Join(cache, t.arch, "bin"))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	for _, p := range programs {
		arguments := []string{"build"}
		if p.tests {
			arguments = []string{"test", "-c"}
		}
		arguments = append(arguments, "-ldflags", "-s -w", "-o", filepath.Join(folder, p.name), p.path)
		command := exec.CommandContext(ctx, "go", arguments...)
		command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+t.arch)
		if out, err := command.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s for %s: %w\n%s", p.name, t.arch, err, out)
		}
	}
	return folder, nil
}
