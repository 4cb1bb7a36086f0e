package sandbox

import "golang.org/x/sys/unix"

const (
	nativeArchitecture = unix.AUDIT_ARCH_X86_64
	// foreignNumbers is where the calls of x32 begin, which have the same
	// architecture.
	foreignNumbers = 0x40000000
)
