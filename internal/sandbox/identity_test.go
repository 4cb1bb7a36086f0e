package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The command says who it is, and the owner of what it makes says so outside.
func TestACommandIsWhoItIsToBeUpToTheLastNumber(t *testing.T) {
	for _, who := range []Identity{{UID: 1, GID: 1}, {UID: 1234, GID: MaxID, Groups: []int{1, 65534, MaxID}}, {UID: MaxID, GID: 7}} {
		t.Run(fmt.Sprint(who), func(t *testing.T) {
			config := Config{Command: []string{"sh", "-c", `id -u; id -g; : > "$FILE"`}, RunAs: &who}
			if os.Geteuid() != 0 {
				var refused *IdentityError
				if _, err := New(t.Context(), config); !errors.As(err, &refused) {
					t.Errorf("an ordinary user became another: %v", err)
				}
				return
			}
			folder, err := os.MkdirTemp("/tmp", "identity-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(folder) })
			if err := os.Chmod(folder, 0o777); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(folder, "file")
			config.Env, config.Dir = append(os.Environ(), "FILE="+file), folder
			output, exit := newPlace(t, config).run(t)
			if want := fmt.Sprintf("%d\n%d\n", who.UID, who.GID); exit != 0 || output != want {
				t.Fatalf("exit %d: %q, want %q", exit, output, want)
			}
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			if owner := info.Sys().(*syscall.Stat_t); int(owner.Uid) != who.UID || int(owner.Gid) != who.GID {
				t.Errorf("the file is of %d:%d", owner.Uid, owner.Gid)
			}
		})
	}
}

func TestNumbersThatTheKernelTakesForOthersAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs a command as another user")
	}
	for _, who := range []Identity{
		{UID: 0, GID: 1}, {UID: 1, GID: 0}, {UID: 1, GID: 1, Groups: []int{0}}, {UID: -1, GID: 1}, {UID: MaxID + 1, GID: 1},
		{UID: 1, GID: MaxID + 1}, {UID: 1 << 32, GID: 1}, {UID: 1, GID: 1<<32 + 1}, {UID: 1, GID: 1, Groups: []int{1 << 32}},
		{UID: 1, GID: 1, Groups: make([]int, MaxGroups+1)},
	} {
		s, err := New(t.Context(), Config{Command: []string{"true"}, RunAs: &who})
		if err == nil {
			s.Kill()
		}
		var refused *IdentityError
		if !errors.As(err, &refused) {
			t.Errorf("%d:%d, %d groups: %v", who.UID, who.GID, len(who.Groups), err)
		}
	}
}

// What the kernel says is compared in each part.
func TestAnIdentityThatWasNotTakenIsSeen(t *testing.T) {
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if err := verifyIdentity(&Identity{UID: uid, GID: gid, Groups: groups}); err != nil {
		t.Errorf("who we are: %v", err)
	}
	for what, who := range map[string]Identity{
		"users":  {UID: uid + 1, GID: gid, Groups: groups},
		"not as": {UID: uid, GID: gid + 1, Groups: groups},
		"groups": {UID: uid, GID: gid, Groups: append(groups, 54321)},
	} {
		if err := verifyIdentity(&who); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v: %v, want one about %q", who, err, what)
		}
	}
}
