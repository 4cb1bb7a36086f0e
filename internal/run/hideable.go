package run

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// hideable is a folder as it is hidden from a command that works in workdir: absolute,
// and through no link. One in which the command works cannot be hidden from it.
func hideable(folder, workdir string) (string, error) {
	real, err := filepath.EvalSymlinks(folder)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return "", err
	}
	if workdir == real || strings.HasPrefix(workdir, strings.TrimSuffix(real, "/")+"/") {
		return "", fmt.Errorf("the folder %s is hidden from the command, and the command's working folder lies in it; keep such files in a folder of their own", real)
	}
	return real, nil
}

// workdir is the command's working folder, through no link.
func (c *Config) workdir() string {
	dir := c.Dir
	if dir == "" {
		dir, _ = os.Getwd() // a folder that is gone holds nothing
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}
