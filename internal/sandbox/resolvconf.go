package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
)

// resolvConfName is our file below /run where the machine has its own elsewhere.
const resolvConfName = "resolv.conf"

// maxLinks is how many links the kernel follows in one path.
const maxLinks = 40

// resolvConf is our /etc/resolv.conf, open for writing until the start.
type resolvConf struct{ file *os.File }

// replaceResolvConf puts an empty file of ours where /etc/resolv.conf leads: on
// most machines a link below /run, which is masked, so that it would dangle.
// Without any such file it returns nil: there is nothing to mount on.
func replaceResolvConf(root string, runMasked bool) (*resolvConf, error) {
	target, err := followLinks(root, "/etc/resolv.conf")
	if err != nil {
		return nil, fmt.Errorf("find /etc/resolv.conf: %w", err)
	}
	if !runMasked {
		return nil, nil // no place of ours for the file
	}
	if IsBelow(target, runFolder) {
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return nil, fmt.Errorf("put %s: %w", target, err)
		}
		file, err := os.OpenFile(target, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o444)
		if err != nil {
			return nil, fmt.Errorf("put %s: %w", target, err)
		}
		return &resolvConf{file}, nil
	}
	if _, err := os.Lstat(target); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	// The file keeps its name: on one that was removed a sandbox inside this one
	// could not mount its own.
	file, err := os.OpenFile(filepath.Join(runFolder, resolvConfName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return nil, fmt.Errorf("write resolv.conf: %w", err)
	}
	if err := unix.Mount(file.Name(), target, "", unix.MS_BIND, ""); err != nil {
		file.Close()
		return nil, fmt.Errorf("replace %s: %w", target, err)
	}
	return &resolvConf{file}, nil
}

// write writes the gate's addresses and the search list, and closes the file.
func (r *resolvConf) write(search []string) error {
	_, err := r.file.WriteString(resolvConfText(search))
	return errors.Join(err, r.file.Close())
}

func resolvConfText(search []string) string {
	var text strings.Builder
	// One address does: the gate answers for both families over either.
	fmt.Fprintf(&text, "nameserver %s\n", capture.Gate4)
	if len(search) > 0 {
		// As in a Kubernetes pod: a name with fewer dots than this is tried under
		// each name of the list first.
		fmt.Fprintf(&text, "search %s\noptions ndots:5\n", strings.Join(search, " "))
	}
	return text.String()
}

// followLinks returns where a path leads below root, though the end, or a folder
// on the way, may not exist; filepath.EvalSymlinks fails on such.
func followLinks(root, path string) (string, error) {
	rest := strings.Split(path, "/")
	at := "/"
	links := 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, part)
		target, err := os.Readlink(filepath.Join(root, next))
		if err != nil { // not a link, or nothing
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: %w", path, unix.ELOOP)
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, nil
}

// Bounds of a search list.
const (
	MaxSearch = 32 // names
	maxName   = 253
)

// validateSearch keeps a name from being a line of its own in resolv.conf.
func validateSearch(search []string) error {
	if len(search) > MaxSearch {
		return fmt.Errorf("sandbox: search list of %d names, at most %d are taken", len(search), MaxSearch)
	}
	for _, name := range search {
		ordinary := func(r rune) bool {
			return r == '.' || r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		}
		if name == "" || len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return !ordinary(r) }) {
			return fmt.Errorf("sandbox: %q in the search list is not a host name", name)
		}
	}
	return nil
}
