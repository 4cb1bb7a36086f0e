//go:build linux

package cli

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"sluice.dev/sluice/internal/sandbox"
)

// directory knows the users and groups of the machine by name.
type directory interface {
	user(name string) (uid, gid string, groups []string, err error)
	group(name string) (gid string, err error)
}

// accounts are those that the system knows.
type accounts struct{}

func (accounts) user(name string) (uid, gid string, groups []string, err error) {
	found, err := user.Lookup(name)
	if err != nil {
		return "", "", nil, err
	}
	groups, err = found.GroupIds()
	return found.Uid, found.Gid, groups, err
}

func (accounts) group(name string) (gid string, err error) {
	found, err := user.LookupGroup(name)
	if err != nil {
		return "", err
	}
	return found.Gid, nil
}

// identity reads --run-as: USER or USER:GROUP. A named user has its groups; a number
// has the group of that number, or the one that is given, and no others.
func identity(text string, known directory) (*sandbox.Identity, error) {
	name, group, withGroup := strings.Cut(text, ":")
	wrong := func(err error) error {
		return fmt.Errorf("--run-as %q: %w; it takes USER or USER:GROUP, names or numbers from 1 to %d", text, err, sandbox.MaxID)
	}
	if name == "" || withGroup && group == "" {
		return nil, wrong(errors.New("an empty name"))
	}
	who := new(sandbox.Identity)
	var err error
	if isNumber(name) {
		who.UID, err = parseID("user", name)
		who.GID = who.UID
	} else {
		err = named(who, name, known)
	}
	if err == nil && withGroup {
		who.GID, err = groupNumber(group, known)
	}
	if err == nil {
		err = who.Check()
	}
	if err != nil {
		return nil, wrong(err)
	}
	return who, nil
}

// named fills in the numbers of a user; its first group may be among the others too.
func named(who *sandbox.Identity, name string, known directory) error {
	uid, gid, groups, err := known.user(name)
	if err != nil {
		var unknown user.UnknownUserError
		if errors.As(err, &unknown) {
			return errors.New("this machine has no such user")
		}
		return fmt.Errorf("look up the user: %w", err)
	}
	if who.UID, err = parseID("user", uid); err != nil {
		return err
	}
	if who.GID, err = parseID("group", gid); err != nil {
		return err
	}
	for _, text := range groups {
		group, err := parseID("group", text)
		if err != nil {
			return err
		}
		if !slices.Contains(who.Groups, group) {
			who.Groups = append(who.Groups, group)
		}
	}
	return nil
}

func groupNumber(text string, known directory) (int, error) {
	if isNumber(text) {
		return parseID("group", text)
	}
	gid, err := known.group(text)
	var unknown user.UnknownGroupError
	switch {
	case errors.As(err, &unknown):
		return 0, errors.New("this machine has no such group")
	case err != nil:
		return 0, fmt.Errorf("look up the group: %w", err)
	}
	return parseID("group", gid)
}

func parseID(kind, text string) (int, error) {
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil || id < 1 || id > sandbox.MaxID {
		return 0, fmt.Errorf("the %s's number %s is out of range", kind, text)
	}
	return int(id), nil
}
