package sandbox

import "golang.org/x/sys/unix"

const (
	nativeArchitecture = unix.AUDIT_ARCH_AARCH64
	foreignNumbers     = 0 // there is no second set
)
