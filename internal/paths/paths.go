// Package paths says where Sluice's folders and sockets are. Every command asks
// it; nothing else spells such a path. It makes and checks folders and never
// opens a socket.
package paths

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"sluice.dev/sluice/internal/format"
)

// Names of the sockets in the runtime folder.
const (
	APISocket    = "api.sock"    // the rules, and /sluice/
	PushSocket   = "push.sock"   // proxies of the machine
	AttachSocket = "attach.sock" // sandboxes of the machine
)

// MaxSocketPath is the longest path of a unix socket, in bytes (unix(7): sun_path
// holds 108 with its NUL).
const MaxSocketPath = 107

// Runtime returns the runtime folder: given, else $SLUICE_RUNTIME, else
// /run/sluice for root, else $XDG_RUNTIME_DIR/sluice, else /tmp/sluice-UID (on
// Windows, which has no such number, sluice in the user's temporary folder). An
// $XDG_ variable that is not absolute is ignored (XDG Base Directory
// Specification 0.8): two processes would find two folders by it.
func Runtime(given string) string {
	path, _ := RuntimeFrom(given)
	return path
}

// RuntimeFrom is Runtime, and how to name that folder to somebody else: by the variable
// that says it, and never with the name of a user.
func RuntimeFrom(given string) (path, shown string) {
	switch {
	case given != "":
		return absolute(given), "the folder that was given"
	case os.Getenv("SLUICE_RUNTIME") != "":
		return absolute(os.Getenv("SLUICE_RUNTIME")), "$SLUICE_RUNTIME"
	case os.Geteuid() == 0:
		path = "/run/sluice"
	case filepath.IsAbs(os.Getenv("XDG_RUNTIME_DIR")):
		return filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "sluice"), "$XDG_RUNTIME_DIR/sluice"
	case os.Geteuid() < 0:
		return filepath.Join(os.TempDir(), "sluice"), "sluice in the temporary folder"
	default:
		path = "/tmp/sluice-" + strconv.Itoa(os.Geteuid())
	}
	return path, path
}

// Data returns the data folder: given, else $SLUICE_DATA, else /var/lib/sluice
// for root, else $XDG_STATE_HOME/sluice, else ~/.local/state/sluice.
func Data(given string) (string, error) {
	path, _, err := DataFrom(given)
	return path, err
}

// DataFrom is Data, and how to name that folder to somebody else, as RuntimeFrom does.
func DataFrom(given string) (path, shown string, err error) {
	switch {
	case given != "":
		return absolute(given), "the folder that was given", nil
	case os.Getenv("SLUICE_DATA") != "":
		return absolute(os.Getenv("SLUICE_DATA")), "$SLUICE_DATA", nil
	case os.Geteuid() == 0:
		return "/var/lib/sluice", "/var/lib/sluice", nil
	case filepath.IsAbs(os.Getenv("XDG_STATE_HOME")):
		return filepath.Join(os.Getenv("XDG_STATE_HOME"), "sluice"), "$XDG_STATE_HOME/sluice", nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", "", fmt.Errorf("find the data folder: %w; set SLUICE_DATA", err)
	}
	const below = ".local/state/sluice"
	return filepath.Join(home, filepath.FromSlash(below)), "~/" + below, nil
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// Make makes a private folder, and the ones above it, where it is missing, and
// checks it as Check does.
func Make(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder %s: %w", dir, err)
	}
	return Check(dir)
}

// Check reports why a folder must not be trusted: it does not exist, is not a
// folder but a link, belongs to another user, or is open to others.
func Check(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("check the folder: %w", err)
	}
	owner, known := ownerOf(info)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder but a %s: remove it, or name another folder", dir, kindOf(info.Mode()))
	case !known:
		return fmt.Errorf("%s: this system does not say who owns it, so it is not trusted: name the server with --server", dir)
	case owner != os.Geteuid():
		return fmt.Errorf("%s belongs to another user (uid %d; this process has uid %d): run this as that user, or name another folder", dir, owner, os.Geteuid())
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s is open to other users (mode %04o); run chmod 0700 %s", dir, info.Mode().Perm(), dir)
	}
	return nil
}

