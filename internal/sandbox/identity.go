package sandbox

import (
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bounds of an Identity.
const (
	// MaxID is the highest number of a user or a group: the one above means "leave it
	// as it is" to the kernel, which here would be root.
	MaxID = 1<<32 - 2
	// MaxGroups is how many groups Linux gives a process (NGROUPS_MAX).
	MaxGroups = 65536
)

// Identity is a user on the machine, not root.
type Identity struct {
	UID    int   `json:"uid"`
	GID    int   `json:"gid"`
	Groups []int `json:"groups,omitempty"`
}

// Check says what is wrong with the numbers.
func (i *Identity) Check() error {
	if len(i.Groups) > MaxGroups {
		return fmt.Errorf("%d groups, at most %d are taken", len(i.Groups), MaxGroups)
	}
	if i.UID < 1 || i.UID > MaxID {
		return fmt.Errorf("user %d: a user's number is from 1 to %d", i.UID, MaxID)
	}
	for _, gid := range append([]int{i.GID}, i.Groups...) {
		if gid < 1 || gid > MaxID {
			return fmt.Errorf("group %d: a group's number is from 1 to %d", gid, MaxID)
		}
	}
	return nil
}

// checkIdentity says why a command cannot run as who is wanted; the error is an
// *IdentityError.
func (c *Config) checkIdentity() error {
	switch {
	case c.RunAs == nil:
		return nil
	case os.Geteuid() != 0:
		return &IdentityError{"only root can run a command as another user"}
	case c.userNamespace():
		return &IdentityError{"without root's capabilities, or in a user namespace, a command can only run as the user who starts it"}
	}
	if err := c.RunAs.Check(); err != nil {
		return &IdentityError{err.Error()}
	}
	return nil
}

// IdentityError says why a command cannot run as who was asked for.
type IdentityError struct{ What string }

func (e *IdentityError) Error() string { return e.What }

// becomeOnThisThread changes the user of the calling thread alone, and looks whether
// it is; the standard library would change that of all, and init needs its capabilities.
func becomeOnThisThread(who *Identity) error {
	groups := make([]uint32, len(who.Groups)+1) // never empty, for its address
	for i, group := range who.Groups {
		groups[i] = uint32(group)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(who.Groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
	if errno != 0 {
		return fmt.Errorf("set groups: %w", errno)
	}
	gid, uid := uintptr(who.GID), uintptr(who.UID)
	if _, _, errno = unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return fmt.Errorf("become group %d: %w", who.GID, errno)
	}
	if _, _, errno = unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return fmt.Errorf("become user %d: %w", who.UID, errno)
	}
	return verifyIdentity(who)
}

// verifyIdentity asks the kernel who the calling thread is, and says where that is
// somebody else in any of the ways in which it counts.
func verifyIdentity(who *Identity) error {
	ids := func(call uintptr) (list [4]int) {
		var real, effective, saved uint32
		unix.RawSyscall(call, uintptr(unsafe.Pointer(&real)), uintptr(unsafe.Pointer(&effective)), uintptr(unsafe.Pointer(&saved)))
		return [4]int{int(real), int(effective), int(saved)}
	}
	ofFiles := func(call uintptr) int {
		id, _, _ := unix.RawSyscall(call, ^uintptr(0), 0, 0) // changes nothing
		return int(uint32(id))
	}
	users, groups := ids(unix.SYS_GETRESUID), ids(unix.SYS_GETRESGID)
	users[3], groups[3] = ofFiles(unix.SYS_SETFSUID), ofFiles(unix.SYS_SETFSGID)
	for i := range users {
		if users[i] != who.UID || groups[i] != who.GID {
			return fmt.Errorf("the command would run as users %v, groups %v (real, effective, saved, of files) and not as %d:%d", users, groups, who.UID, who.GID)
		}
	}
	return verifyGroups(who.Groups)
}

func verifyGroups(wanted []int) error {
	held := make([]uint32, MaxGroups)
	n, _, errno := unix.RawSyscall(unix.SYS_GETGROUPS, uintptr(len(held)), uintptr(unsafe.Pointer(&held[0])), 0)
	if errno != 0 {
		return fmt.Errorf("read groups: %w", errno)
	}
	have := make([]int, n)
	for i := range have {
		have[i] = int(held[i])
	}
	want := slices.Clone(wanted)
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(want, have) {
		return fmt.Errorf("the command would run with the groups %v and not with %v", have, want)
	}
	return nil
}
