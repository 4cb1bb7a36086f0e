//go:build linux

package cli

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"sluice.dev/sluice/internal/hidden"
	"sluice.dev/sluice/internal/sandbox"
)

// fileFlags say what of the machine's files the command sees.
type fileFlags struct {
	hide, show, readOnly, writable []string
	workdirOnly                    bool
}

func (o *fileFlags) add(f *pflag.FlagSet) {
	f.StringArrayVar(&o.hide, "hide", nil, "`PATH` of a file or folder that is empty for the command; may be repeated")
	f.StringArrayVar(&o.show, "show", nil, "`PATH` that is hidden unless asked for, or lies in what is hidden, and that the command sees; may be repeated")
	f.StringArrayVar(&o.readOnly, "ro", nil, "`PATH` that the command can only read, with all that is in it; may be repeated")
	f.StringArrayVar(&o.writable, "rw", nil, "`PATH` in one of --ro, or in what is hidden, that the command sees and can write; may be repeated")
	f.BoolVar(&o.workdirOnly, "workdir-only", false, "of the home, of /home, /root, /mnt, /media and /srv the command sees the working folder and what --show, --ro and --rw name; the home, /tmp and /var/tmp are empty folders in memory")
}

// wishes makes the paths absolute.
func (o *fileFlags) wishes() (w hidden.Wishes, err error) {
	w.WorkdirOnly = o.workdirOnly
	for _, flag := range []struct {
		name string
		from []string
		to   *[]string
	}{{"--hide", o.hide, &w.Hide}, {"--show", o.show, &w.Show}, {"--ro", o.readOnly, &w.ReadOnly}, {"--rw", o.writable, &w.Writable}} {
		for _, path := range flag.from {
			full, err := absolutePath(path)
			if err != nil {
				return w, fmt.Errorf("%s %q: %w", flag.name, path, err)
			}
			*flag.to = append(*flag.to, full)
		}
	}
	return w, nil
}

// absolutePath is a path of a flag from the root. A shell leaves the ~ of --show=~/file
// as it is.
func absolutePath(path string) (string, error) {
	if path == "" {
		return "", errors.New("names nothing: is the variable that it comes from set?")
	}
	if path == "~" || strings.HasPrefix(path, "~/") {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		return filepath.Join(home, path[1:]), nil
	}
	return filepath.Abs(path)
}

// homes are the home folders of the command's user: the environment's, which programs
// ask first, and the machine's.
func homes(runAs *sandbox.Identity) (all []string) {
	uid := os.Geteuid()
	if runAs != nil {
		uid = runAs.UID
	}
	candidates := []string{os.Getenv("HOME")}
	if known, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		candidates = append(candidates, known.HomeDir)
	}
	for _, home := range candidates {
		if home = filepath.Clean(home); filepath.IsAbs(home) && !slices.Contains(all, home) {
			all = append(all, home)
		}
	}
	return all
}
