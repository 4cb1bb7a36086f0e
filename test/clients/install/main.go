// Command install fetches what the rows of test/clients want and this machine lacks:
// Debian's packages where we are root, Python's into an environment and Go's commands
// into a folder below .build/clients. `make test-clients` and CI call it. It removes
// and upgrades nothing that is there.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sluice.dev/sluice/test/clients/table"
)

func main() {
	sample := flag.Bool("sample", false, "only for the rows that `make test` runs")
	folder := flag.String("folder", ".build/clients", "where what is not Debian's goes")
	flag.Parse()
	if err := install(*sample, *folder); err != nil {
		fmt.Fprintln(os.Stderr, "install:", err)
		os.Exit(1)
	}
}

func install(sample bool, folder string) error {
	var debian, pypi, commands []string
	for _, c := range table.All() {
		if sample && !c.Sample {
			continue
		}
		pypi, commands = append(pypi, c.PyPI...), append(commands, c.Go...)
		debian = append(debian, c.Servers...)
		// A client that is there is kept, whoever brought it.
		if c.Debian != nil && exec.Command("sh", "-c", c.Version).Run() != nil {
			debian = append(debian, c.Debian...)
		}
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		return err
	}
	return errors.Join(apt(debian), pip(pypi, filepath.Join(folder, "python")), goInstall(commands, filepath.Join(folder, "bin")))
}

// apt installs packages of Debian that are not there.
func apt(packages []string) error {
	missing := slices.DeleteFunc(distinct(packages), func(name string) bool {
		out, err := exec.Command("dpkg-query", "-W", "-f", "${Status}", name).Output()
		return err == nil && strings.HasSuffix(string(out), " installed")
	})
	if len(missing) == 0 {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("as root: apt-get install %s", strings.Join(missing, " "))
	}
	if err := run("apt-get", "update", "-qq"); err != nil {
		return err
	}
	// A server that is installed is not to start: the tests start their own.
	return run("env", append([]string{"DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "install", "-y", "-qq", "--no-install-recommends"}, missing...)...)
}

// pip installs Python's packages into an environment, of Debian's Python where it is
// there: another user may run it.
func pip(packages []string, folder string) error {
	packages = distinct(packages)
	if len(packages) == 0 {
		return nil
	}
	python := "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		python = "python3"
	}
	if _, err := os.Stat(filepath.Join(folder, "bin", "pip")); err != nil {
		if err := run(python, "-m", "venv", folder); err != nil {
			return err
		}
	}
	return run(filepath.Join(folder, "bin", "python"), append([]string{"-m", "pip", "install", "-q", "--disable-pip-version-check"}, packages...)...)
}

// goInstall builds commands from outside the module: what they need is not what
// Sluice links.
func goInstall(commands []string, folder string) error {
	for _, c := range distinct(commands) {
		if err := run("env", "GOBIN="+folder, "CGO_ENABLED=0", "go", "install", c); err != nil {
			return err
		}
	}
	return nil
}

func distinct(all []string) []string {
	slices.Sort(all)
	return slices.Compact(all)
}

func run(program string, args ...string) error {
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
	}
	return nil
}
