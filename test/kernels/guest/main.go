// Command guest is the first process of a kernel that test/kernels boots, and what it
// starts: the rows, a modprobe for the kernel, and small commands for inside a sandbox.
// It must never be run on a machine that somebody uses: it mounts, and it ends the machine.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// roles are what this binary is besides the first process, by its first argument.
var roles = map[string]func(arguments []string) error{
	"rows": runRows, // RUNS all rows
	"get":  get,     // URL: prints status and body
}

func main() {
	if filepath.Base(os.Args[0]) == "modprobe" {
		finish(modprobe(os.Args[1:]))
	}
	if os.Getpid() == 1 && len(os.Args) == 1 {
		begin()
	}
	if len(os.Args) < 2 || roles[os.Args[1]] == nil {
		finish(fmt.Errorf("%q: it is the first process of a test's kernel, or a role", os.Args))
	}
	finish(roles[os.Args[1]](os.Args[2:]))
}

func finish(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
