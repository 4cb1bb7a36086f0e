package sandbox

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// families are the socket families that a command may use. The others are not
// tied to a network namespace (AF_VSOCK), or nothing answers in ours.
var families = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK}

// missing are calls that the command's kernel does not have, as far as it sees:
// programs are ready for that. No program needs them to do its work, and each
// reaches something that no namespace holds.
var missing = []uint32{
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, // its operations pass no filter
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, // the session's keyring is the user's own outside
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, // the kernel's own inside
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
	unix.SYS_OPEN_BY_HANDLE_AT, // a file by its number, under a mask too
}

// Offsets in struct seccomp_data; both architectures are little-endian, so the
// low half of an argument comes first.
const (
	offsetNumber       = 0
	offsetArchitecture = 4
	offsetArguments    = 16
)

func lowHalf(argument uint32) uint32 { return offsetArguments + 8*argument }

// filter is the program that each system call of the command passes. The kernel
// compares only the low half of a socket's family and of an ioctl's request, so
// the program does too: a set bit above would else be a way around it.
func filter() []unix.SockFilter {
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
	for _, number := range []uint32{unix.SYS_SOCKET, unix.SYS_SOCKETPAIR} {
		p.whenThen(number, func(p *program) {
			p.load(lowHalf(0))
			for _, family := range families {
				p.when(family, unix.SECCOMP_RET_ALLOW)
			}
			p.end(refuseWith(unix.EAFNOSUPPORT))
		})
	}
	p.whenThen(unix.SYS_IOCTL, func(p *program) {
		p.load(lowHalf(1))
		p.when(unix.TIOCSTI, refuseWith(unix.EPERM))   // types into the terminal that we share
		p.when(unix.TIOCLINUX, refuseWith(unix.EPERM)) // pastes into it
		p.end(unix.SECCOMP_RET_ALLOW)
	})
	p.end(unix.SECCOMP_RET_ALLOW)
	return p.instructions
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
func installFilter(instructions []unix.SockFilter) error {
	whole := unix.SockFprog{Len: uint16(len(instructions)), Filter: &instructions[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&whole)))
	if errno != 0 {
		return fmt.Errorf("install the seccomp filter: %w", errno)
	}
	return nil
}