// kindOf names what is there in place of a folder.
func kindOf(mode fs.FileMode) string {
	switch mode.Type() {
	case 0:
		return "file"
	case fs.ModeSymlink:
		return "symbolic link"
	}
	return "special file (" + mode.Type().String() + ")"
}

// Socket returns the path of a socket in a runtime folder, or an error where it
// is too long for the kernel.
func Socket(runtime, name string) (string, error) {
	path := filepath.Join(runtime, name)
	if len(path) > MaxSocketPath {
		return "", fmt.Errorf("the path %s is too long for a unix socket (%d bytes, at most %d): name a shorter runtime folder", path, len(path), MaxSocketPath)
	}
	return path, nil
}

// RemoveStale removes a socket file that a dead process left. Anything else with
// that name is left alone, and is an error.
func RemoveStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is not a socket but a %s: move it away, or name another folder", path, kindOf(info.Mode()))
	}
	return os.Remove(path)
}

// announcement ends the name of a file in the runtime folder that says where a
// process's data folder is, in JSON; in the first format it was the path alone.
const announcement = ".data"

const announcementFormat = 2

var announcements = format.Kind{Name: "the note of a data folder", Oldest: 2, Newest: announcementFormat}

// announced is the content of such a file.
type announced struct {
	Format int    `json:"format"`
	Data   string `json:"data"`
}

// readAnnounced returns the folder that a file names.
func readAnnounced(content []byte) (string, error) {
	if filepath.IsAbs(string(content)) {
		return string(content), nil
	}
	if err := announcements.CheckJSON(content); err != nil {
		return "", err
	}
	var said announced
	if err := json.Unmarshal(content, &said); err != nil {
		return "", fmt.Errorf("%s is not valid: %w", announcements.Name, err)
	}
	return said.Data, nil
}

// maxAnnouncements bounds how many are read.
const maxAnnouncements = 16

// Announce notes in the runtime folder where a process keeps its data, so that a
// sandbox on this machine hides that folder from its command, whatever flags the
// process was given. The function that it returns takes the note back.
func Announce(runtime, process, data string) (withdraw func(), err error) {
	file := filepath.Join(runtime, process+announcement)
	said, err := json.Marshal(announced{announcementFormat, data})
	if err == nil {
		err = os.WriteFile(file+".new", said, 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file) // who reads it sees all of it
	}
	if err != nil {
		os.Remove(file + ".new")
		return nil, fmt.Errorf("note the data folder: %w", err)
	}
	return func() { os.Remove(file) }, nil
}

// Announced returns the data folders that processes noted in the runtime folder. A
// note that cannot be read is an error: the folder could not be hidden. One that was noted by a process that was killed is listed too: hiding it does
// no harm.
func Announced(runtime string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(runtime, "*"+announcement))
	if err != nil {
		return nil, fmt.Errorf("list the data folders: %w", err)
	}
	if len(files) > maxAnnouncements {
		return nil, fmt.Errorf("list the data folders: %s holds %d files *%s, more than %d", runtime, len(files), announcement, maxAnnouncements)
	}
	var folders []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it ended meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list the data folders: %w", err)
		}
		folder, err := readAnnounced(text)
		if err != nil {
			return nil, fmt.Errorf("list the data folders: %s: %w; or end the process that wrote it", file, err)
		}
		if filepath.IsAbs(folder) && filepath.Clean(folder) != "/" {
			folders = append(folders, filepath.Clean(folder))
		}
	}
	return folders, nil
}

// ForgetAnnounced removes the notes of processes that were killed. The caller
// knows that none lives.
func ForgetAnnounced(runtime string) {
	files, err := filepath.Glob(filepath.Join(runtime, "*"+announcement))
	if err != nil {
		return
	}
	for _, file := range files {
		os.Remove(file)
	}
}

// State is who owns a folder and who may do what there.
type State struct {
	UID  int         // -1 where the system does not say
	Mode fs.FileMode // its permissions
}

// StateOf looks at a folder without judging it; Check does that.
func StateOf(dir string) (State, error) {
	info, err := os.Lstat(dir)
	if err != nil {
		return State{}, err
	}
	owner, known := ownerOf(info)
	if !known {
		owner = -1
	}
	return State{UID: owner, Mode: info.Mode().Perm()}, nil
}
