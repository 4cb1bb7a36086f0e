// Package binaries says where the binaries of Kubernetes are that the tests start, and
// builds them: kubebox (all components of a cluster) and kubectl. Command build and
// package cluster call it; it must never put a binary into the repository.
package binaries

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Variable names a folder that has the binaries already; nothing is built for it. Without
// it they are in a folder below the user's cache folder.
const Variable = "SLUICE_KUBE_BIN"

// Names is the binaries: each is built from the folder of its name in this module.
var Names = []string{"kubebox", "kubectl"}

// Node is the binaries that a node needs too: CoreDNS, which is a module of its own, and what
// is first in a Pod.
var Node = []string{"coredns", "pause"}

// MissingError says that a binary is missing.
type MissingError struct{ Path string }

// Error implements error.
func (e *MissingError) Error() string {
	return e.Path + " is not there: make test-kube builds it (coredns and pause: make demo-kube), about 8 minutes and 5 GB of build cache the first time; or name a folder that has it in " + Variable
}

// Find returns the folder in which all binaries are, and more of them.
func Find(module string, more ...string) (string, error) {
	dir, err := folder(module)
	if err != nil {
		return "", err
	}
	for _, name := range slices.Concat(Names, more) {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return "", &MissingError{filepath.Join(dir, name)}
		}
	}
	return dir, nil
}

// Build builds what is missing, saying on log what it does, and returns the folder.
func Build(ctx context.Context, module string, log io.Writer, more ...string) (string, error) {
	dir, err := Find(module, more...)
	var missing *MissingError
	if !errors.As(err, &missing) {
		return dir, err
	}
	if os.Getenv(Variable) != "" {
		return "", fmt.Errorf("%w; %s names a folder in which nothing is built", err, Variable)
	}
	if dir, err = folder(module); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	version, err := output(ctx, module, "go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
	if err != nil {
		return "", err
	}
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	const to = " -X k8s.io/component-base/version."
	ld := "-s -w" + to + "gitVersion=" + version + to + "gitMajor=" + major + to + "gitMinor=" + minor
	for _, name := range slices.Concat(Names, more) {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		fmt.Fprintf(log, "building %s\n", path)
		// Beside its place first, so that nobody runs a half one.
		half := fmt.Sprintf("%s.%d", path, os.Getpid())
		cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", ld, "-o", half, ".")
		cmd.Dir, cmd.Stdout, cmd.Stderr = filepath.Join(module, name), log, log
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // static, and one set of cached packages with the product's
		if err := cmd.Run(); err != nil {
			_ = os.Remove(half) // perhaps never made
			return "", fmt.Errorf("build %s: %w", name, err)
		}
		if err := os.Rename(half, path); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// folder returns where the binaries belong: one folder for each text of what they are made of.
func folder(module string) (string, error) {
	if dir := os.Getenv(Variable); dir != "" {
		return filepath.Abs(dir)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("%w: name a folder for the binaries of Kubernetes in %s", err, Variable)
	}
	sum := sha256.New()
	_, _ = io.WriteString(sum, runtime.Version()+runtime.GOARCH)
	for _, path := range []string{"go.mod", "go.sum", "kubebox/main.go", "kubectl/main.go"} {
		data, err := os.ReadFile(filepath.Join(module, path))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n", path, len(data))
		_, _ = sum.Write(data)
	}
	return filepath.Join(cache, "sluice", "kube-"+hex.EncodeToString(sum.Sum(nil))[:16]), nil
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, cmp.Or(strings.TrimSpace(string(exit.Stderr)), "it said nothing"))
		}
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
