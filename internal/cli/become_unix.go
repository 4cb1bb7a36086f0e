//go:build unix

package cli

import (
	"os"
	"syscall"
)

// become goes on as another program, and returns only where it cannot.
func become(path string, args []string) error {
	return &os.PathError{Op: "exec", Path: path, Err: syscall.Exec(path, args, os.Environ())}
}
