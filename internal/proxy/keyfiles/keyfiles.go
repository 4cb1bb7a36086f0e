// Package keyfiles reads certificates and private keys in one folder, for the ways that show
// them (egress to servers, ingress to clients). It leaves the folder by no link, waits for
// no writer, reads no more than its bound, and never keeps or words what a file holds.
package keyfiles

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// MaxBytes bounds a file.
const MaxBytes = 256 << 10

// Folder is one such folder.
type Folder struct{ root *os.Root }

// Open opens a folder.
func Open(path string) (*Folder, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &Folder{root}, nil
}

// Close closes the folder: no file is read any more.
func (f *Folder) Close() error { return f.root.Close() }

// Stat looks at a file, which must be a regular one.
func (f *Folder) Stat(path string) (fs.FileInfo, error) {
	info, err := f.root.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	return info, err
}

// Read reads a file.
func (f *Folder) Read(path string) ([]byte, error) {
	file, err := f.root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe may have taken its place
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, MaxBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > MaxBytes:
		return nil, fmt.Errorf("%s has more than %d KiB", path, MaxBytes>>10)
	}
	return text, nil
}

// Same reports whether a file was not changed.
func Same(a, b fs.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && a.Mode() == b.Mode()
}
