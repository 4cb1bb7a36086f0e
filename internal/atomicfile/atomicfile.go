// Package atomicfile writes files that are there as a whole or not at all: what keeps state
// or a backup calls it. After a crash the old content or the new one is there, never a
// part and never nothing. It never decides where a file may be, or who may read it.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// unfinished begins the name of a file that is being written, with its own name behind.
const unfinished = ".new-"

// maxName bounds how much of a file's name is in that of its unfinished one: names have
// 255 bytes.
const maxName = 200

// Write writes the file at path with a mode, whatever the umask, and what write writes.
// Where it fails the file is as it was, and nothing else is left in its folder. A
// symbolic link at path is replaced.
func Write(path string, mode fs.FileMode, write func(io.Writer) error) (err error) {
	folder := filepath.Dir(path)
	file, err := os.CreateTemp(folder, prefix(path)+"*") // 0600 until it is whole
	if err != nil {
		return err
	}
	renamed := false
	defer func() {
		if !renamed {
			err = errors.Join(err, file.Close(), os.Remove(file.Name()))
		}
	}()
	if err := write(file); err != nil {
		return err
	}
	if err := file.Chmod(mode); err != nil {
		return err
	}
	if err := file.Sync(); err != nil { // before the rename: it may reach the disk first
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	renamed = true
	if err := errors.Join(file.Close(), syncFolder(folder)); err != nil {
		return fmt.Errorf("%s is written, and may be as it was after a crash: %w", path, err)
	}
	return nil
}

// WriteBytes is Write with the content at hand.
func WriteBytes(path string, mode fs.FileMode, pieces ...[]byte) error {
	return Write(path, mode, func(w io.Writer) error {
		for _, piece := range pieces {
			if _, err := w.Write(piece); err != nil {
				return err
			}
		}
		return nil
	})
}

// Sweep removes what processes left that were killed while they wrote path. Only the one
// writer of path may call it: what another is writing is removed too.
func Sweep(path string) error {
	folder := filepath.Dir(path)
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		// Behind the prefix are digits alone: another file's name may begin as path's.
		if number, ours := strings.CutPrefix(entry.Name(), prefix(path)); ours && strings.Trim(number, "0123456789") == "" {
			if gone := os.Remove(filepath.Join(folder, entry.Name())); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
				err = errors.Join(err, gone)
			}
		}
	}
	return err
}

// IsUnfinished says of a name whether Write gave it to a file that was not whole.
func IsUnfinished(name string) bool { return strings.HasPrefix(name, unfinished) }

func prefix(path string) string {
	name := filepath.Base(path)
	return unfinished + name[:min(len(name), maxName)] + "-"
}

// syncFolder has the disk keep the rename. Some file systems cannot, and say so.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil // a folder that we may write and not read
	}
	if err != nil {
		return err
	}
	defer folder.Close()
	err = folder.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}
