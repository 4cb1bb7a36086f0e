package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"sluice.dev/sluice/internal/sandbox"
)

// makeMasked makes a folder that is to be hidden. Where it cannot be made, neither may
// the command be able to: it is nowhere, or in what neither of us can change.
func makeMasked(folder string) error {
	if info, err := os.Lstat(folder); err == nil && info.Mode().IsRegular() {
		return nil // a file is hidden as it is
	}
	err := os.MkdirAll(folder, 0o700)
	switch {
	case err == nil, errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EPERM), errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, syscall.EACCES) && !errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("make a folder that is to be hidden from the command: %w", err)
	}
	if by, holds := sandbox.Denier(folder); by != "" && holds {
		return nil
	} else if by != "" {
		return fmt.Errorf("make a folder that is to be hidden from the command: %w", sandbox.Denied(folder, err))
	}
	// It was followed to its end, so the last part that there is does not take another one.
	last := folder
	info, statErr := os.Stat(last)
	for statErr != nil && last != filepath.Dir(last) {
		last = filepath.Dir(last)
		info, statErr = os.Stat(last)
	}
	if statErr == nil && !info.IsDir() { // a file in the place of a folder: who may take it away?
		last = filepath.Dir(last)
		info, statErr = os.Stat(last)
	}
	if statErr == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
			return nil
		}
	}
	return fmt.Errorf("make a folder that is to be hidden from the command: %w; the command could give itself the right to make it in %s, so do it first: chmod u+rwx %[2]s", err, last)
}
