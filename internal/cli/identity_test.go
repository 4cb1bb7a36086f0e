//go:build linux

package cli

import (
	"os/user"
	"reflect"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/sandbox"
)

// village is a machine of a few users.
type village struct{}

func (village) user(name string) (uid, gid string, groups []string, err error) {
	switch name {
	case "builder":
		return "2001", "2002", []string{"2002", "27", "27", "4294967294"}, nil
	case "root":
		return "0", "0", []string{"0"}, nil
	case "wheel":
		return "2003", "2003", []string{"2003", "0"}, nil
	case "nobody32":
		return "4294967295", "2003", nil, nil
	}
	return "", "", nil, user.UnknownUserError(name)
}

func (village) group(name string) (string, error) {
	switch name {
	case "docker":
		return "998", nil
	case "root":
		return "0", nil
	}
	return "", user.UnknownGroupError(name)
}

func TestAUserIsNamedOrNumbered(t *testing.T) {
	ofBuilder := []int{2002, 27, 4294967294}
	for text, want := range map[string]sandbox.Identity{
		"1":               {UID: 1, GID: 1},
		"4294967294":      {UID: 4294967294, GID: 4294967294},
		"1000:4294967294": {UID: 1000, GID: 4294967294},
		"builder":         {UID: 2001, GID: 2002, Groups: ofBuilder},
		"builder:docker":  {UID: 2001, GID: 998, Groups: ofBuilder},
		"builder:5":       {UID: 2001, GID: 5, Groups: ofBuilder},
		"1000:docker":     {UID: 1000, GID: 998},
	} {
		if got, err := identity(text, village{}); err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
}

func TestAUserThatWouldBeRootIsRefused(t *testing.T) {
	for text, why := range map[string]string{
		"": "an empty name", ":": "an empty name", ":1000": "an empty name", "1000:": "an empty name", "builder:": "an empty name",
		"0": "user's number 0 is out of range", "1000:0": "group's number 0 is out of range", "builder:0": "group's number 0 is out of range",
		"4294967295": "4294967295 is out of range", "4294967296": "4294967296 is out of range", "1000:4294967295": "4294967295 is out of range",
		"1000:4294967296": "4294967296 is out of range", "18446744073709551617": "out of range", "root": "0 is out of range",
		"1000:root": "0 is out of range", "builder:root": "0 is out of range", "wheel": "group's number 0", "nobody32": "4294967295 is out of range",
		"-1": "no such user", "+1000": "no such user", "0x3e8": "no such user", "1000:-1": "no such group", "1e3": "no such user",
		"nobody-of-that-name": "no such user", "1000:nobody-of-that-name": "no such group", "1000:1000:1000": "no such group", " 1000": "no such user",
	} {
		got, err := identity(text, village{})
		if err == nil || !strings.Contains(err.Error(), why) || !strings.HasPrefix(err.Error(), "--run-as ") {
			t.Errorf("%q: %+v, %v; want an error of --run-as with %q", text, got, err, why)
		}
	}
}
