package hidden

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/sandbox"
	"sluice.dev/sluice/rules"
)

// closedReason is that of a folder into which we do not see now, and the command may: its
// owner can give itself the right. All of it is hidden.
var closedReason = rules.HiddenPath{What: "a folder that could not be looked through for files to hide", Instead: "chmod u+rwx lets sluice look"}

// closedBy returns the folder that keeps us, and not the command, from a path whose lookup
// ended with err.
func closedBy(path string, err error) (folder string, closed bool) {
	if !errors.Is(err, fs.ErrPermission) {
		return "", false
	}
	folder, holds := sandbox.Denier(path)
	if folder == "" { // it was opened since then, and so it can be
		return filepath.Dir(path), true
	}
	return folder, !holds
}

// unlisted says of a folder that could not be read whether the command may reach what is
// in it: by its name where it may enter, or as its owner.
func unlisted(folder string, err error) (closed string, found bool) {
	if !errors.Is(err, fs.ErrPermission) {
		return "", false
	}
	real, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return closedBy(folder, err)
	}
	if unix.Access(real, unix.X_OK) == nil {
		return real, true
	}
	return closedBy(real+"/x", fs.ErrPermission)
}
