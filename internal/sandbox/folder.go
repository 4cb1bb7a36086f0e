package sandbox

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// folder is the working folder as our parent gave it to us. It was opened before the
// masks: through it, what lies under them would stay in reach, so the command stands
// in the same one as its own mounts have it, or does not start.
type folder struct {
	path string
	stat unix.Stat_t
}

func workingFolder() (*folder, error) {
	f := new(folder)
	var err error
	if f.path, err = os.Getwd(); err == nil {
		err = unix.Stat(".", &f.stat)
	}
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, errors.New("the working folder does not exist any more: change to one that does, and start the command there")
	case err != nil:
		return nil, fmt.Errorf("the working folder: %w", err)
	}
	return f, nil
}

// enter changes to it, whoever removed, renamed or hid it.
func (f *folder) enter() error {
	if err := unix.Chdir(f.path); err != nil {
		return fmt.Errorf("the working folder %s cannot be entered inside: %w; start the command in another one", f.path, err)
	}
	var now unix.Stat_t
	if err := unix.Stat(".", &now); err != nil {
		return fmt.Errorf("the working folder %s: %w", f.path, err)
	}
	if now.Dev != f.stat.Dev || now.Ino != f.stat.Ino {
		return fmt.Errorf("the working folder %s is hidden from the command: start it in another one", f.path)
	}
	return nil
}
