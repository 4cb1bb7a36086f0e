package sandbox

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// families are the socket families that a command may use, beside IPv4 and IPv6. The
// others are not tied to a network namespace (AF_VSOCK), or nothing answers in ours.
var families = []uint32{unix.AF_UNIX, unix.AF_NETLINK}

// missing are calls that the command's kernel does not have, as far as it sees:
// programs are ready for that. No program needs them to do its work, and each
// reaches something that no namespace holds.
var missing = []uint32{
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, // its operations pass no filter
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, // the session's keyring is the user's own outside
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, // the kernel's own inside
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
	unix.SYS_OPEN_BY_HANDLE_AT, // a file by its number, under a mask too
	unix.SYS_CLONE3,            // its flags, of namespaces without our mounts too, cannot be seen
	openTreeAttr,               // has flags that open_tree is refused, and that are not looked at
}

// openTreeAttr is open_tree_attr of Linux 6.15, which has one number everywhere.
const openTreeAttr = 467

// Offsets in struct seccomp_data; both architectures are little-endian, so the
// low half of an argument comes first.
const (
	offsetNumber       = 0
	offsetArchitecture = 4
	offsetArguments    = 16
)

// ofType are the bits of a socket's type that are not flags.
const ofType = 0xf

func lowHalf(argument uint32) uint32 { return offsetArguments + 8*argument }

// filter is the program that each system call of the command passes. The kernel
// compares only the low half of a socket's family and of an ioctl's request, so
// the program does too: a set bit above would else be a way around it.
//
// Supervised, it also notifies of each call by which a socket may come to a file:
// see package supervise. Only a datagram socket reaches one by sending, and the name
// in a message cannot be seen here; so there are none of those among unix sockets.
func filter(supervised, pivotRoot bool) []unix.SockFilter {
	var p program
	p.load(offsetArchitecture)
	p.unless(nativeArchitecture, refuseWith(unix.ENOSYS)) // 32-bit calls have numbers of their own
	p.load(offsetNumber)
	if foreignNumbers != 0 {
		p.atLeast(foreignNumbers, refuseWith(unix.ENOSYS)) // x32
	}
	for _, number := range missing {
		p.when(number, refuseWith(unix.ENOSYS))
	}
	if supervised {
		p.when(unix.SYS_CONNECT, unix.SECCOMP_RET_USER_NOTIF)
		p.when(unix.SYS_LISTEN, unix.SECCOMP_RET_USER_NOTIF)
		p.whenThen(unix.SYS_SECCOMP, func(p *program) {
			p.load(lowHalf(1))
			p.whenBit(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, unix.SECCOMP_RET_USER_NOTIF)
			p.end(unix.SECCOMP_RET_ALLOW)
		})
	}
	for number, datagrams := range map[uint32]uint32{
		unix.SYS_SOCKET:     refuseWith(unix.EAFNOSUPPORT),
		unix.SYS_SOCKETPAIR: unix.SECCOMP_RET_USER_NOTIF, // the supervisor gives another kind
	} {
		p.whenThen(number, func(p *program) {
			p.load(lowHalf(0))
			if supervised {
				p.whenThen(unix.AF_UNIX, func(p *program) {
					p.load(lowHalf(1))
					p.and(ofType)
					p.when(unix.SOCK_DGRAM, datagrams)
					p.when(unix.SOCK_RAW, datagrams) // the same, there
					p.end(unix.SECCOMP_RET_ALLOW)
				})
			}
			p.whenThen(unix.AF_INET, internetSocket)
			p.whenThen(unix.AF_INET6, internetSocket)
			for _, family := range families {
				p.when(family, unix.SECCOMP_RET_ALLOW)
			}
			p.end(refuseWith(unix.EAFNOSUPPORT))
		})
	}
	// The command's group may be that of our parent and its job, across PID namespaces.
	// Groups that have a number inside are of processes inside.
	p.whenThen(unix.SYS_SETPRIORITY, onOwnGroup(unix.PRIO_PGRP))
	p.whenThen(unix.SYS_IOPRIO_SET, onOwnGroup(ioprioGroup))
	p.whenThen(unix.SYS_PRCTL, func(p *program) {
		p.load(lowHalf(0))
		p.when(unix.PR_SCHED_CORE, refuseWith(unix.EINVAL)) // puts the whole group on a core, too
		p.end(unix.SECCOMP_RET_ALLOW)
	})
	refuseOtherMounts(&p, pivotRoot)
	p.whenThen(unix.SYS_IOCTL, func(p *program) {
		p.load(lowHalf(1))
		p.when(unix.TIOCSTI, refuseWith(unix.EPERM))   // types into the terminal that we share
		p.when(unix.TIOCLINUX, refuseWith(unix.EPERM)) // pastes into it
		p.end(unix.SECCOMP_RET_ALLOW)
	})
	p.end(unix.SECCOMP_RET_ALLOW)
	return p.instructions
}

