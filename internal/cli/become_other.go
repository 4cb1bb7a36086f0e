//go:build !unix

package cli

import (
	"errors"
	"os"
	"os/exec"
)

// become runs another program and ends with its status.
func become(path string, args []string) error {
	cmd := exec.Command(path, args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		return &ExitError{Code: exit.ExitCode()}
	} else if err != nil {
		return err
	}
	return nil
}
