package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"

	"sluice.dev/sluice/internal/capture/seqpacket"
)

// Bounds of Files.
const (
	// MaxHidden bounds the files and folders that are hidden from a command.
	MaxHidden = 512
	// MaxViews bounds what it sees otherwise than it is.
	MaxViews = 64
	// maxPart is how much of them one message of the channel carries, in bytes.
	maxPart = seqpacket.MaxMessage * 3 / 4
)

// Files says what of the machine's files the command sees otherwise than its owner
// does. All paths are absolute. What is to be hidden and does not exist is skipped unless
// it is required; what is to be seen has to be there.
type Files struct {
	Hide  []Hidden
	Views []View
}

// Hidden is a file or a folder that the command finds empty. It cannot write there.
type Hidden struct {
	Path string `json:"path"`
	// Empty is what a file holds for the command.
	Empty string `json:"empty,omitempty"`
	// With are names that the folder keeps, where it has them, as empty files.
	With []string `json:"with,omitempty"`
	// Quiet says that nobody wants to know whether it was opened.
	Quiet bool `json:"quiet,omitempty"`
	// Required says that it has to be there, or the command does not start.
	Required bool `json:"required,omitempty"`
}

// View is a file or a folder that lies in what is hidden or read-only, or is read-only.
type View struct {
	Path string   `json:"path"`
	Mode ViewMode `json:"mode"`
	// Type is what has to be there, by that very name and through no link: what Path leads
	// to may be changed by others until it is looked at. 0 takes whatever Path leads to.
	Type fs.FileMode `json:"type,omitempty"`
}

// ViewMode says how a path is seen.
type ViewMode string

const (
	ViewShown    ViewMode = "shown"     // as it is, in a folder that is hidden
	ViewReadOnly ViewMode = "read-only" // with all that is in it
	ViewWritable ViewMode = "writable"  // as it is, in a folder that is read-only or hidden
	ViewEmpty    ViewMode = "empty"     // a folder in memory, gone with the sandbox
)

// filesPart is a message of the channel, behind setup.
type filesPart struct {
	Hide  []Hidden `json:"hide,omitempty"`
	Views []View   `json:"views,omitempty"`
	Last  bool     `json:"last,omitempty"`
}

func (f *Files) empty() bool { return len(f.Hide)+len(f.Views) == 0 }

func (f *Files) validate() error {
	switch {
	case len(f.Hide) > MaxHidden:
		return fmt.Errorf("sandbox: %d files and folders to hide, at most %d are taken", len(f.Hide), MaxHidden)
	case len(f.Views) > MaxViews:
		return fmt.Errorf("sandbox: %d paths to show or to make read-only, at most %d are taken", len(f.Views), MaxViews)
	}
	check := func(path string) error {
		if !filepath.IsAbs(path) || filepath.Clean(path) == "/" {
			return fmt.Errorf("sandbox: %q: not an absolute path below /", path)
		}
		return nil
	}
	for _, hidden := range f.Hide {
		if err := check(hidden.Path); err != nil {
			return err
		}
		for _, name := range hidden.With {
			if name != filepath.Base(name) || !filepath.IsLocal(name) {
				return fmt.Errorf("sandbox: %q is not the name of a file in %s", name, hidden.Path)
			}
		}
	}
	for _, view := range f.Views {
		if err := check(view.Path); err != nil {
			return err
		}
	}
	return nil
}

// sendFiles sends them in as many messages as they need.
func sendFiles(control *net.UnixConn, files *Files) error {
	var part filesPart
	size := 0
	add := func(item any, put func()) error {
		text, err := json.Marshal(item)
		if err != nil {
			return err
		}
		if size > 0 && size+len(text) > maxPart {
			if err := seqpacket.Send(control, part); err != nil {
				return err
			}
			part, size = filesPart{}, 0
		}
		size += len(text) + 1
		put()
		return nil
	}
	for _, hidden := range files.Hide {
		if err := add(hidden, func() { part.Hide = append(part.Hide, hidden) }); err != nil {
			return err
		}
	}
	for _, view := range files.Views {
		if err := add(view, func() { part.Views = append(part.Views, view) }); err != nil {
			return err
		}
	}
	part.Last = true
	return seqpacket.Send(control, part)
}

// receiveFiles is the other end of sendFiles.
func receiveFiles(control *net.UnixConn) (*Files, error) {
	files := new(Files)
	for {
		var part filesPart
		if _, err := seqpacket.Receive(control, &part, 0); err != nil {
			return nil, fmt.Errorf("what of the files is hidden: %w", err)
		}
		if !part.Last && len(part.Hide)+len(part.Views) == 0 {
			return nil, errors.New("what of the files is hidden: an empty message")
		}
		files.Hide, files.Views = append(files.Hide, part.Hide...), append(files.Views, part.Views...)
		if err := files.validate(); err != nil {
			return nil, err
		}
		if part.Last {
			return files, nil
		}
	}
}
