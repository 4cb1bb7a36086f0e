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

// fileCapabilities are root's rights over files and users, and over the processes that
// it started as other users. None of them changes a mount, a namespace or the network.
// What can hold more is not among them: a device (MKNOD), a file with capabilities
// (SETFCAP), another root folder (SYS_CHROOT).
const fileCapabilities uint64 = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
	1<<unix.CAP_KILL | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID

// dropCapabilities takes every capability but those of kept, a set of bits, from the
// calling thread and from what it executes, for ever. RunAs, who keeps none, is applied
// in between, for it takes some.
func dropCapabilities(kept uint64, runAs *Identity) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var held [2]unix.CapUserData
	if err := unix.Capget(&header, &held[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	if kept &= uint64(held[0].Permitted) | uint64(held[1].Permitted)<<32; runAs != nil {
		kept = 0
	}
	// Those that the kernel does not know are EINVAL: the last is then reached.
	for capability := uintptr(0); capability < 64; capability++ {
		if kept&(1<<capability) != 0 {
			continue
		}
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
	var left [2]unix.CapUserData
	for i := range left {
		half := uint32(kept >> (32 * i))
		left[i].Effective, left[i].Permitted = half, half
	}
	if err := unix.Capset(&header, &left[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
