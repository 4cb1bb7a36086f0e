package paths

import (
	"os"
	"os/exec"
	"path/filepath"
)

// Program returns where a program of Sluice is: beside this one, else in PATH. One beside
// is of the same build.
func Program(name string) (string, error) {
	if self, err := os.Executable(); err == nil {
		if beside, err := exec.LookPath(filepath.Join(filepath.Dir(self), name)); err == nil {
			return beside, nil
		}
	}
	return exec.LookPath(name)
}
