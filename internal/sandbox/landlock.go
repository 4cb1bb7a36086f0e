package sandbox

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A process group reaches across PID namespaces: kill(0, …) of the command would
// hit our parent and everything else of its job. Landlock's scopes (ABI 6, Linux
// 6.12) end a signal at the sandbox, whatever its way; a domain of its own also
// keeps the command from tracing anything outside, where /proc shows it.
const scopesABI = 6

// rulesetAttributes is struct landlock_ruleset_attr as of scopesABI.
type rulesetAttributes struct{ filesystem, network, scoped uint64 }

func hasScopes() bool { return landlockABI() >= scopesABI }

// enterScopes puts the calling thread, which has no_new_privs, and what it
// executes into a domain of its own, where the kernel has them. No file is in
// its rules, for those would forbid the command every mount, and so a sandbox
// inside this one.
func enterScopes() error {
	if !hasScopes() {
		return nil // Enforcement says so
	}
	attributes := rulesetAttributes{scoped: unix.LANDLOCK_SCOPE_SIGNAL | unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET}
	ruleset, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attributes)), unsafe.Sizeof(attributes), 0)
	if errno != 0 {
		return fmt.Errorf("make Landlock scopes: %w", errno)
	}
	defer unix.Close(int(ruleset))
	_, _, errno = unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0)
	switch {
	case errors.Is(errno, unix.E2BIG):
		return errors.New("enter Landlock scopes: too many sandboxes inside one another")
	case errno != 0:
		return fmt.Errorf("enter Landlock scopes: %w", errno)
	}
	return nil
}
