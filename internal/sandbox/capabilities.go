package sandbox

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// hasCapabilities says whether this process has all of them in effect.
func hasCapabilities(wanted []uintptr) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var held [2]unix.CapUserData
	if err := unix.Capget(&header, &held[0]); err != nil {
		return false
	}
	for _, capability := range wanted {
		if held[capability/32].Effective&(1<<(capability%32)) == 0 {
			return false
		}
	}
	return true
}

// dropAllCapabilities takes every capability from the calling thread and from
// what it executes, for ever. RunAs is applied in between, for it takes some.
func dropAllCapabilities(runAs *Identity) error {
	// Those that the kernel does not know are EINVAL: the last is then reached.
	for capability := uintptr(0); capability < 64; capability++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err == unix.EINVAL {
			break
		} else if err != nil {
			return fmt.Errorf("empty the bounding set: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	if runAs != nil {
		if err := becomeOnThisThread(runAs); err != nil {
			return err
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