// ioprioGroup is IOPRIO_WHO_PGRP.
const ioprioGroup = 2

// onOwnGroup refuses a call whose first argument says that the second is a process
// group, and whose second is 0: the caller's own.
func onOwnGroup(group uint32) func(*program) {
	return func(p *program) {
		p.load(lowHalf(0))
		p.whenThen(group, func(p *program) {
			p.load(lowHalf(1))
			p.when(0, refuseWith(unix.EPERM))
			p.end(unix.SECCOMP_RET_ALLOW)
		})
		p.end(unix.SECCOMP_RET_ALLOW)
	}
}

func refuseWith(errno unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(errno) }

// program is a filter as it is written. Jumps are forward and short.
type program struct{ instructions []unix.SockFilter }

func (p *program) add(code uint16, k uint32, yes, no uint8) {
	p.instructions = append(p.instructions, unix.SockFilter{Code: code, Jt: yes, Jf: no, K: k})
}

func (p *program) load(offset uint32) { p.add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset, 0, 0) }
func (p *program) end(outcome uint32) { p.add(unix.BPF_RET|unix.BPF_K, outcome, 0, 0) }

func (p *program) when(value, outcome uint32) {
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, value, 0, 1)
	p.end(outcome)
}

func (p *program) whenBit(bits, outcome uint32) {
	p.add(unix.BPF_JMP|unix.BPF_JSET|unix.BPF_K, bits, 0, 1)
	p.end(outcome)
}

func (p *program) and(mask uint32) { p.add(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, mask, 0, 0) }

func (p *program) unless(value, outcome uint32) {
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, value, 1, 0)
	p.end(outcome)
}

func (p *program) atLeast(value, outcome uint32) {
	p.add(unix.BPF_JMP|unix.BPF_JGE|unix.BPF_K, value, 0, 1)
	p.end(outcome)
}

// whenThen runs a block, which ends in every case, for one value.
func (p *program) whenThen(value uint32, block func(*program)) {
	var inner program
	block(&inner)
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, value, 0, uint8(len(inner.instructions)))
	p.instructions = append(p.instructions, inner.instructions...)
}

// installFilter puts the program on the calling thread, which has no_new_privs.
func installFilter(pivotRoot bool) error {
	if _, err := seccomp(filter(false, pivotRoot), 0); err != nil {
		return fmt.Errorf("install the seccomp filter: %w", err)
	}
	return nil
}

// installSupervised puts the supervised program on the calling thread and returns
// its listener. Once a call was received only a fatal signal ends its wait (Linux
// 5.19), so none is made twice.
func installSupervised(pivotRoot bool) (listener int, err error) {
	return seccomp(filter(true, pivotRoot), unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
}

func seccomp(instructions []unix.SockFilter, flags uintptr) (int, error) {
	whole := unix.SockFprog{Len: uint16(len(instructions)), Filter: &instructions[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&whole)))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
